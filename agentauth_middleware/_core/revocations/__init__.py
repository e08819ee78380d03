"""Revocations: the log, and the tokens that it refuses."""
