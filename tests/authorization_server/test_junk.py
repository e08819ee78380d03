"""What strangers can bring about at the embedded server: never a 5xx, nor a verdict."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from agentauth_middleware.testing import FakeProvider, ServedIssuer
from tests.authorization_server.embedded import ISSUER, is_not_stored
from tests.authorization_server.test_id_jag import as_json, embed_served


@pytest.mark.parametrize("kind", ["registration", "event"])
def test_junk_holds_others_up_and_looks_like_no_failure(
    tmp_path: Path,
    kind: str,
    served: ServedIssuer,
    served_provider: FakeProvider,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A stranger names a key, and then the provider rotates: what it signs with the new
    one may be good, and is not called bad before its keys may be fetched again."""
    caplog.set_level(logging.INFO, "agentauth_middleware.audit")
    served.replies["/jwks.json"] = as_json(served_provider.jwks)
    with embed_served(tmp_path, served_provider) as embedded:
        assert embedded.register().status_code == 200
        assert embedded.register(header={"kid": "nobody's"}).status_code == 400
        served_provider.rotate()
        served.replies["/jwks.json"] = as_json(served_provider.jwks)
        if kind == "registration":
            answer = embedded.register()
        else:
            answer = embedded.push(served_provider.revoked_event(ISSUER))

    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 12
    assert is_not_stored(answer)
    record = caplog.records[-1]
    assert record.levelno == logging.INFO
    assert vars(record)["agentauth"]["reason"] == "keys_cooling_down"
