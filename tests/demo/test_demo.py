"""The demo as people start it: a program, its output and what it leaves behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from agentauth_middleware.cli import main
from agentauth_middleware.cli._demo.status import Status

ROOT = Path(__file__).parents[2]

HOPS = (
    "call without a token",
    "protected resource metadata",
    "authorization server metadata",
    "agent_auth",
    "ID-JAG",
    "identity assertion",
    "access token",
    "call with the token",
    "call that lacks a scope",
    "disconnect",
    "same token after the disconnect",
    "call without a token",
    "protected resource metadata",
    "authorization server metadata",
    "agent_auth",
    "ID-JAG",
    "interaction_required",
)


@contextmanager
def demo(folder: Path, *options: str) -> Generator[subprocess.Popen[str], None, None]:
    """A running demo whose temporary files are in *folder*."""
    process = subprocess.Popen(
        [sys.executable, "-m", "agentauth_middleware", "demo", *options],
        env={**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.terminate()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """What it prints up to the line that has *text* in it."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError(f"{text!r} is not in:\n{''.join(lines)}")


def server_processes(output: str) -> list[int]:
    return [int(number) for number in re.findall(r"\(process (\d+)\)", output)]


def is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def hop_names(section: str) -> tuple[str, ...]:
    return tuple(re.findall(r"^ ?\d+\. (.+)$", section, re.MULTILINE))


class Finished(NamedTuple):
    """A demo that has run to its end."""

    output: str
    status: int
    folder: Path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("demo")
    with demo(folder) as process:
        output, _ = process.communicate(timeout=60)
    return Finished(output, process.returncode, folder)


def test_demo_shows_every_hop_to_both_apis(finished: Finished) -> None:
    output, status, _ = finished
    servers, fastapi, flask = re.split(r"^\w+'s agent at .*$", output, flags=re.M)

    assert status == 0, output
    assert hop_names(fastapi) == HOPS
    assert hop_names(flask) == HOPS
    assert len(set(server_processes(servers))) == 4
    assert output.rstrip().endswith("All 34 hops went as they should.")


def test_demo_names_user_agent_and_scopes(finished: Finished) -> None:
    answers = re.findall(
        r'^ 8\. .*?"user": "(\w+)"$.*?"agent": "(agent_\S+)"$.*?"scopes": (.+?)$',
        finished.output,
        re.MULTILINE | re.DOTALL,
    )

    assert [(user, scopes) for user, _, scopes in answers] == [
        ("Alice", '["notes.read"]'),
        ("Bob", '["notes.read"]'),
    ]
    assert answers[0][1] != answers[1][1]


def test_demo_leaves_nothing_behind(finished: Finished) -> None:
    assert not any(map(is_running, server_processes(finished.output)))
    assert list(finished.folder.iterdir()) == []


def test_demo_has_no_colour_in_a_pipe(finished: Finished) -> None:
    assert "\x1b" not in finished.output


@pytest.mark.system
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_interrupted_demo_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    with demo(tmp_path) as process:
        output = read_until(process, " 1. ")
        process.send_signal(signal.Signals[name])
        process.communicate(timeout=60)

    assert process.returncode == 130
    assert not any(map(is_running, server_processes(output)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.system
def test_demo_stops_when_nobody_reads_on(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        output = read_until(process, " 1. ")
        assert process.stdout is not None
        process.stdout.close()
        process.wait(60)

    assert process.returncode == 130
    assert not any(map(is_running, server_processes(output)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.system
def test_kept_servers_answer_the_curl_lines_until_interrupted(tmp_path: Path) -> None:
    with demo(tmp_path, "--keep") as process:
        output = read_until(process, "Ctrl-C stops")
        lines = output[output.index("export API") : output.index("Ctrl-C stops")]
        typed = subprocess.run(
            ["sh", "-ec", lines], capture_output=True, text=True, check=True
        )
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    statuses = re.findall(r"HTTP/1.1 (\d+)", typed.stdout)

    assert statuses == ["401", "200", "200", "201", "200", "401"], typed.stdout
    assert '"status":202' in typed.stdout
    assert process.returncode == 0
    assert not any(map(is_running, server_processes(output)))
    assert list(tmp_path.iterdir()) == []


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--help"])

    assert ended.value.code == 0
    assert "agentauth demo --keep" in capsys.readouterr().out


def test_help_lists_every_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["demo", "--help"])
    listed = re.findall(r"^ +(\d+)  ", capsys.readouterr().out, re.MULTILINE)

    assert [int(number) for number in listed] == [status.value for status in Status]


def test_missing_package_is_named_with_the_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Thus Python marks what cannot be imported.
    monkeypatch.setitem(sys.modules, "waitress", None)
    status = main(["demo"])
    told = capsys.readouterr().err

    assert status == 2
    assert "needs waitress" in told
    assert 'pip install "agentauth-middleware[demo]"' in told


def test_missing_examples_are_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status = main(["demo", "--examples", str(tmp_path)])

    assert status == 2
    assert "--examples DIR" in capsys.readouterr().err
