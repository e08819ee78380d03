"""Settings as a user writes them. Never run: what the type checkers say is the test.

A line that must not pass says so to both; should it pass one day, both complain.
"""

from __future__ import annotations

import math
from typing import assert_type

from agentauth_middleware import Issuer, ResourceServer, Route

PLAIN = ResourceServer(
    "https://api.example.com", issuers=[Issuer("https://as.example")]
)

FULL = ResourceServer(
    "https://api.example.com/v1",
    issuers=(
        Issuer(
            "https://as.example.com",
            jwks_uri="https://as.example.com/keys",
            audience=["https://api.example.com/v1", "notes"],
            algorithms=("ES256", "EdDSA"),
            subjects="users",
            timeout=2.5,
        ),
        Issuer("https://other.example.com", jwks={"keys": [{"kty": "OKP"}]}),
    ),
    name="Notes",
    scopes={"notes.read": "Read your notes", "notes.write": "Write notes for you"},
    routes=[
        Route("/health", public=True),
        Route("/greeting", optional=True),
        Route("/notes", methods=["GET", "HEAD"], scopes=["notes.read"]),
        Route("/notes/{id}", scopes=("notes.write",), user="required"),
        Route("/admin/*", agent="forbidden", max_age=300, acr_values=["phr"]),
    ],
    unmatched="refuse",
    documentation_uri="https://example.com/docs",
    extra_metadata={"resource_name#de": "Notizen"},
    metadata_at_root=False,
    leeway=30,
    max_log_age=math.inf,
    insecure_loopback=False,
)

assert_type(FULL.resource, str)
assert_type(FULL.metadata_url, str)
assert_type(FULL.auth_md_url, str)

# What must not pass.

ResourceServer("https://api.example.com")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

ResourceServer(
    "https://api.example.com",
    issuers=["https://as.example.com"],  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
)

ResourceServer(
    "https://api.example.com",
    issuers=[Issuer("https://as.example.com")],
    unmatched="allow",  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
)

Issuer("https://as.example.com", "https://as.example.com/keys")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

Issuer("https://as.example.com", subjects="people")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

Route("/notes", agent="optional")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

Route("/notes", scope="notes.read")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

PLAIN.resource = "https://evil.example"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
