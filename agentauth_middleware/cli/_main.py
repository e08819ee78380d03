"""The command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import agentauth_middleware
from agentauth_middleware.cli._demo.command import run_demo

_EXAMPLES = """\
examples:
  agentauth demo             watch an agent find its way into two APIs
  agentauth demo --help      what it needs, and its exit status
  agentauth --version
"""
_DEMO = """\
Starts an authorization server, an agent provider and two small APIs, each a process
of its own on a free port of this machine, and lets an agent walk up to both APIs:
from a call without a token to an answer, and to the end of its access. Every hop is
printed and checked. Nothing stays behind.
"""
_DEMO_EXAMPLES = """\
examples:
  agentauth demo            show the walk; it takes a few seconds
  agentauth demo --keep     leave the servers up afterwards, with curl lines to try
  agentauth demo | less     without colour, as with NO_COLOR=1

exit status:
  0    every hop went as it should; so also after Ctrl-C has ended --keep
  1    a hop differed, and the last line names it; or a server did not start
  2    something that the demo needs is missing
  130  Ctrl-C or another signal came before the end, or nobody reads the output
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    return run_demo(options.examples, keep=options.keep, out=sys.stdout)


def _version() -> str:
    return version("agentauth-middleware")


def _examples() -> Path:
    """The example applications: of the installed package, or of the repository."""
    package = Path(agentauth_middleware.__file__).parent
    installed = package / "_examples"
    return installed if installed.is_dir() else package.with_name("examples")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agentauth",
        description="Let agents into your Python API.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(required=True, metavar="command")
    demo = commands.add_parser(
        "demo",
        help="watch an agent find its way into two APIs, and out again",
        description=_DEMO,
        epilog=_DEMO_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    demo.add_argument(
        "--keep",
        action="store_true",
        help="leave the servers up and print curl lines to try, until Ctrl-C",
    )
    demo.add_argument(
        "--examples",
        type=Path,
        metavar="DIR",
        default=_examples(),
        help="the folder with fastapi_app and flask_app (default: those that come with "
        "this command)",
    )
    return parser
