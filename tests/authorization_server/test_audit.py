"""The log records: who may explain later what became of each request."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentauth_middleware._middleware.audit import hashed
from agentauth_middleware.authorization_server.state import State
from agentauth_middleware.errors import UnavailableError
from agentauth_middleware.stores import MemoryStore
from tests.authorization_server.embedded import (
    ANA,
    ISSUER,
    PROVIDER,
    Embedded,
    claims_of,
    embed,
)

REFUSED, GRANTED = "refused", "granted"


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Callable[[], list[dict[str, Any]]]:
    """What the records say so far, without their details."""
    caplog.set_level(logging.INFO, "agentauth_middleware.audit")

    def read() -> list[dict[str, Any]]:
        found = [getattr(record, "agentauth", None) for record in caplog.records]
        return [
            {name: value for name, value in members.items() if name != "detail"}
            for members in found
            # The middleware of the API writes its own.
            if members is not None and "action" in members
        ]

    return read


WHO = {"provider": PROVIDER, "subject": hashed(PROVIDER, ANA)}


def test_each_step_of_an_agent_is_recorded(
    embedded: Embedded, records: Callable[[], list[dict[str, Any]]]
) -> None:
    assertion = embedded.identity_assertion()
    token = embedded.exchange(assertion, scope="notes.read").json()["access_token"]
    for _ in range(2):
        embedded.post_form("/oauth2/revoke", {"token": token})
    event = embedded.provider.revoked_event(ISSUER)
    for _ in range(2):
        embedded.push(event)
    its = {"registration_id": claims_of(assertion)["sub"]}

    assert records() == [
        entry("registration", GRANTED, "registered") | WHO | its,
        entry("token", GRANTED, "token_issued")
        | WHO
        | its
        | {"scopes": ["notes.read"]},
        entry("revocation", GRANTED, "token_revoked") | its,
        entry("revocation", GRANTED, "revoked_before") | its,
        entry("event", GRANTED, "disconnected") | WHO,
        entry("event", GRANTED, "repeated") | WHO,
    ]


def entry(action: str, outcome: str, reason: str) -> dict[str, Any]:
    return {"action": action, "outcome": outcome, "reason": reason}


def test_each_refusal_is_recorded_with_its_code(
    embedded: Embedded, records: Callable[[], list[dict[str, Any]]]
) -> None:
    assertion = embedded.identity_assertion()
    embedded.push()
    embedded.register()
    embedded.register("x")
    embedded.exchange(assertion)
    embedded.push("x")
    embedded.post_form("/oauth2/revoke", {"token": "x"})
    its = {"registration_id": claims_of(assertion)["sub"]}

    assert records()[2:] == [
        entry("registration", REFUSED, "interaction_required") | WHO,
        entry("registration", REFUSED, "invalid_request"),
        entry("token", REFUSED, "invalid_grant") | its,
        entry("event", REFUSED, "invalid_request"),
        entry("revocation", GRANTED, "unknown_token"),
    ]


def test_records_hold_no_secret_and_no_plain_subject(
    embedded: Embedded, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    id_jag = embedded.provider.id_jag(ISSUER)
    assertion = embedded.register(id_jag).json()["identity_assertion"]
    token = embedded.exchange(assertion).json()["access_token"]
    embedded.exchange(id_jag)
    embedded.register(token)
    embedded.post_form("/oauth2/revoke", {"token": token})
    event = embedded.provider.revoked_event(ISSUER)
    embedded.push(event)
    written = " ".join(
        f"{record.getMessage()} {vars(record)}"
        for record in caplog.records
        if record.name == "agentauth_middleware.audit"
    )

    assert written
    secrets = [ANA, "user-ana", "ana@example.com"]
    secrets += [jwt.split(".")[1] for jwt in (id_jag, assertion, token, event)]
    assert [secret for secret in secrets if secret in written] == []


class BrokenStore(MemoryStore):
    """A store that cannot be read."""

    def read_log(self, after: int) -> Any:
        raise UnavailableError("store_unreachable", "the disk is gone")


def test_each_503_is_recorded_with_its_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with embed(tmp_path, store=BrokenStore()) as embedded:
        assertion = embedded.identity_assertion()
        embedded.exchange(assertion)
        (tmp_path / "server.db").write_bytes(b"no database")
        embedded.exchange(assertion)
    read, lost = (
        vars(record)["agentauth"]
        for record in caplog.records
        if record.levelno == logging.WARNING and hasattr(record, "agentauth")
    )

    assert (read["outcome"], read["reason"]) == ("unavailable", "store_unreachable")
    assert read["detail"] == "the disk is gone"
    assert lost["reason"] == "state_unreachable"
    assert str(tmp_path / "server.db") in lost["detail"]


def test_failure_of_the_database_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "server.db").write_bytes(b"no database")

    with pytest.raises(UnavailableError, match=r"server\.db"):
        State(tmp_path / "server.db").add_user("user-ana")
