"""An authorization server for trying the examples: it prints tokens, for nothing.

Paste what it prints into the terminals of the application and of curl. It has to keep
running, since the application fetches its keys.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress

from agentauth_middleware.testing import FakeIssuer

RESOURCE = os.environ.get("AGENTAUTH_RESOURCE", "http://127.0.0.1:8000")


def main() -> None:
    with FakeIssuer.serve() as issuer, suppress(KeyboardInterrupt):
        say("AGENTAUTH_ISSUER", issuer.issuer)
        for user in ("alice", "bob"):
            token = issuer.token(
                RESOURCE,
                subject=user,
                agent="assistant",
                scopes=["notes.read", "notes.write"],
                expires_in=3600,
            )
            say(user.upper(), token)
        threading.Event().wait()


def say(name: str, value: str) -> None:
    print(f"export {name}={value}", flush=True)  # noqa: T201 - this is its output


if __name__ == "__main__":
    main()
