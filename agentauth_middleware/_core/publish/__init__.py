"""What the middleware sends: challenges, metadata, ``auth.md``."""
