"""The words below everything else: JSON members, scopes, URLs, HTTP values."""
