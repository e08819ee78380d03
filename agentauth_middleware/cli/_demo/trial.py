"""The time after the walk, in which a person tries the servers with curl."""

from __future__ import annotations

import json
import time

import httpx

from agentauth_middleware.authorization_server.state import State
from agentauth_middleware.cli._demo.narrator import Narrator
from agentauth_middleware.cli._demo.stage import Stage
from agentauth_middleware.cli._demo.users import ALICE
from agentauth_middleware.cli._demo.walk import (
    PROMISED,
    READ,
    WRITE,
    Hops,
    Place,
    Result,
    Visit,
    Walk,
)

_TO_TRY = """export API={api}
export TOKEN={token}

curl -i $API/notes
curl -i $API/auth.md
curl -i -H "Authorization: Bearer $TOKEN" $API/notes
curl -i -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\
  -d '{{"text": "Buy milk"}}' $API/notes
curl -i -H "Content-Type: application/json" -d '{disconnection}' {provider}/disconnect
sleep {promised:.0f}
curl -i -H "Authorization: Bearer $TOKEN" $API/notes"""


def invite(narrator: Narrator, stage: Stage) -> None:
    """Give a person a token and the lines that use it, until Ctrl-C.

    Raises:
        HopDiffersError: a hop on the way to the token did not go as it should.
    """
    visit = stage.visits()[0]
    # Till there is a page on which Alice lets her agent in again.
    State(stage.database).relink(stage.provider, ALICE.account, ALICE.id)
    with httpx.Client(trust_env=False, timeout=10) as http:
        place, token = _result(Walk(visit, http).hops_to_token(READ, WRITE))
    narrator.say(
        f"The servers stay up. Alice has let her agent in again, and this is a token "
        f"with which it may read and write at the {visit.api_name}. Paste the first "
        "two lines into another terminal, and then any of the others; the last three "
        "disconnect the agent, wait the promised second and show that it is out."
    )
    narrator.show(_lines_to_try(visit, place, token))
    narrator.say("Ctrl-C stops the servers.")
    _wait_for_interrupt()
    narrator.say("Stopping the servers.")


def _lines_to_try(visit: Visit, place: Place, token: str) -> str:
    return _TO_TRY.format(
        api=visit.api,
        token=token,
        disconnection=json.dumps(visit.disconnection(place)),
        provider=visit.provider,
        promised=PROMISED,
    )


def _wait_for_interrupt() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return


def _result(hops: Hops[Result]) -> Result:
    """Make all *hops* without telling of them."""
    while True:
        try:
            next(hops)
        except StopIteration as finished:
            result: Result = finished.value
            return result
