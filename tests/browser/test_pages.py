"""Pages of another origin, in a real browser, call APIs of many makes."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from agentauth_middleware.testing import FakeIssuer
from tests.browser.applications import TOLD
from tests.browser.chromium import Browser, browsing, find_chromium
from tests.examples.programs import free_port, running

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

_UVICORN = "uvicorn --factory tests.browser.applications:{name} --port {port}"
_GUNICORN = (
    "gunicorn tests.browser.applications:{name}() --threads 4 --bind 127.0.0.1:{port}"
)

READABLE = [
    "fastapi_listing",
    "fastapi_cors_before",
    "fastapi_cors_after",
    "fastapi_cors_inside_listing",
    "flask_listing",
    "django_listing",
    "plain_listing",
]
FORWARDING = [
    "fastapi_cors_inside_forwarding",
    "flask_forwarding",
    "django_forwarding",
]

WALK = """
async (api, token) => {
  const ask = async (url, options) => {
    try {
      const answer = await fetch(url, options);
      return {
        status: answer.status,
        challenge: answer.headers.get("WWW-Authenticate"),
        body: await answer.json(),
      };
    } catch (failure) {
      return {failed: failure.name};
    }
  };
  const send = (value) => ({method: "DELETE", headers: {Authorization: value}});
  const found = {};
  found.unknown = await ask(`${api}/notes`, {headers: {"X-Client": "a page"}});
  found.refused = await ask(`${api}/notes`, send("Bearer not.a.token"));
  const named = /resource_metadata="([^"]+)"/.exec(found.unknown.challenge ?? "");
  if (named !== null) {
    const version = {"MCP-Protocol-Version": "2025-06-18"};
    found.metadata = await ask(named[1], {headers: version});
  }
  found.granted = await ask(`${api}/notes`, send(`Bearer ${token}`));
  return found;
}
"""


@contextmanager
def serving_pages() -> Generator[str, None, None]:
    """The origin of an empty page."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        assert os.environ.get("CI") != "true", "no chromium; run `make system-deps`"
        pytest.skip("chromium: not installed; run `make system-deps`")
    with browsing(program, tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@dataclass(frozen=True)
class Origins:
    listed: str
    other: str


@pytest.fixture(scope="module")
def origins() -> Iterator[Origins]:
    with serving_pages() as listed, serving_pages() as other:
        yield Origins(listed, other)


@dataclass(frozen=True)
class Api:
    url: str
    issuer: FakeIssuer

    def walk(self, browser: Browser, page: str) -> Any:
        """What a page of the origin *page* gets from the first 401 to the data."""
        return browser.run(page, WALK, self.url, self.issuer.token(self.url))


@contextmanager
def serving(name: str, page: str) -> Generator[Api, None, None]:
    """The application called *name*, which knows the origin *page*."""
    port, issuer = free_port(), FakeIssuer()
    command, started = _GUNICORN, "Listening at"
    if name.startswith("fastapi"):
        command, started = _UVICORN, "Uvicorn running on"
    url = f"http://127.0.0.1:{port}"
    told = {
        "issuer": issuer.issuer,
        "jwks": issuer.jwks,
        "page": page,
        "resource": url,
    }
    arguments = command.format(name=name, port=port).split(" ")
    with running(arguments, {TOLD: json.dumps(told)}) as program:
        program.wait_for_line(started)
        yield Api(url, issuer)
    assert not [line for line in program.lines if "Traceback" in line]


@pytest.mark.parametrize("name", READABLE)
def test_page_walks_from_the_challenge_to_the_data(
    name: str, browser: Browser, origins: Origins
) -> None:
    with serving(name, origins.listed) as api:
        found = api.walk(browser, origins.listed)

    metadata = f"{api.url}/.well-known/oauth-protected-resource"
    assert found["unknown"]["status"] == 401
    assert found["unknown"]["challenge"] == f'Bearer resource_metadata="{metadata}"'
    assert found["refused"]["status"] == 401
    assert found["refused"]["body"]["error"] == "invalid_token"
    assert found["metadata"]["body"]["resource"] == api.url
    assert found["granted"]["status"] == 200
    assert found["granted"]["body"] == {"ran": ["DELETE"]}, "and on no preflight"


@pytest.mark.parametrize("name", FORWARDING)
def test_page_reaches_an_application_whose_own_layer_sees_preflights(
    name: str, browser: Browser, origins: Origins
) -> None:
    """Refusals never come by that layer, so the page cannot read them."""
    with serving(name, origins.listed) as api:
        found = api.walk(browser, origins.listed)

    failed = {"failed": "TypeError"}
    assert (found["unknown"], found["refused"]) == (failed, failed)
    assert found["granted"]["status"] == 200
    assert found["granted"]["body"] == {"ran": ["DELETE"]}, "and on no preflight"


@pytest.mark.parametrize("name", [*READABLE, *FORWARDING])
def test_page_of_another_origin_gets_nowhere(
    name: str, browser: Browser, origins: Origins
) -> None:
    """Also with a good token."""
    with serving(name, origins.listed) as api:
        found = api.walk(browser, origins.other)
        then = api.walk(browser, origins.listed)["granted"]["body"]

    failed = {"failed": "TypeError"}
    assert found == {"unknown": failed, "refused": failed, "granted": failed}
    assert then == {"ran": ["DELETE"]}, "only what the listed page has asked for"
