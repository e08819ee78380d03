"""The walk that the README shows, done with the applications it defines."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.testclient import TestClient
from werkzeug.test import Client

from agentauth_middleware import Issuer, ResourceServer
from agentauth_middleware.authorization_server import AgentProvider, AuthorizationServer
from agentauth_middleware.stores import MemoryStore
from agentauth_middleware.testing import FakeProvider
from tests.test_docs import README, blocks, run

API, AS = "https://api.example.com", "https://as.example.com"
_REST = re.compile(r",?\s*\.\.\.")


class Exchange:
    """A request and its answer; ``<name>`` stands for what comes of itself, and
    ``...`` for members not shown."""

    def __init__(self, block: str) -> None:
        request, answer = re.split(r"\n\n(?=HTTP/1\.1 )", block.strip())
        line, self.sent, self.content = _parts(request)
        self.method, self.path = line.split(" ")[:2]
        line, self.received, self.body = _parts(answer)
        self.status = int(line.split(" ")[1])


def _parts(message: str) -> tuple[str, dict[str, str], str]:
    """The first line, the fields and the content."""
    head, _, content = message.partition("\n\n")
    line, *fields = head.splitlines()
    return line, dict(field.split(": ", 1) for field in fields), content


def compare(shown: Any, came: Any, names: dict[str, str], is_whole: bool) -> None:
    """Each value shown came; one in angle brackets gets its meaning at first sight."""
    if isinstance(shown, dict):
        members = cast("dict[str, Any]", shown)
        assert not is_whole or members.keys() == came.keys()
        for name, value in members.items():
            compare(value, came[name], names, is_whole)
    elif isinstance(shown, str) and re.fullmatch("<.+>", shown):
        assert names.setdefault(shown, came) == came
    else:
        assert shown == came


def filled(text: str, names: dict[str, str]) -> str:
    return re.sub("<[^>]+>", lambda found: names[found[0]], text)


Ask = Callable[[str, str, dict[str, str], str], Any]


def asking(client: TestClient) -> Ask:
    return lambda method, path, fields, content: client.request(
        method, path, headers=fields, content=content
    )


def asking_asgi(app: Any) -> Ask:
    return asking(TestClient(app))


def asking_wsgi(app: Any) -> Ask:
    client = Client(app)
    return lambda method, path, fields, content: client.open(
        path, method=method, headers=fields, data=content
    )


@pytest.mark.parametrize("application", ["app", "flask_app"])
def test_readme_walk_goes_as_shown(
    application: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    provider = FakeProvider("https://agents.example.org")
    server = AuthorizationServer(
        AS,
        resources=[
            ResourceServer(
                API,
                issuers=[Issuer(AS)],
                scopes={"notes.read": "Read", "notes.write": "Write"},
            )
        ],
        providers=[AgentProvider(provider.issuer, name="A", jwks=provider.jwks)],
        database=tmp_path / "as.db",
        store=MemoryStore(),
    )
    server.add_user("ana", email="ana@example.com")
    server.link(provider.issuer, "provider-user-1", "ana")
    trusting = f'Issuer("{AS}", jwks={server.service.signer.jwks!r})'
    page = tmp_path / "README.md"
    page.write_text(README.read_text().replace(f'Issuer("{AS}")', trusting))
    app = run(page)[application]
    names = {"<ID-JAG>": provider.id_jag(AS)}
    with TestClient(server, base_url=AS) as issuing:
        visit = asking_wsgi(app) if application == "flask_app" else asking_asgi(app)
        visits = {"as.example.com": asking(issuing), "api.example.com": visit}
        for block in blocks(README, "http"):
            shown = Exchange(block)
            ask = visits[shown.sent.pop("Host")]
            if "<another ID-JAG>" in shown.content:
                names["<another ID-JAG>"] = provider.id_jag(AS)
                issuing.post(
                    "/agent/event/notify",
                    content=provider.revoked_event(AS),
                    headers={"content-type": "application/secevent+jwt"},
                )
            fields = {name: filled(value, names) for name, value in shown.sent.items()}
            came = ask(shown.method, shown.path, fields, filled(shown.content, names))
            assert came.status_code == shown.status, came.text
            for name, value in shown.received.items():
                assert came.headers[name] == value
            is_whole = not _REST.search(shown.body)
            compare(
                json.loads(_REST.sub("", shown.body)),
                json.loads(came.text),
                names,
                is_whole,
            )
