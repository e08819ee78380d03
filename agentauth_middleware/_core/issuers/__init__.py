"""Issuers: which are trusted, their keys, and what they say about tokens."""
