"""``auth.md``: how an agent gets access, written for the model that reads it.

Rendered from the same settings as the metadata, so the two cannot disagree. It is
guidance and no trust anchor: endpoints and issuers come from the JSON documents.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

from agentauth_middleware._syntax.urls import issuer_metadata_urls
from agentauth_middleware.settings.resource_server import ResourceServer

_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~])")
_BREAKS = re.compile(r"\s+")
_ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"
_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def auth_md(server: ResourceServer) -> str:
    """The document, in Markdown."""
    sections = (
        _introduction(server),
        _discover(server),
        _register(server),
        _use(server),
        _errors(),
        _revocation(),
    )
    return "\n\n".join(section.strip() for section in sections) + "\n"


def plain(text: str) -> str:
    """Text of the operator's as one line in which nothing is markup."""
    return _MARKUP.sub(r"\\\1", _BREAKS.sub(" ", text).strip())


def _introduction(server: ResourceServer) -> str:
    name = plain(server.name or server.resource)
    return f"""
# {name}: access for agents

This API can be used by an agent on behalf of a person, with a token that names both
and that the person can take back. Do not ask the person for a password or an API key.
"""


def _discover(server: ResourceServer) -> str:
    return f"""
## 1. Discover

Read what this resource says of itself:

```http
GET {server.metadata_url}
```

{_issuers(server)}

Use a document only if its `issuer` is the string you started from.
"""


def _issuers(server: ResourceServer) -> str:
    listed = "\n".join(f"- `{issuer}`" for issuer in server.authorization_servers or ())
    if not listed:
        return """It names no authorization server: whoever sent you here has to. Read
the metadata of that server (RFC 8414, or OpenID discovery)."""
    return f"""`authorization_servers` lists who issues tokens for it:

{listed}

Take the first one you can use, and read its metadata. Not every server publishes it at
the same place, so take the first of these URLs that answers 200:

{_metadata_urls(server.authorization_servers or ())}"""


def _metadata_urls(issuers: Iterable[str]) -> str:
    """Some servers know OpenID discovery alone, whose URL is built in another way."""
    blocks = (
        "\n".join(f"GET {url}" for url in issuer_metadata_urls(issuer))
        for issuer in issuers
    )
    return "\n\n".join(f"```http\n{block}\n```" for block in blocks)


def _register(server: ResourceServer) -> str:
    resource = quote(server.resource, safe=":/")
    return f"""
## 2. Register and get a token

If the metadata has an `agent_auth` member, register at its `identity_endpoint` in one
of the ways that `identity_types_supported` lists. With `identity_assertion` your
provider vouches for the person, in a signed statement (ID-JAG) whose audience is that
server:

```http
POST <identity_endpoint>
Content-Type: application/json

{{"type": "identity_assertion", "assertion_type": "{_ID_JAG}", "assertion": "<ID-JAG>"}}
```

Exchange the `identity_assertion` of the answer for an access token:

```http
POST <token_endpoint>
Content-Type: application/x-www-form-urlencoded

grant_type={_JWT_BEARER}&assertion=<identity_assertion>&resource={resource}
```

Other ways are described by the document that `skill` names, unless it is this page. If
there is no `agent_auth`, use the OAuth grants that the metadata lists.
"""


def _use(server: ResourceServer) -> str:
    return f"""
## 3. Use the token

Ask for a token for exactly this `resource`, and send it in the header of each request:

```http
Authorization: Bearer <access token>
```

- Resource: `{server.resource}`
- Never put a token into a URL.
{_scopes(server)}
"""


def _scopes(server: ResourceServer) -> str:
    if not server.scopes:
        return ""
    names = server.scopes_for_clients(server.scopes)
    rows = "\n".join(
        f"| {_code(name)} | {plain(meaning)} |"
        for name, meaning in zip(names, server.scopes.values(), strict=True)
    )
    return f"\n| Scope | Allows |\n|---|---|\n{rows}"


def _code(scope: str) -> str:
    """*scope* as code in a table: with a longer fence than any in it, ``|`` escaped."""
    fence = "`" * (max(map(len, re.findall("`*", scope))) + 1)
    space = " " if "`" in scope else ""
    return f"{fence}{space}{scope.replace('|', chr(92) + '|')}{space}{fence}"


def _errors() -> str:
    return """
## 4. When a request is refused

| Status | `error` | What to do |
|---|---|---|
| 400 | `invalid_request` | Send one well-formed token, once, in the header. |
| 401 | none | Send a token; start at 1 if you have none. |
| 401 | `invalid_token` | Forget this token and get another. |
| 401 | `insufficient_user_authentication` | Have the person sign in as it says. |
| 403 | `insufficient_scope` | Get a token with the scopes in `scope`. |
| 403 | `actor_unauthorized` | Not for this person or agent; do not retry. |
| 429 | | Wait as `Retry-After` says. |
| 503 | `temporarily_unavailable` | Keep the token and try again after `Retry-After`. |

Each 401 and 403 names the metadata again, as `resource_metadata`.
"""


def _revocation() -> str:
    return """
## 5. Revocation

The person can withdraw access at any time. The next request is then answered 401
`invalid_token`; a new token may need the person's consent again.
"""
