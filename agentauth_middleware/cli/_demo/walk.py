"""The agent: an HTTP client that knows the URL of an API, its provider and its user.

It goes step by step as auth.md (dialect C) tells agents to, and takes nothing for
granted: each hop checks what has come back, and the first that differs ends the walk.

Sources: auth.md v0.7, RFC 9728, RFC 8414, RFC 7523, RFC 6750
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeGuard, TypeVar
from urllib.parse import urlsplit

import httpx

from agentauth_middleware.cli._demo.challenges import Challenge, read_challenges

ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
READ, WRITE = "notes.read", "notes.write"
PROMISED = 1.0
"""Seconds within which a token is refused after the user has disconnected the agent."""
_PAUSE = 0.02

Result = TypeVar("Result")
Object = Mapping[str, Any]


@dataclass(frozen=True)
class Visit:
    """Who goes where."""

    api_name: str
    """The API, as people call it."""
    api: str
    provider: str
    account: str
    """The user, as the provider calls them."""
    email: str
    name: str
    """The user, as the API calls them."""

    def disconnection(self, place: Place) -> dict[str, str]:
        """What the provider is told when the user disconnects the agent."""
        return {
            "audience": place.issuer,
            "subject": self.account,
            "events_endpoint": place.events_endpoint,
        }


@dataclass(frozen=True)
class Hop:
    """One step of the walk, for a person to follow."""

    number: int
    name: str
    request: str
    """The request line, or what is done without a request."""
    sent: tuple[str, ...] = ()
    """The members or headers of the request that matter."""
    status: str = ""
    received: tuple[str, ...] = ()
    """The members or headers of the answer that matter."""
    why: str = ""


Hops = Generator[Hop, None, Result]
"""Hops as they are made, and what they lead to."""


class HopDiffersError(Exception):
    """A hop did not go as it should; says which, what was expected and what came."""


class Place(NamedTuple):
    """An API and its authorization server, as both describe themselves."""

    resource: str
    issuer: str
    identity_endpoint: str
    token_endpoint: str
    events_endpoint: str


@dataclass
class Walk:
    """From a call without a token to an answer, and to the end of all access."""

    visit: Visit
    http: httpx.Client
    number: int = field(default=0, init=False)
    name: str = field(default="", init=False)
    """Of the current hop, like its number."""
    _first: dict[str, int] = field(default_factory=dict[str, int], init=False)
    """The numbers of the hops made so far, each when it was first made."""

    def hops(self) -> Hops[None]:
        """All of it.

        Raises:
            HopDiffersError: a hop did not go as it should.
        """
        place = yield from self._discover()
        assertion = yield from self._get_id_jag(place)
        identity = yield from self._register(place, assertion)
        token = yield from self._get_token(place, identity, READ)
        yield self._read_notes(token)
        yield self._write_a_note(token)
        yield self._disconnect(place)
        yield self._be_refused(token)
        place = yield from self._discover()
        assertion = yield from self._get_id_jag(place)
        yield self._need_the_user(place, assertion)

    def hops_to_token(self, *scopes: str) -> Hops[tuple[Place, str]]:
        """Only as far as an access token with *scopes*."""
        place = yield from self._discover()
        assertion = yield from self._get_id_jag(place)
        identity = yield from self._register(place, assertion)
        token = yield from self._get_token(place, identity, " ".join(scopes))
        return place, token

    # Discovery

    def _discover(self) -> Hops[Place]:
        url = yield from self._call_without_token()
        resource, issuer = yield from self._read_resource_metadata(url)
        metadata = yield from self._read_server_metadata(issuer)
        return (yield from self._read_agent_auth(resource, metadata))

    def _call_without_token(self) -> Hops[str]:
        response = self._request("call without a token", "GET", self._notes, expect=401)
        challenge = self._challenge(response, "Bearer")
        url = challenge.parameters.get("resource_metadata")
        if url is None:
            raise self._differs("the challenge has no resource_metadata")
        yield self._hop(
            response,
            received=(_header(response),),
            why=self._why(
                "The API lets nobody in without a token, and says where to read how "
                "to get one.",
                again="The agent has dropped the refused token and starts over.",
            ),
        )
        return url

    def _read_resource_metadata(self, url: str) -> Hops[tuple[str, str]]:
        response = self._request("protected resource metadata", "GET", url, expect=200)
        members = self._object(response)
        resource = self._text(members, "resource")
        if resource != self.visit.api:
            raise self._differs(f"expected resource {self.visit.api}, got {resource}")
        servers = members.get("authorization_servers")
        if not _is_array(servers) or not servers or not isinstance(servers[0], str):
            raise self._differs("authorization_servers names no server")
        shown = ("resource", "authorization_servers", "scopes_supported")
        yield self._hop(
            response,
            received=_members(members, *shown),
            why=self._why(
                "The document is about the very API that was called (the agent "
                "compares), and names the server whose tokens it takes."
            ),
        )
        return resource, servers[0]

    def _read_server_metadata(self, issuer: str) -> Hops[Object]:
        self._begin("authorization server metadata")
        response = self._send("GET", self._server_metadata_url(issuer))
        self._expect(response, 200)
        members = self._object(response)
        named = self._text(members, "issuer")
        if named != issuer:
            raise self._differs(f"expected issuer {issuer}, got {named}")
        yield self._hop(
            response,
            received=_members(members, "issuer", "token_endpoint"),
            why=self._why(
                "The server describes itself, under the name by which the API knows it "
                "(the agent compares)."
            ),
        )
        return members

    def _read_agent_auth(self, resource: str, metadata: Object) -> Hops[Place]:
        """A look into the document of the hop before."""
        self._begin("agent_auth")
        block = self._member(metadata, "agent_auth")
        self._expect_among(block, "identity_types_supported", "identity_assertion")
        kinds = self._member(block, "identity_assertion")
        self._expect_among(kinds, "assertion_types_supported", ID_JAG)
        place = Place(
            resource,
            issuer=self._text(metadata, "issuer"),
            identity_endpoint=self._text(block, "identity_endpoint"),
            token_endpoint=self._text(metadata, "token_endpoint"),
            events_endpoint=self._text(block, "events_endpoint"),
        )
        yield Hop(
            self.number,
            self.name,
            f"no request: a member of what hop {self.number - 1} brought",
            received=_members(block, "identity_endpoint", "identity_assertion"),
            why=self._why(
                "Agents can register here, with a statement that their provider signs: "
                "an ID-JAG."
            ),
        )
        return place

    # Registration

    def _get_id_jag(self, place: Place) -> Hops[str]:
        body = {
            "audience": place.issuer,
            "subject": self.visit.account,
            "email": self.visit.email,
        }
        url = f"{self.visit.provider}/assertions"
        response = self._request("ID-JAG", "POST", url, expect=200, json=body)
        assertion = self._text(self._object(response), "assertion")
        shown = ("iss", "sub", "aud", "email", "email_verified")
        yield self._hop(
            response,
            sent=_members(body, "audience", "subject"),
            received=_token("assertion", assertion, *shown),
            why=self._why(
                "The agent's provider states for this one server: the agent acts for "
                "this user. The provider of this demo signs whatever it is asked for; "
                "a real one does so where the user is signed in, and for nobody else.",
                again="A new one, since each is good once.",
            ),
        )
        return assertion

    def _register(self, place: Place, assertion: str) -> Hops[str]:
        response = self._present(
            place, assertion, name="identity assertion", expect=200
        )
        members = self._object(response)
        identity = self._text(members, "identity_assertion")
        yield self._hop(
            response,
            sent=_presented(assertion),
            received=(
                *_members(members, "registration_id"),
                *_token("identity_assertion", identity, "iss", "sub", "aud"),
            ),
            why="The server trusts the provider and knows whom it means: the user was "
            "linked before. The agent has a registration of its own now, and an "
            "assertion that stands for it. That is no token yet, and no API takes it: "
            "the agent exchanges it again and again, for each API and scope that it "
            "needs, without asking the provider.",
        )
        return identity

    def _present(
        self, place: Place, assertion: str, *, name: str, expect: int
    ) -> httpx.Response:
        body = {
            "type": "identity_assertion",
            "assertion_type": ID_JAG,
            "assertion": assertion,
        }
        return self._request(
            name, "POST", place.identity_endpoint, expect=expect, json=body
        )

    def _get_token(self, place: Place, identity: str, scope: str) -> Hops[str]:
        form = {
            "grant_type": JWT_BEARER,
            "assertion": identity,
            "scope": scope,
            "resource": place.resource,
        }
        response = self._request(
            "access token", "POST", place.token_endpoint, expect=200, data=form
        )
        members = self._object(response)
        token = self._text(members, "access_token")
        if self._text(members, "token_type").lower() != "bearer":
            raise self._differs("token_type is not Bearer")
        if (granted := members.get("scope", scope)) != scope:
            raise self._differs(f"expected scope {scope}, got {granted}")
        shown = {**form, "assertion": _short(identity)}
        yield self._hop(
            response,
            sent=tuple(f"{name}={value}" for name, value in shown.items()),
            received=(
                *_token("access_token", token, "sub", "act", "scope", "aud"),
                *_members(members, "expires_in"),
            ),
            why="A token for this API alone, with one permission. It names the user "
            "(sub) and the agent that acts for them (act).",
        )
        return token

    # Using the API

    def _read_notes(self, token: str) -> Hop:
        response = self._request(
            "call with the token",
            "GET",
            self._notes,
            expect=200,
            headers=_bearer(token),
        )
        members = self._object(response)
        if (user := self._text(members, "user")) != self.visit.name:
            raise self._differs(f"expected user {self.visit.name}, got {user}")
        agent = self._text(self._member(_payload(token), "act"), "sub")
        if (named := self._text(members, "agent")) != agent:
            raise self._differs(f"expected agent {agent}, got {named}")
        if (scopes := members.get("scopes")) != [READ]:
            raise self._differs(f"expected scopes ['{READ}'], got {scopes}")
        return self._hop(
            response,
            sent=(_authorization(token),),
            received=_members(members, "user", "agent", "scopes"),
            why="The API's handler knows which user, which agent and which scopes, and "
            "repeats them here.",
        )

    def _write_a_note(self, token: str) -> Hop:
        response = self._request(
            "call that lacks a scope",
            "POST",
            self._notes,
            expect=403,
            json={"text": "Buy milk"},
            headers=_bearer(token),
        )
        challenge = self._challenge(response, "Bearer")
        found = [challenge.parameters.get(name) for name in ("error", "scope")]
        if found != ["insufficient_scope", WRITE]:
            raise self._differs(f"expected insufficient_scope {WRITE}, got {found}")
        return self._hop(
            response,
            sent=(_authorization(token),),
            received=(_header(response),),
            why="Reading was granted and writing was not. The answer names the scope "
            "that is missing.",
        )

    def _disconnect(self, place: Place) -> Hop:
        body = self.visit.disconnection(place)
        url = f"{self.visit.provider}/disconnect"
        response = self._request("disconnect", "POST", url, expect=200, json=body)
        members = self._object(response)
        if (status := members.get("status")) != 202:
            raise self._differs(
                f"expected that the event is answered 202, got {status}"
            )
        return self._hop(
            response,
            sent=_members(body, "subject", "events_endpoint"),
            received=_members(members, "status"),
            why=f"Not the agent's doing: {self.visit.name} presses 'disconnect' at the "
            "provider, which pushes a signed event to the server. It takes it (202).",
        )

    def _be_refused(self, token: str) -> Hop:
        """Call until refused. What is sent a second later must not be let in."""
        self._begin("same token after the disconnect")
        told_at = time.monotonic()
        sent_after = 0.0
        response = self._send("GET", self._notes, headers=_bearer(token))
        while response.status_code == 200 and sent_after <= PROMISED:
            time.sleep(_PAUSE)
            sent_after = time.monotonic() - told_at
            response = self._send("GET", self._notes, headers=_bearer(token))
        if response.status_code != 401:
            raise self._differs(
                f"expected 401 within {PROMISED:.0f} s, got {_described(response)}"
            )
        error = self._challenge(response, "Bearer").parameters.get("error")
        if error != "invalid_token":
            raise self._differs(f"expected invalid_token, got {error}")
        return self._hop(
            response,
            sent=(_authorization(token),),
            received=(_header(response),),
            why=f"Refused {sent_after:.2f} s after the disconnect (promised is "
            f"{PROMISED:.0f} s), though the token has not expired.",
        )

    def _need_the_user(self, place: Place, assertion: str) -> Hop:
        name = "interaction_required"
        response = self._present(place, assertion, name=name, expect=401)
        error = self._challenge(response, "AgentAuth").parameters.get("error")
        if error != name:
            raise self._differs(f"expected {name}, got {_described(response)}")
        return self._hop(
            response,
            sent=_presented(assertion),
            received=(_header(response),),
            why=f"The provider's word is not enough any more: {self.visit.name} has to "
            "let the agent in again. Here the agent's way ends.",
        )

    @property
    def _notes(self) -> str:
        return f"{self.visit.api}/notes"

    # Each hop

    def _begin(self, name: str) -> None:
        self.number += 1
        self.name = name
        self._first.setdefault(name, self.number)

    def _request(
        self, name: str, method: str, url: str, *, expect: int, **arguments: Any
    ) -> httpx.Response:
        """Begin a hop with its request; *expect* is the status that must come."""
        self._begin(name)
        response = self._send(method, url, **arguments)
        self._expect(response, expect)
        return response

    def _expect(self, response: httpx.Response, status: int) -> None:
        if response.status_code != status:
            raise self._differs(f"expected {status}, got {_described(response)}")

    def _send(self, method: str, url: str, **arguments: Any) -> httpx.Response:
        try:
            return self.http.request(method, url, **arguments)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as fault:
            cause = type(fault).__name__
            raise self._differs(f"no answer to {method} {url} ({cause})") from fault

    def _hop(
        self,
        response: httpx.Response,
        *,
        sent: tuple[str, ...] = (),
        received: tuple[str, ...],
        why: str,
    ) -> Hop:
        return Hop(
            self.number,
            self.name,
            f"{response.request.method} {response.request.url}",
            sent,
            f"{response.status_code} {response.reason_phrase}",
            received,
            why,
        )

    def _why(self, text: str, *, again: str = "") -> str:
        """*text*, unless the reader knows it from a hop of the same name."""
        first = self._first[self.name]
        return text if first == self.number else f"As in hop {first}. {again}".rstrip()

    def _differs(self, text: str) -> HopDiffersError:
        hop = f"hop {self.number} ({self.name})"
        return HopDiffersError(f"{self.visit.api_name}, {hop}: {text}")

    def _server_metadata_url(self, issuer: str) -> str:
        """RFC 8414 §3.1: the suffix goes between host and path."""
        try:
            parts = urlsplit(issuer)
        except ValueError as fault:
            raise self._differs(f"{issuer} is not a URL") from fault
        path = f"/.well-known/oauth-authorization-server{parts.path.rstrip('/')}"
        return parts._replace(path=path).geturl()

    def _object(self, response: httpx.Response) -> Object:
        try:
            members: Any = response.json()
        except ValueError:
            members = None
        if not _is_object(members):
            raise self._differs("the answer is not a JSON object")
        return members

    def _member(self, members: Object, name: str) -> Object:
        value = members.get(name)
        if not _is_object(value):
            raise self._differs(f"{name} is missing or not an object")
        return value

    def _text(self, members: Object, name: str) -> str:
        value = members.get(name)
        if not isinstance(value, str):
            raise self._differs(f"{name} is missing or not a string")
        return value

    def _expect_among(self, members: Object, name: str, value: str) -> None:
        values = members.get(name)
        if not _is_array(values) or value not in values:
            raise self._differs(f"{name} lacks {value}")

    def _challenge(self, response: httpx.Response, scheme: str) -> Challenge:
        try:
            found = read_challenges(response.headers.get_list("www-authenticate"))
        except ValueError as fault:
            raise self._differs(f"WWW-Authenticate is {fault}") from fault
        for challenge in found:
            if challenge.scheme.lower() == scheme.lower():
                return challenge
        raise self._differs(f"expected a challenge {scheme}, got none")


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_array(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


# What is shown of messages


def _header(response: httpx.Response) -> str:
    return f"WWW-Authenticate: {response.headers['www-authenticate']}"


def _members(members: Object, *names: str) -> tuple[str, ...]:
    """Members of a JSON object, one a line."""
    return tuple(
        f'"{name}": {json.dumps(members[name])}' for name in names if name in members
    )


def _token(name: str, token: str, *claims: str) -> tuple[str, ...]:
    """A token, and what is in it; the agent itself need not look inside."""
    payload = _payload(token)
    inside = {claim: payload[claim] for claim in claims if claim in payload}
    return f'"{name}": "{_short(token)}"', f"  in it: {json.dumps(inside)}"


def _presented(assertion: str) -> tuple[str, ...]:
    return (
        '"type": "identity_assertion"',
        f'"assertion_type": "{ID_JAG}"',
        f'"assertion": "{_short(assertion)}"',
    )


def _payload(token: str) -> Object:
    """The claims of a JWT, unverified; empty if it is none."""
    try:
        encoded = token.split(".")[1]
        padding = "=" * (-len(encoded) % 4)
        claims: Any = json.loads(base64.urlsafe_b64decode(encoded + padding))
    except (IndexError, ValueError):
        return {}
    return claims if _is_object(claims) else {}


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _authorization(token: str) -> str:
    return f"Authorization: Bearer {_short(token)}"


def _short(token: str) -> str:
    return f"{token[:16]}..."


def _described(response: httpx.Response) -> str:
    """Status and, where the body says it, the error."""
    try:
        members: Any = response.json()
    except ValueError:
        members = None
    said = members if _is_object(members) else {}
    words = [str(said[name]) for name in ("error", "error_description") if name in said]
    return " ".join([str(response.status_code), ": ".join(words)]).rstrip()
