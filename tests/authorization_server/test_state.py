"""The file: who may read it, who shares it, and what stays in it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agentauth_middleware.authorization_server.minting import Signer, new_key
from agentauth_middleware.authorization_server.state import State
from agentauth_middleware.errors import ConfigurationError, UnavailableError
from agentauth_middleware.stores import SQLiteStore
from agentauth_middleware.testing import FakeProvider
from tests.authorization_server.embedded import PROVIDER, embed
from tests.support.log import append

needs_modes = pytest.mark.skipif(os.name != "posix", reason="files have no modes")

START_AT_ONCE = """
import sys
from agentauth_middleware.authorization_server.minting import Signer, new_key
from agentauth_middleware.authorization_server.state import State

key = new_key()
state = State(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
state.add_user("user-" + sys.argv[2])
print(Signer(state.signing_keys(key)).jwks["keys"][-1]["kid"])
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "server.db"


@needs_modes
def test_file_is_readable_by_its_owner_alone(file: Path) -> None:
    """It holds private keys. An umask that allows more changes nothing."""
    before = os.umask(0)
    try:
        State(file).signing_keys(new_key())
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()}

    assert modes == {0o600}


@needs_modes
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_file_that_others_can_read_is_closed_to_them(
    file: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A backup that was put back, say. Whoever runs the server is told."""
    file.touch()
    file.chmod(mode)
    State(file).signing_keys(new_key())

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert str(file) in caplog.text


def test_file_that_vanishes_is_not_made_again(file: Path) -> None:
    """It would be readable by all, and know nothing of what was revoked."""
    state = State(file)
    state.signing_keys(new_key())
    file.unlink()
    with pytest.raises(UnavailableError, match=str(file)):
        state.signing_keys(new_key())

    assert not file.exists()


def test_keys_are_kept_across_restarts(tmp_path: Path) -> None:
    """And so is everything else: the token and the assertion go on being good."""
    provider = FakeProvider(PROVIDER)
    with embed(tmp_path, provider=provider) as first:
        keys = first.client.get("/.well-known/jwks.json").json()
        assertion = first.identity_assertion()
        presented = provider.id_jag(first.server.service.issuer)
        first.register(presented)
    with embed(tmp_path, provider=provider) as second:
        kept = second.client.get("/.well-known/jwks.json").json()
        exchanged = second.exchange(assertion)
        replayed = second.register(presented)

    assert kept == keys
    assert exchanged.status_code == 200
    assert replayed.json()["error"] == "replay_detected"


def test_first_key_stays(file: Path) -> None:
    first, second = new_key(), new_key()

    assert State(file).signing_keys(first) == [first]
    assert State(file).signing_keys(second) == [first]


def test_newest_key_signs_and_all_are_published() -> None:
    old, new = new_key(), new_key()
    signer = Signer([old, new])
    names = [key["kid"] for key in signer.jwks["keys"]]

    assert names == [Signer([old]).jwks["keys"][0]["kid"], names[1]]
    assert len(set(names)) == 2
    assert len(signer.key_set.identities) == 2


def test_processes_that_start_at_once_share_one_key(file: Path) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", START_AT_ONCE, str(file), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(5)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    names = [worker.communicate(timeout=30)[0] for worker in workers]

    assert [worker.returncode for worker in workers] == [0] * 5
    assert len(set(names)) == 1, json.dumps(names)


def test_users_may_be_known_before_the_server_starts(file: Path) -> None:
    """Seeds stand beside the settings, where nothing runs yet."""
    state = State(file)
    state.add_user("user-ana", email="ana@example.com")
    state.link(PROVIDER, "a", "user-ana")
    state.add_user("user-ana", email="other@example.com")
    state.add_user("user-twin", email="ana@example.com")

    assert state.untold() == []


@pytest.mark.parametrize(
    ("path", "says"),
    [
        pytest.param("{tmp}/none/server.db", "make it", id="folder missing"),
        pytest.param("{tmp}", "is no file", id="a folder"),
        pytest.param(":memory:", "is no file", id="memory"),
    ],
)
def test_path_that_cannot_be_such_a_file_is_named(
    tmp_path: Path, path: str, says: str
) -> None:
    with pytest.raises(ConfigurationError, match=says):
        State(path.format(tmp=tmp_path))


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\x00" * 100])
def test_file_that_is_no_database_is_out_of_reach(file: Path, content: bytes) -> None:
    file.write_bytes(content)

    with pytest.raises(UnavailableError):
        State(file).signing_keys(new_key())


def test_file_of_the_store_is_not_taken(file: Path) -> None:
    append(SQLiteStore(file), b"{}")

    with pytest.raises(ConfigurationError, match="a file of its own"):
        State(file).signing_keys(new_key())
    append(SQLiteStore(file), b"{}")


def test_failure_of_the_file_is_told_again_and_fixed(file: Path) -> None:
    """Nothing is remembered of a failure: the next call tries again."""
    state = State(file)
    file.mkdir()
    with pytest.raises(UnavailableError):
        state.add_user("user-ana")
    file.rmdir()
    state.add_user("user-ana")

    assert file.is_file()


def test_path_is_that_of_the_folder_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state = State("server.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    state.add_user("user-ana")

    assert (tmp_path / "server.db").is_file()
