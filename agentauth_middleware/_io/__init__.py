"""What waits: drivers, performers, HTTP clients and single flight."""
