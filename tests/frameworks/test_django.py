"""The project that ``docs/django.md`` shows, under servers of both kinds."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentauth_middleware.testing import FakeIssuer, ServedIssuer
from tests.support.challenges import parse_strictly

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "django.md"
RESOURCE = "https://api.example.com"
METADATA = f"{RESOURCE}/.well-known/oauth-protected-resource"

_FILE = re.compile(r"`(mysite/\w+\.py)`.*?:\n\n```py\n(.*?)^```$", re.M | re.S)

MORE_SETTINGS = """
SECRET_KEY = "of a test"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "mysite.urls"
"""

MORE_VIEWS = """
import threading
from contextvars import copy_context

from django.http import StreamingHttpResponse
from django.utils.decorators import method_decorator
from django.views import View

from agentauth_middleware.errors import ActorRefusedError, UnavailableError


def subject():
    access = current_access()
    return "nobody" if access is None else access.subject


def who(request):
    return HttpResponse(subject())


async def who_async(request):
    return HttpResponse(subject())


def in_own_thread(request):
    seen = []
    for run in (copy_context().run, lambda function: function()):
        thread = threading.Thread(target=lambda: seen.append(run(subject)))
        thread.start()
        thread.join()
    return HttpResponse(" ".join(seen))


def stream(request):
    return StreamingHttpResponse(subject() + " " for _ in range(3))


async def stream_async(request):
    async def pieces():
        for _ in range(3):
            yield subject() + " "

    return StreamingHttpResponse(pieces())


class Notes(View):
    @requires("notes.write")
    def get(self, request):
        return HttpResponse(subject())


def refuse(request):
    raise ActorRefusedError("not_today")


async def refuse_async(request):
    raise ActorRefusedError("not_today")


def unavailable(request):
    raise UnavailableError("disk_full", retry_after=7)


def crash(request):
    raise ValueError("of the application")
