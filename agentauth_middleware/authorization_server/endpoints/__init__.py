"""The endpoints of the embedded authorization server, one module each."""
