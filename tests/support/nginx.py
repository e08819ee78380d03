"""nginx in front of a server, as most people have it: with its defaults."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

_CONFIGURATION = """
daemon off;
user {user} {group};
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  client_max_body_size 100m;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://127.0.0.1:{upstream}; {options} }}
  }}
}}
"""

HTTP_1_1 = 'proxy_http_version 1.1; proxy_set_header Connection "";'
"""Towards the server; by default it is HTTP/1.0."""
UNBUFFERED = "proxy_request_buffering off;"


def need_nginx() -> str:
    """The program; a test without it is skipped, but not where everything must run."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        assert os.environ.get("CI") != "true", "no nginx; run `make system-deps`"
        pytest.skip("no nginx; run `make system-deps`")
    return program


@contextmanager
def nginx(upstream: int, folder: Path, options: str = "") -> Generator[int, None, None]:
    """The port of an nginx that passes everything on to the port *upstream*."""
    program = need_nginx()
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        port = listener.getsockname()[1]
        configuration = folder / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                folder=folder,
                port=port,
                upstream=upstream,
                options=options,
                user=pwd.getpwuid(os.getuid()).pw_name,
                group=grp.getgrgid(os.getgid()).gr_name,
            )
        )
        # It takes over a listening socket that this variable names.
        process = subprocess.Popen(
            [program, "-e", f"{folder}/error.log", "-c", str(configuration)],
            env={**os.environ, "NGINX": f"{listener.fileno()};"},
            pass_fds=[listener.fileno()],
        )
    try:
        yield port
    finally:
        process.terminate()
        try:
            process.wait(10)
        finally:
            process.kill()
