"""A small agent provider: vouches for its users with ID-JAGs, and takes that back.

For the demo and for tests. It has no passwords: it signs in every caller, so it must
never stand where strangers reach it.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agentauth_middleware.testing._issuer import KEYS_PATH, FakeIssuer

__all__ = ["FakeProvider", "provider_app"]

REVOKED_EVENT = (
    "https://schemas.workos.com/events/agent/auth/identity/assertion/revoked"
)


class FakeProvider(FakeIssuer):
    """Signs ID-JAGs and security events about its users."""

    def id_jag(
        self,
        audience: str,
        *,
        subject: str = "provider-user-1",
        email: str | None = "ana@example.com",
        header: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """A statement for the authorization server *audience* that an agent acts for
        *subject*, who signed in a minute ago.

        *claims* and *header* are added or replace others; ``None`` leaves one out.
        """
        now = int(time.time())
        members: dict[str, Any] = {
            "iss": self.issuer,
            "sub": subject,
            "aud": audience,
            "client_id": self.issuer,
            "jti": secrets.token_urlsafe(12),
            "iat": now,
            "exp": now + 300,
            "auth_time": now - 60,
            "email": email,
            "email_verified": True if email else None,
        }
        return self.sign(
            {**members, **claims}, {"typ": "oauth-id-jag+jwt", **(header or {})}
        )

    def revoked_event(
        self,
        audience: str,
        *,
        subject: str = "provider-user-1",
        header: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """The event that *subject* has disconnected the agent (RFC 8417)."""
        members: dict[str, Any] = {
            "iss": self.issuer,
            "sub": subject,
            "aud": audience,
            "jti": secrets.token_urlsafe(12),
            "iat": int(time.time()),
            "events": {REVOKED_EVENT: {}},
        }
        return self.sign(
            {**members, **claims}, {"typ": "secevent+jwt", **(header or {})}
        )


def provider_app(provider: FakeProvider) -> Starlette:
    """*provider* as an ASGI application.

    ``POST /assertions`` with ``{"audience", "subject", "email"}`` signs an ID-JAG, and
    ``POST /disconnect`` with ``{"audience", "subject", "events_endpoint"}`` pushes the
    event there (RFC 8935) and answers ``{"status"}``, that of the receiver's answer,
    or 502 if there was none. A request that is not so is a 400.
    """

    async def metadata(request: Request) -> Response:
        return JSONResponse(
            {"issuer": provider.issuer, "jwks_uri": provider.issuer + KEYS_PATH}
        )

    async def keys(request: Request) -> Response:
        return JSONResponse(provider.jwks)

    async def assertions(request: Request) -> Response:
        audience, subject, email = await _read(request, "audience", "subject", "email")
        assertion = provider.id_jag(audience, subject=subject, email=email)
        return JSONResponse({"assertion": assertion})

    async def disconnect(request: Request) -> Response:
        audience, subject, receiver = await _read(
            request, "audience", "subject", "events_endpoint"
        )
        try:
            async with httpx.AsyncClient() as client:
                answer = await client.post(
                    receiver,
                    content=provider.revoked_event(audience, subject=subject),
                    headers={"content-type": "application/secevent+jwt"},
                )
        except (httpx.HTTPError, httpx.InvalidURL) as fault:
            raise HTTPException(502, f"{type(fault).__name__}: {receiver}") from fault
        return JSONResponse({"status": answer.status_code})

    return Starlette(
        routes=[
            Route("/.well-known/oauth-authorization-server", metadata),
            Route(KEYS_PATH, keys),
            Route("/assertions", assertions, methods=["POST"]),
            Route("/disconnect", disconnect, methods=["POST"]),
        ]
    )


async def _read(request: Request, *names: str) -> list[str]:
    """The strings of those names in the JSON object that was sent."""
    try:
        members = json.loads(await request.body())
        found = [members[name] for name in names]
    except (ValueError, TypeError, KeyError):
        raise HTTPException(400, f"send a JSON object with {', '.join(names)}") from (
            None
        )
    if not all(isinstance(value, str) for value in found):
        raise HTTPException(400, f"{', '.join(names)} must be strings")
    return found
