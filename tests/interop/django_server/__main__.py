"""Serve Django OAuth Toolkit with a new database on a free loopback port."""

from __future__ import annotations

import sys
from typing import Any, cast

import django  # type: ignore[import-untyped]
from django.contrib.auth import get_user_model  # type: ignore[import-untyped]
from django.core.management import call_command  # type: ignore[import-untyped]
from django.core.wsgi import get_wsgi_application  # type: ignore[import-untyped]
from waitress.server import create_server  # type: ignore[import-untyped]

from tests.interop.django_server.clients import AGENT, API, LEGACY, PASSWORD, USER


def prepare() -> None:
    """Make the tables, the clients and the user."""
    call_command("migrate", verbosity=0)
    for client in (AGENT, API, LEGACY):
        call_command(
            "createapplication",
            "confidential",
            client.grant_type,
            client_id=client.client_id,
            client_secret=client.secret,
        )
    users = cast(Any, get_user_model())
    users.objects.create_user(USER, password=PASSWORD)


def serve() -> None:
    application: Any = get_wsgi_application()
    server: Any = create_server(application, host="127.0.0.1", port=0)
    sys.stdout.write(f"issuer: http://127.0.0.1:{server.effective_port}/o\n")
    server.run()


if __name__ == "__main__":
    django.setup()
    prepare()
    serve()
