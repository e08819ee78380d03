"""The demo from the first server's start to the last one's end."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import httpx

from agentauth_middleware.cli._demo import trial
from agentauth_middleware.cli._demo.interrupts import Interrupts
from agentauth_middleware.cli._demo.narrator import Narrator
from agentauth_middleware.cli._demo.servers import (
    RunningServer,
    ServerFailedError,
    running,
    wait_until_all_answer,
)
from agentauth_middleware.cli._demo.stage import AUTHORIZATION_SERVER, Stage
from agentauth_middleware.cli._demo.status import Status
from agentauth_middleware.cli._demo.walk import HopDiffersError, Visit, Walk


def play(
    narrator: Narrator,
    examples: Path,
    interrupts: Interrupts,
    *,
    keep: bool = False,
    authorization_server: str = AUTHORIZATION_SERVER,
) -> Status:
    """Start everything, walk up to each API, stop everything.

    *authorization_server* is the factory that uvicorn serves as such. Interrupts land
    only where all that has to be cleaned up is known.
    """
    with tempfile.TemporaryDirectory(prefix="agentauth-demo-") as folder:
        stage = Stage.set_up(Path(folder), examples)
        with (
            running(stage.servers(authorization_server), stage.folder) as servers,
            interrupts.allowed(),
        ):
            return _perform(narrator, stage, servers, keep=keep)


def _perform(
    narrator: Narrator, stage: Stage, servers: Sequence[RunningServer], *, keep: bool
) -> Status:
    try:
        wait_until_all_answer(servers)
        narrator.show_servers(servers)
        hops = sum(_walk_up(narrator, visit) for visit in stage.visits())
        narrator.succeed(f"All {hops} hops went as they should.")
        if keep:
            trial.invite(narrator, stage)
    except ServerFailedError as failure:
        narrator.fail(str(failure))
        return Status.DIFFERS
    except HopDiffersError as failure:
        _tell_of_ended(narrator, servers)
        narrator.fail(str(failure))
        return Status.DIFFERS
    return Status.AS_IT_SHOULD


def _walk_up(narrator: Narrator, visit: Visit) -> int:
    """Tell a whole walk; returns how many hops it took."""
    narrator.begin(f"{visit.name}'s agent at the {visit.api_name}, {visit.api}")
    with httpx.Client(trust_env=False, timeout=10) as http:
        walk = Walk(visit, http)
        for hop in walk.hops():
            narrator.tell(hop)
    return walk.number


def _tell_of_ended(narrator: Narrator, servers: Sequence[RunningServer]) -> None:
    for server in servers:
        if server.has_ended:
            narrator.fail(
                f"The {server.name} is not running any more. The last lines it "
                f"printed:\n{server.last_lines}"
            )
