"""Settings: frozen, checked when built, without state."""
