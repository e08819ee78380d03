"""What a request needs: its route, and what its caller may do."""
