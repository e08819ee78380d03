"""``python -m agentauth_middleware`` is the command ``agentauth``."""

from __future__ import annotations

import sys

from agentauth_middleware.cli import main

if __name__ == "__main__":
    sys.exit(main())
