"""The revocation endpoint: whoever holds a token may end it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlencode

import pytest

from agentauth_middleware._core.operations import CutOff
from agentauth_middleware._core.revocations.cut_offs import Revocation
from agentauth_middleware.authorization_server.minting import Signer, new_key
from agentauth_middleware.errors import UnavailableError
from agentauth_middleware.stores import MemoryStore
from tests.authorization_server.embedded import (
    ISSUER,
    Embedded,
    claims_of,
    embed,
    encoded,
    is_not_stored,
)
from tests.support.log import names_of

PATH = "/oauth2/revoke"


@pytest.mark.parametrize("hint", [None, "access_token", "refresh_token", "nonsense"])
def test_revoked_token_is_refused_at_once(embedded: Embedded, hint: str | None) -> None:
    """The hint never changes the outcome."""
    token = embedded.access_token()
    form = {"token": token} | ({"token_type_hint": hint} if hint else {})
    answer = embedded.post_form(PATH, form)

    assert answer.status_code == 200
    assert answer.content == b""
    assert is_not_stored(answer)
    assert embedded.call_api(token).status_code == 401


def test_revocation_of_a_token_ends_no_other(embedded: Embedded) -> None:
    assertion = embedded.identity_assertion()
    token, other = (embedded.exchange(assertion).json() for _ in range(2))
    embedded.post_form(PATH, {"token": token["access_token"]})
    new = embedded.exchange(assertion)

    assert embedded.call_api(other["access_token"]).status_code == 200
    assert new.status_code == 200, "the assertion survives"
    assert embedded.call_api(new.json()["access_token"]).status_code == 200


def test_revoking_the_assertion_changes_nothing(embedded: Embedded) -> None:
    assertion = embedded.identity_assertion()
    answer = embedded.post_form(PATH, {"token": assertion})

    assert answer.status_code == 200
    assert embedded.exchange(assertion).status_code == 200
    assert names_of(embedded.store.read_log(0)) == ()


def test_revoking_twice_is_fine(embedded: Embedded) -> None:
    token = embedded.access_token()
    answers = [embedded.post_form(PATH, {"token": token}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert len(names_of(embedded.store.read_log(0))) == 1, "the log keeps all it gets"


def test_expired_token_leaves_nothing_in_the_log(tmp_path: Path) -> None:
    """As long as a middleware might still take it, by its leeway, it is revoked."""
    with embed(tmp_path, access_token_lifetime=10) as embedded:
        service, now = embedded.server.service, time.time()
        tokens = [embedded.access_token() for _ in range(2)]
        service.clock = lambda: now + 10 + 65
        expired = embedded.post_form(PATH, {"token": tokens[0]})
        after_expired = names_of(embedded.store.read_log(0))
        service.clock = lambda: now + 10 + 55
        embedded.post_form(PATH, {"token": tokens[1]})
        after_expiring = names_of(embedded.store.read_log(0))

    assert expired.status_code == 200
    assert len(after_expired) == 0
    assert len(after_expiring) == 1


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("unknown", id="no JWT"),
        pytest.param("é\x00", id="no ASCII"),
        pytest.param("..", id="empty segments"),
        pytest.param(f"{encoded({'alg': 'none', 'typ': 'at+jwt'})}.e30.", id="none"),
        pytest.param("a." * 10_000, id="long"),
    ],
)
def test_unknown_token_is_fine(embedded: Embedded, token: str) -> None:
    answer = embedded.post_form(PATH, {"token": token})

    assert answer.status_code == 200
    assert is_not_stored(answer)


def test_forged_token_ends_no_other(embedded: Embedded) -> None:
    """Or anybody who knows an identifier could end the token that has it."""
    token = embedded.access_token()
    forged = Signer([new_key()]).sign(claims_of(token), "at+jwt")
    signed, foreign = forged.rsplit(".", 1)
    embedded.post_form(PATH, {"token": forged})
    embedded.post_form(PATH, {"token": f"{token.rsplit('.', 1)[0]}.{foreign}"})

    assert signed
    assert embedded.call_api(token).status_code == 200


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param("", "application/x-www-form-urlencoded", id="empty"),
        pytest.param("token=", "application/x-www-form-urlencoded", id="empty token"),
        pytest.param(
            "token_type_hint=access_token",
            "application/x-www-form-urlencoded",
            id="hint alone",
        ),
        pytest.param(
            urlencode([("token", "a"), ("token", "b")]),
            "application/x-www-form-urlencoded",
            id="token twice",
        ),
        pytest.param('{"token":"a"}', "application/json", id="JSON"),
    ],
)
def test_malformed_revocation_is_refused(
    embedded: Embedded, body: str, content_type: str
) -> None:
    answer = embedded.client.post(
        PATH, content=body, headers={"content-type": content_type}
    )

    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"
    assert is_not_stored(answer)


def test_revocation_is_posted(embedded: Embedded) -> None:
    """No GET, and so no JSONP (RFC 7009 §2.3)."""
    token = embedded.access_token()
    answer = embedded.client.get(PATH, params={"token": token, "callback": "f"})

    assert answer.status_code == 405
    assert embedded.call_api(token).status_code == 200


class FullStore(MemoryStore):
    """A store that takes nothing any more."""

    def append_log(self, entries: Iterable[CutOff]) -> None:
        raise UnavailableError("store_full", retry_after=9)


def test_revocation_that_is_not_durable_is_not_confirmed(tmp_path: Path) -> None:
    with embed(tmp_path, store=FullStore()) as embedded:
        answer = embedded.post_form(PATH, {"token": embedded.access_token()})
        unknown = embedded.post_form(PATH, {"token": "unknown"})

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "9"
    assert unknown.status_code == 200


def test_token_names_what_is_revoked(embedded: Embedded) -> None:
    """The record in the log is about this token alone."""
    token = embedded.access_token()
    embedded.post_form(PATH, {"token": token})
    about_it = Revocation(ISSUER, 0, token_id=claims_of(token)["jti"])

    assert names_of(embedded.store.read_log(0)) == (about_it.key,)


def test_agent_that_revokes_its_own_tokens_fills_no_log(embedded: Embedded) -> None:
    """Beyond some of them, one cut-off stands for all that it has by then."""
    assertion = embedded.identity_assertion()
    tokens: list[str] = []
    for _ in range(40):
        tokens.append(embedded.exchange(assertion).json()["access_token"])
        embedded.post_form(PATH, {"token": tokens[-1]})

    assert len(embedded.store.read_log(0).entries) <= 21
    assert [embedded.call_api(token).status_code for token in tokens] == [401] * 40
