"""The command ``agentauth``."""

from __future__ import annotations

from agentauth_middleware.cli._main import main

__all__ = ["main"]