"""

MORE_URLS = """
urlpatterns += [
    path("who", views.who),
    path("who/async", views.who_async),
    path("thread", views.in_own_thread),
    path("stream", views.stream),
    path("stream/async", views.stream_async),
    path("class", views.Notes.as_view()),
    path("refuse", views.refuse),
    path("refuse/async", views.refuse_async),
    path("unavailable", views.unavailable),
    path("crash", views.crash),
]
"""

COMMANDS = {
    "wsgi": "gunicorn mysite.wsgi --bind fd://{fd} --threads 8",
    "asgi": "uvicorn mysite.asgi:application --fd {fd}",
}


def write_project(folder: Path, issuer: ServedIssuer) -> None:
    files = dict(_FILE.findall(PAGE.read_text()))
    trusted = 'issuers=[Issuer("https://as.example.com")]'
    assert trusted in files["mysite/agentauth.py"]
    files["mysite/agentauth.py"] = files["mysite/agentauth.py"].replace(
        trusted, f"issuers=[Issuer({issuer.issuer!r})], insecure_loopback=True"
    )
    files["mysite/settings.py"] += MORE_SETTINGS
    files["mysite/views.py"] += MORE_VIEWS
    files["mysite/urls.py"] += MORE_URLS
    (folder / "mysite").mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)


@contextmanager
def serving(kind: str, folder: Path) -> Generator[httpx.Client, None, None]:
    log = folder / "log"
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        # Bound and listening already: whoever connects waits for the server to start.
        arguments = COMMANDS[kind].format(fd=listener.fileno()).split(" ")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"},
                pass_fds=[listener.fileno()],
                stdout=output,
                stderr=output,
            )
        host, port = listener.getsockname()
        try:
            with httpx.Client(base_url=f"http://{host}:{port}", timeout=20) as client:
                yield client
        finally:
            process.terminate()
            try:
                process.wait(20)
            finally:
                process.kill()


class Site:
    """The project, served, and its callers."""

    def __init__(self, kind: str, client: httpx.Client, issuer: ServedIssuer) -> None:
        self.kind = kind
        self.client = client
        self._issuer = issuer

    def get(self, path: str, *scopes: str, **members: Any) -> httpx.Response:
        return self.client.get(path, headers=self.bearer(*scopes, **members))

    def bearer(self, *scopes: str, **members: Any) -> dict[str, str]:
        token = self._issuer.token(RESOURCE, agent="agent-1", scopes=scopes, **members)
        return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module", params=list(COMMANDS))
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    kind: str = request.param
    folder = tmp_path_factory.mktemp(kind)
    with FakeIssuer.serve() as issuer:
        write_project(folder, issuer)
        with serving(kind, folder) as client:
            yield Site(kind, client, issuer)


def test_page_shows_every_file_of_the_project() -> None:
    names = [name for name, _ in _FILE.findall(PAGE.read_text())]

    assert names == [
        "mysite/agentauth.py",
        "mysite/settings.py",
        "mysite/wsgi.py",
        "mysite/asgi.py",
        "mysite/views.py",
        "mysite/urls.py",
    ]


def test_public_view_needs_no_token(site: Site) -> None:
    response = site.client.get("/health")

    assert (response.status_code, response.text) == (200, "ok")


def test_view_without_a_token_is_challenged_by_the_middleware(site: Site) -> None:
    response = site.client.get("/notes")
    (challenge,) = parse_strictly(response.headers["www-authenticate"])

    assert response.status_code == 401
    assert challenge.parameters == {
        "scope": "notes.read",
        "resource_metadata": METADATA,
    }


@pytest.mark.parametrize("path", ["/notes", "/who", "/class"])
def test_views_do_not_run_on_a_preflight(path: str, site: Site) -> None:
    """Django calls a function for any method; that of the page would be a 500."""
    asked = {
        "Origin": "https://app.example.org",
        "Access-Control-Request-Method": "GET",
    }
    response = site.client.options(path, headers=asked)

    assert response.status_code == 401
    assert response.json()["detail"] == "authentication required"


def test_view_knows_who_is_calling(site: Site) -> None:
    response = site.get("/notes", "notes.read", subject="alice")

    assert response.status_code == 200
    assert response.json() == {"for": "alice", "may": ["notes.read"]}


def test_async_view_takes_a_post(site: Site) -> None:
    response = site.client.post("/notes/new", headers=site.bearer("notes.write"))

    assert response.status_code == 200
    assert response.json() == {"by": "agent-1"}


@pytest.mark.parametrize("path", ["/notes/new", "/class"])
def test_requires_refuses_a_missing_scope(site: Site, path: str) -> None:
    response = site.get(path, "notes.read")
    (challenge,) = parse_strictly(response.headers["www-authenticate"])

    assert response.status_code == 403
    assert challenge.parameters["error"] == "insufficient_scope"
    assert challenge.parameters["scope"] == "notes.write"
    assert site.get("/class", "notes.write", subject="alice").text == "alice"


@pytest.mark.parametrize("path", ["/refuse", "/refuse/async"])
def test_refusal_raised_in_a_view_is_answered_as_by_the_middleware(
    site: Site, path: str
) -> None:
    raised = site.get(path)
    by_middleware = site.get("/notes")

    assert raised.status_code == by_middleware.status_code == 403
    assert raised.json()["error"] == "actor_unauthorized"
    assert raised.json()["resource_metadata"] == METADATA
    assert 'error="actor_unauthorized"' in raised.headers["www-authenticate"]
    for name in ("content-type", "cache-control"):
        assert raised.headers[name] == by_middleware.headers[name]


def test_trouble_raised_in_a_view_asks_to_try_again(site: Site) -> None:
    response = site.get("/unavailable")

    assert response.status_code == 503
    assert response.headers["retry-after"] == "7"
    assert "www-authenticate" not in response.headers


def test_error_of_a_view_stays_djangos(site: Site) -> None:
    response = site.get("/crash")

    assert response.status_code == 500
    assert "www-authenticate" not in response.headers


@pytest.mark.parametrize("path", ["/who", "/who/async"])
def test_access_is_known_in_views_and_never_another_requests(
    site: Site, path: str
) -> None:
    def ask(number: int) -> tuple[str, str]:
        name = f"user-{number}"
        return site.get(path, subject=name).text, name

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(40)))

    assert [seen for seen, _ in answers] == [name for _, name in answers]


def test_access_is_known_in_streamed_bodies(site: Site) -> None:
    path = {"wsgi": "/stream", "asgi": "/stream/async"}[site.kind]

    assert site.get(path, subject="alice").text == "alice alice alice "


def test_access_is_known_in_a_thread_of_ones_own_with_the_context(site: Site) -> None:
    assert site.get("/thread", subject="alice").text == "alice nobody"
