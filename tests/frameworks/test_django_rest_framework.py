"""The project of ``docs/django-rest-framework.md``, tested as its developer would.

Django's settings are those of a process, so it has one of its own.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.test_docs import ROOT, blocks, section

DJANGO = ROOT / "docs" / "django.md"
PAGE = ROOT / "docs" / "django-rest-framework.md"

_FILE = re.compile(r"`(mysite/\w+\.py)`[^\n]*:\n\n```py\n(.*?)^```$", re.M | re.S)

MORE_SETTINGS = """
SECRET_KEY = "of a test"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "mysite.urls"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "mysite",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": ["."],
    }
]
MIDDLEWARE[1:1] = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
"""

TESTS = """
import httpx
import pytest

from mysite.wsgi import application

from django.contrib.auth.models import User
from django.core.management import call_command

from agentauth_middleware.testing import assert_challenge
from mysite.models import Account

call_command("migrate", run_syncdb=True, verbosity=0)
ana = User.objects.create_user("ana", password="of ana")
User.objects.create_user("ben", password="of ben")
Account.objects.create(issuer="https://as.example.com", subject="user-1", user=ana)


@pytest.fixture
def client():
    transport = httpx.WSGITransport(application)
    return httpx.Client(transport=transport, base_url="https://api.example.com")


def log_in(client, name):
    client.get("/login")
    token = client.cookies["csrftoken"]
    fields = {"username": name, "password": f"of {name}", "csrfmiddlewaretoken": token}
    headers = {"Referer": "https://api.example.com/login"}
    assert client.post("/login", data=fields, headers=headers).status_code == 302


def test_page(act_as):
    names = {"httpx": httpx, "application": application, "act_as": act_as}
    exec(open("page.py").read(), names)


def test_agent_without_a_token_gets_one_challenge(client):
    answer = client.get("/api/notes")
    assert_challenge(answer, 401)
    assert len(answer.headers.get_list("www-authenticate")) == 1


def test_agent_writes_without_a_csrf_token(act_as, client):
    with act_as(client, user="user-1", agent="assistant", scopes=["notes.write"]):
        assert client.post("/api/notes").json() == {"by": "assistant"}


def test_agent_without_the_scope(act_as, client):
    with act_as(client, user="user-1", scopes=["notes.read"]):
        answer = client.post("/api/notes")
    assert_challenge(answer, 403, "insufficient_scope", scope="notes.write")


def test_agent_of_a_user_without_an_account(act_as, client):
    with act_as(client, user="stranger", scopes=["notes.read"]):
        answer = client.get("/api/notes")
    assert_challenge(answer, 403, "actor_unauthorized")


def test_bad_token(act_as, agent_token, client):
    with act_as.bearing(client, agent_token.expired(user="user-1")):
        assert_challenge(client.get("/api/notes"), 401, "invalid_token")


def test_person_with_a_session(client):
    log_in(client, "ben")
    assert client.get("/api/notes").json() == {"for": "ben"}
    assert client.post("/api/notes").status_code == 403  # No CSRF token.


def test_token_counts_and_the_cookie_beside_it_does_not(act_as, client):
    log_in(client, "ben")
    with act_as(client, user="user-1", scopes=["notes.read"]):
        assert client.get("/api/notes").json() == {"for": "ana"}


@pytest.fixture
def agentauth_app():
    return application
"""


def agentauth() -> str:
    """The file of the page of Django, with the settings of this one."""
    files = dict(_FILE.findall(DJANGO.read_text()))
    module = ast.parse(files["mysite/agentauth.py"])
    (settings,) = blocks(PAGE, "python")
    given = ast.parse(settings).body[-1]
    (place,) = (n for n, node in enumerate(module.body) if isinstance(node, ast.Assign))
    module.body[place] = given
    return ast.unparse(module)


def write_project(folder: Path) -> None:
    files = {**dict(_FILE.findall(DJANGO.read_text()))}
    files.update(_FILE.findall(PAGE.read_text()))
    files["mysite/agentauth.py"] = agentauth()
    rest = re.findall(r"```py\n(REST_FRAMEWORK = .*?)```", PAGE.read_text(), re.S)
    files["mysite/settings.py"] += MORE_SETTINGS + rest[0]
    (shown,) = re.findall(r"```py\n(.*?)```", section(PAGE, "## Tests"), re.S)
    files["page.py"] = shown
    files["login.html"] = "{% csrf_token %}"
    files["test_project.py"] = TESTS
    (folder / "mysite").mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)


def test_project_passes_the_tests_of_its_developer(tmp_path: Path) -> None:
    write_project(tmp_path)
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n0"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "8 passed" in finished.stdout
