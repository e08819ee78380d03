"""What the ASGI and the WSGI middleware share."""
