"""Tokens: finding, reading, verifying and remembering them."""
