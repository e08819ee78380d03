"""A verifier in a process that forks, as workers of a queue do.

Run with two issuers' URLs and three tokens: the parent verifies the first, then the
child the second and the parent the third. Each says in a line for whom it is.
"""

from __future__ import annotations

import os
import sys

from agentauth_middleware import Issuer, ResourceServer
from agentauth_middleware.verifier import Verifier


def main(known: str, new: str, *tokens: str) -> None:
    server = ResourceServer(
        "https://api.example.com",
        issuers=[Issuer(known), Issuer(new)],
        insecure_loopback=True,
    )
    verifier = Verifier(server)
    tell("parent", verifier, tokens[0])
    child = os.fork()
    if child == 0:
        tell("child", verifier, tokens[1])
        # Through the interpreter's own exit, where what was inherited would show.
        raise SystemExit
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    tell("parent", verifier, tokens[2])
    raise SystemExit(status)


def tell(who: str, verifier: Verifier, token: str) -> None:
    sys.stdout.write(f"{who} {verifier.verify_blocking(token).subject}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
