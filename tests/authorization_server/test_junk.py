"""What strangers can bring about at the embedded server: never a 5xx, nor a verdict."""

from __future__ import annotations

import logging

import pytest

from agentauth_middleware.authorization_server.service import Service
from agentauth_middleware.errors import TooManyRequestsError
from tests.authorization_server.embedded import ISSUER, Embedded, is_not_stored


@pytest.mark.parametrize("kind", ["registration", "event"])
def test_junk_holds_others_up_and_looks_like_no_failure(
    embedded: Embedded,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Keys are not asked for, for a while; whatever is presented may be good later."""
    assertion = embedded.provider.id_jag(ISSUER)
    event = embedded.provider.revoked_event(ISSUER)
    caplog.set_level(logging.INFO, "agentauth_middleware.audit")

    async def check_signature(*_: object) -> None:
        raise TooManyRequestsError("keys_cooling_down", retry_after=7)

    def present() -> tuple[int, str, bool]:
        answer = (
            embedded.register(assertion)
            if kind == "registration"
            else embedded.push(event)
        )
        wait = answer.headers.get("retry-after", "")
        return answer.status_code, wait, is_not_stored(answer)

    with monkeypatch.context() as patched:
        patched.setattr(Service, "check_signature", check_signature)
        held_up = present()
    record = caplog.records[-1]

    assert held_up == (429, "7", True)
    assert record.levelno == logging.INFO
    assert vars(record)["agentauth"]["reason"] == "keys_cooling_down"
    assert present()[0] in (200, 202)
