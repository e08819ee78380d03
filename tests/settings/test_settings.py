"""Settings: a fault is found when they are built, named, and told how to fix."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from agentauth_middleware._core.middleware_state import MiddlewareState
from agentauth_middleware.errors import ConfigurationError
from agentauth_middleware.settings.introspection import Introspection
from agentauth_middleware.settings.issuer import Issuer
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.settings.route import Route
from agentauth_middleware.stores import SQLiteStore
from tests.support.tokens import ISSUER, RESOURCE, jwks, key

PAGE = (Path(__file__).parents[2] / "docs" / "settings.md").read_text("utf-8")
T1 = "https://login.example.com/t1"
MAIL = {"mail.read": "Read your mail", "mail.send": "Send mail for you"}


def server(**settings: Any) -> ResourceServer:
    members: dict[str, Any] = {
        "resource": RESOURCE,
        "issuers": [Issuer(ISSUER)],
        **settings,
    }
    return ResourceServer(members.pop("resource"), **members)


def of_issuer(name: Any = ISSUER, **settings: Any) -> ResourceServer:
    return server(issuers=[Issuer(name, **settings)])


def asked(**settings: Any) -> Introspection:
    settings = {"client_secret": "a-secret", **settings}
    return Introspection("rs", **settings)


def named(client_id: Any) -> Introspection:
    return Introspection(client_id, client_secret="a-secret")


def signing(**settings: Any) -> Introspection:
    pem = key("ES256").private.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    settings = {"private_key": pem, **settings}
    return Introspection("rs", **settings)


def with_prefix(prefix: str) -> Callable[[], ResourceServer]:
    prefixes = ["at_", prefix]
    return lambda: of_issuer(opaque_prefixes=prefixes, introspection=asked())


def by_function(issuers: Callable[[str], Any]) -> ResourceServer:
    return server(issuers=issuers, authorization_servers=[T1])


async def awaited(name: str) -> Issuer:
    return Issuer(name)


class AwaitedWhenCalled:
    async def __call__(self, name: str) -> Issuer:
        return Issuer(name)


def of_route(pattern: Any = "/mail", **settings: Any) -> ResourceServer:
    return server(routes=[Route(pattern, **settings)])


FAULTS: dict[str, tuple[Callable[[], object], str, str]] = {
    # What is built, the key that is named, and words of fault and fix.
    "resource http": (
        lambda: server(resource="http://api.example.com"),
        "ResourceServer.resource",
        "is not https; use https",
    ),
    "resource loopback": (
        lambda: server(resource="http://localhost:8000"),
        "ResourceServer.resource",
        "insecure_loopback=True",
    ),
    "resource with fragment": (
        lambda: server(resource=RESOURCE + "#x"),
        "ResourceServer.resource",
        "has a fragment; remove it",
    ),
    "prefix of scopes without a separator": (
        lambda: server(client_scope_prefix="api://mail"),
        "ResourceServer.client_scope_prefix",
        "write 'api://mail/'",
    ),
    "prefix of scopes with a space": (
        lambda: server(client_scope_prefix="api://my mail/"),
        "ResourceServer.client_scope_prefix",
        "is not one word",
    ),
    "prefix of scopes that is none": (
        lambda: server(client_scope_prefix=None),
        "ResourceServer.client_scope_prefix",
        "is not one word",
    ),
    "scope with the prefix": (
        lambda: server(
            client_scope_prefix="api://mail/", scopes={"api://mail/read": "Read"}
        ),
        "ResourceServer.scopes",
        "write the name in tokens, 'read'",
    ),
    "resource no URL": (
        lambda: server(resource="api"),
        "ResourceServer.resource",
        "is not an absolute URL; write https://",
    ),
    "resource injected": (
        lambda: server(resource=RESOURCE + '"\r\nx: y'),
        "ResourceServer.resource",
        "percent-encode",
    ),
    "resource from an unset variable": (
        lambda: server(resource=None),
        "ResourceServer.resource",
        "None is no text; write https://host/path, or set the environment variable",
    ),
    "no issuers": (
        lambda: server(issuers=[]),
        "ResourceServer.issuers",
        "empty; name at least one Issuer",
    ),
    "issuers one Issuer": (
        lambda: server(issuers=Issuer(ISSUER)),
        "ResourceServer.issuers",
        "ResourceServer.issuers: Issuer is no list; write a list, [Issuer(...)]",
    ),
    "issuers one string": (
        lambda: server(issuers=ISSUER),
        "ResourceServer.issuers",
        "is no list; write a list, [Issuer(...)]",
    ),
    "issuers None": (
        lambda: server(issuers=None),
        "ResourceServer.issuers",
        "None is no list; write a list, [Issuer(...)]",
    ),
    "issuers strings": (
        lambda: server(issuers=[ISSUER]),
        "ResourceServer.issuers",
        "is no Issuer; write a list, [Issuer(...)]",
    ),
    "issuers a class": (
        lambda: server(issuers=[Issuer]),
        "ResourceServer.issuers",
        "is no Issuer; write a list, [Issuer(...)]",
    ),
    "issuers to be read once": (
        lambda: server(issuers=iter([Issuer(ISSUER)])),
        "ResourceServer.issuers",
        "list_iterator is no list; write a list, [Issuer(...)]",
    ),
    "issuers looked up in a mapping": (
        lambda: by_function({ISSUER: Issuer(ISSUER)}.__getitem__),
        "ResourceServer.issuers",
        f"raised KeyError({T1!r}) for {T1!r}; return an Issuer, or None",
    ),
    "issuers that have to be awaited": (
        lambda: by_function(awaited),
        "ResourceServer.issuers",
        "has to be awaited; write a plain function",
    ),
    "issuers of an object that has to be awaited": (
        lambda: by_function(AwaitedWhenCalled()),
        "ResourceServer.issuers",
        "has to be awaited; write a plain function",
    ),
    "issuers by a function that gives text": (
        lambda: by_function(lambda name: name),
        "ResourceServer.issuers",
        f"returned {T1!r} for {T1!r}; return an Issuer, or None",
    ),
    "issuers by a function that gives settings": (
        lambda: by_function(lambda name: {"client_secret": "a-secret"}),
        "ResourceServer.issuers",
        f"returned dict for {T1!r}; return an Issuer, or None",
    ),
    "issuers by a function that gives another": (
        lambda: by_function(lambda name: Issuer(ISSUER)),
        "ResourceServer.issuers",
        f"returned the Issuer {ISSUER!r} for {T1!r}; return the one of that name",
    ),
    "issuers by a function with http": (
        lambda: by_function(lambda name: Issuer(name, jwks_uri="http://as.example")),
        "Issuer.jwks_uri",
        "is not https; use https",
    ),
    "issuers by a function with prefixes": (
        lambda: by_function(
            lambda name: Issuer(name, introspection=asked(), opaque_prefixes=["at_"])
        ),
        "Issuer.opaque_prefixes",
        f"of {T1!r}, which a function gives; opaque tokens name no issuer",
    ),
    "issuers by a function that knows none": (
        lambda: by_function(lambda name: None),
        "ResourceServer.authorization_servers",
        f"{T1!r} is not among ResourceServer.issuers",
    ),
    "issuers the class": (
        lambda: server(issuers=Issuer, authorization_servers=[]),
        "ResourceServer.issuers",
        "a class would make an issuer of any name",
    ),
    "issuer twice": (
        lambda: server(issuers=[Issuer(ISSUER), Issuer(ISSUER, subjects="users")]),
        "ResourceServer.issuers",
        "twice; keep one",
    ),
    "issuer http": (
        lambda: of_issuer("http://as.example.com"),
        "Issuer.issuer",
        "is not https; use https",
    ),
    "issuer with query": (
        lambda: of_issuer(ISSUER + "?tenant=1"),
        "Issuer.issuer",
        "has a query",
    ),
    "issuer upper case": (
        lambda: of_issuer("https://AS.example.com"),
        "Issuer.issuer",
        "write them in lower case",
    ),
    "issuer from an unset variable": (
        lambda: of_issuer(None),
        "Issuer.issuer",
        "None is no text",
    ),
    "issuer a list": (
        lambda: of_issuer([ISSUER]),
        "Issuer.issuer",
        "is no text",
    ),
    "issuer its own metadata": (
        lambda: of_issuer(ISSUER + "/.well-known/openid-configuration"),
        "Issuer.issuer",
        'write the "issuer" that is named there',
    ),
    "jwks_uri http": (
        lambda: of_issuer(jwks_uri="http://as.example.com/keys"),
        "Issuer.jwks_uri",
        "is not https; use https",
    ),
    "jwks and jwks_uri": (
        lambda: of_issuer(jwks=jwks(key()), jwks_uri=ISSUER + "/keys"),
        "Issuer",
        "exclude each other; keep one",
    ),
    "jwks no set": (
        lambda: of_issuer(jwks=key().jwk),
        "Issuer.jwks",
        'write {"keys": [...]}',
    ),
    "jwks a URL": (
        lambda: of_issuer(jwks=ISSUER + "/keys"),
        "Issuer.jwks",
        "where to fetch them is jwks_uri",
    ),
    "jwks with keys that are text": (
        lambda: of_issuer(jwks={"keys": "all"}),
        "Issuer.jwks",
        'write {"keys": [...]}',
    ),
    "jwks empty": (
        lambda: of_issuer(jwks={"keys": []}),
        "Issuer.jwks",
        "at least one key",
    ),
    "jwks with nothing to verify": (
        lambda: MiddlewareState(
            of_issuer(jwks={"keys": [{"kty": "oct", "k": "AAAA"}]})
        ),
        f"Issuer.jwks of {ISSUER}",
        "give public signing keys",
    ),
    "jwks for none of the algorithms": (
        lambda: MiddlewareState(
            of_issuer(jwks=jwks(key("ES256")), algorithms=["RS256"])
        ),
        f"Issuer.jwks of {ISSUER}",
        "no key in it is for RS256; add its algorithm to Issuer.algorithms",
    ),
    "jwks and jwks_file": (
        lambda: of_issuer(jwks=jwks(key()), jwks_file="keys.json"),
        "Issuer",
        "jwks, jwks_uri and jwks_file exclude each other; keep one",
    ),
    "jwks_file the keys": (
        lambda: of_issuer(jwks_file=jwks(key())),
        "Issuer.jwks_file",
        "is no path; keys themselves are Issuer.jwks",
    ),
    "jwks_file from an unset variable": (
        lambda: of_issuer(jwks_file=""),
        "Issuer.jwks_file",
        "empty; write the path of a file, or None",
    ),
    "jwks_file a URL": (
        lambda: of_issuer(jwks_file=ISSUER + "/keys"),
        "Issuer.jwks_file",
        f"'{ISSUER}/keys' is a URL; that is Issuer.jwks_uri",
    ),
    "jwks_file a number": (
        lambda: of_issuer(jwks_file=3),
        "Issuer.jwks_file",
        "3 is no path",
    ),
    "keys used for minutes": (
        lambda: of_issuer(max_key_age=599),
        "Issuer.max_key_age",
        "not a number of seconds from 600",
    ),
    "first-party clients one string": (
        lambda: of_issuer(first_party_clients="app"),
        "Issuer.first_party_clients",
        "'app' is no list; write a list, ['app']",
    ),
    "first-party clients beside a function": (
        lambda: of_issuer(first_party_clients=[], identity=print),
        "Issuer.first_party_clients",
        "Issuer.identity is a function, which says by itself who acts",
    ),
    "first-party clients named nowhere": (
        lambda: of_issuer(
            first_party_clients=[], client_id_claims=[], require_client_id=False
        ),
        "Issuer.first_party_clients",
        "no token names its client; name a claim",
    ),
    "no token types": (
        lambda: of_issuer(token_types=[]),
        "Issuer.token_types",
        'empty; write at least "at+jwt"',
    ),
    "token types one string": (
        lambda: of_issuer(token_types="JWT"),
        "Issuer.token_types",
        'is no list; write ["at+jwt", "JWT"]',
    ),
    "token type no text": (
        lambda: of_issuer(token_types=["JWT", 1]),
        "Issuer.token_types",
        "1 is no type of access token; at+jwt, JWT and None are",
    ),
    "scope claims one string": (
        lambda: of_issuer(scope_claims="scp"),
        "Issuer.scope_claims",
        "'scp' is no list; write a list, ['scp']",
    ),
    "scopes nowhere": (
        lambda: of_issuer(scope_claims=[]),
        "Issuer.scope_claims",
        "empty, so that no token has any scope; name at least one claim",
    ),
    "clients nowhere": (
        lambda: of_issuer(client_id_claims=[]),
        "Issuer.client_id_claims",
        "all are refused; name a claim, or switch off require_client_id",
    ),
    "some clients nowhere": (
        lambda: of_issuer(
            client_id_claims=[], require_client_id=False, client_ids=["a"]
        ),
        "Issuer.client_id_claims",
        "and leave out client_ids",
    ),
    "agents one string": (
        lambda: of_issuer(agents="agent-1"),
        "Issuer.agents",
        "'agent-1' is no list; write [\"agent-1\"]",
    ),
    "agents a number": (
        lambda: of_issuer(agents=1),
        "Issuer.agents",
        '1 is no list; write ["agent-1"]',
    ),
    "claim without a name": (
        lambda: of_issuer(required_claims=[""]),
        "Issuer.required_claims",
        "has an empty string; remove it",
    ),
    "require_jti text": (
        lambda: of_issuer(require_jti="no"),
        "Issuer.require_jti",
        "is no flag; write True or False",
    ),
    "leeway of an issuer": (
        lambda: of_issuer(leeway=301),
        "Issuer.leeway",
        "not a number of seconds from 0 to 300",
    ),
    "age of no token": (
        lambda: of_issuer(max_token_age=0),
        "Issuer.max_token_age",
        "not a number of seconds from 1",
    ),
    "prefixes without introspection": (
        lambda: of_issuer(opaque_prefixes=["at_"]),
        "Issuer.opaque_prefixes",
        "add introspection",
    ),
    "prefix that no token has": (
        lambda: of_issuer(opaque_prefixes=["at "], introspection=asked()),
        "Issuer.opaque_prefixes",
        "no token can begin with 'at '",
    ),
    **{
        f"prefix {prefix} of JWTs": (
            with_prefix(prefix),
            "Issuer.opaque_prefixes",
            f"JWTs begin with {prefix[:3]!r} too, and would all be shown to {ISSUER}; "
            "write another prefix",
        )
        for prefix in ("e", "ey", "eyJ", "eyJhbGciOi", "eyA", "ew", "ewog", "ew0K")
    },
    "introspection a URL": (
        lambda: of_issuer(introspection=ISSUER + "/introspect"),
        "Issuer.introspection",
        f"'{ISSUER}/introspect' is no Introspection; write Introspection(client_id, ",
    ),
    "introspection a mapping": (
        lambda: of_issuer(introspection={"client_secret": "a-secret"}),
        "Issuer.introspection",
        "dict is no Introspection; write Introspection(client_id, client_secret=...)",
    ),
    "introspection http": (
        lambda: of_issuer(introspection=asked(endpoint="http://as.example.com")),
        "Introspection.endpoint",
        "is not https; use https",
    ),
    "introspection of a route without an issuer to ask": (
        lambda: server(routes=[Route("/x", introspect=True)]),
        "Route('/x').introspect",
        "cannot be asked about its tokens; add Issuer.introspection",
    ),
    "introspection without a name": (
        lambda: named(""),
        "Introspection.client_id",
        "write the name under which",
    ),
    "introspection with a name from an unset variable": (
        lambda: named(None),
        "Introspection.client_id",
        "None is no text or empty; write the name under which",
    ),
    "introspection with a name from a file": (
        lambda: named("rs\n"),
        "Introspection.client_id",
        "'rs\\n' has a line break",
    ),
    "introspection without a credential": (
        lambda: Introspection("rs"),
        "Introspection",
        "neither client_secret nor private_key; give one of them",
    ),
    "introspection with two credentials": (
        lambda: Introspection("rs", client_secret="a-secret", private_key="a-secret"),
        "Introspection",
        "client_secret and private_key exclude each other; keep",
    ),
    "introspection with a secret from an unset variable": (
        lambda: Introspection("rs", client_secret=""),
        "Introspection.client_secret",
        "set the environment variable",
    ),
    "introspection with a secret of blanks": (
        lambda: Introspection("rs", client_secret="  "),
        "Introspection.client_secret",
        "empty; set the environment variable",
    ),
    "introspection with a secret from a file": (
        lambda: Introspection("rs", client_secret="a-secret\n"),
        "Introspection.client_secret",
        "has a line break or other control character; strip what comes from a file",
    ),
    "introspection with a secret that is no text": (
        lambda: Introspection("rs", client_secret="a-secret\udcff"),
        "Introspection.client_secret",
        "has a line break or other control character",
    ),
    "introspection with a secret in bytes": (
        lambda: asked(client_secret=b"a-secret"),
        "Introspection.client_secret",
        "is no text but bytes; give a string",
    ),
    "introspection with a secret that is a number": (
        lambda: asked(client_secret=5),
        "Introspection.client_secret",
        "is no text but int; give a string",
    ),
    "introspection with a key by its path": (
        lambda: signing(private_key=Path("key.pem")),
        "Introspection.private_key",
        "is no text but PosixPath; of a file give Path(...).read_text()",
    ),
    "introspection with a key that is a number": (
        lambda: signing(private_key=5),
        "Introspection.private_key",
        "is no text but int; of a file give",
    ),
    "introspection with a key id that is a number": (
        lambda: signing(key_id=3),
        "Introspection.key_id",
        "3 is no text or empty; write a name, or None",
    ),
    "introspection with an empty key id": (
        lambda: signing(key_id=""),
        "Introspection.key_id",
        "'' is no text or empty; write a name, or None",
    ),
    "introspection with a key id of no key": (
        lambda: asked(key_id="a"),
        "Introspection.key_id",
        "is sent in assertions alone; give private_key, or remove it",
    ),
    "introspection with an audience that is a number": (
        lambda: signing(assertion_audience=3),
        "Introspection.assertion_audience",
        "3 is no text or empty; write a name, or None",
    ),
    "introspection with an audience of nothing": (
        lambda: asked(assertion_audience=ISSUER),
        "Introspection.assertion_audience",
        "is sent in assertions alone; give private_key, or remove it",
    ),
    "introspection with an empty method": (
        lambda: asked(auth_method=""),
        "Introspection.auth_method",
        "'' is not one of client_secret_basic, client_secret_post, private",
    ),
    "introspection with a method nobody knows": (
        lambda: asked(auth_method="basic"),
        "Introspection.auth_method",
        "'basic' is not one of client_secret_basic, client_secret_post, private",
    ),
    "introspection with a method that needs a key": (
        lambda: asked(auth_method="private_key_jwt"),
        "Introspection.auth_method",
        "private_key_jwt needs private_key",
    ),
    "introspection with a key that is none": (
        lambda: Introspection("rs", private_key="key"),
        "Introspection.private_key",
        "is no private key in PEM form",
    ),
    "introspection that sends the token twice": (
        lambda: asked(extra_parameters={"token": "x"}),
        "Introspection.extra_parameters['token']",
        "is sent anyway; remove it",
    ),
    "introspection with parameters that are none": (
        lambda: asked(extra_parameters=["resource"]),
        "Introspection.extra_parameters",
        'no mapping; write {"name": "x"}',
    ),
    "introspection with a parameter that is a number": (
        lambda: asked(extra_parameters={"resource": 1}),
        "Introspection.extra_parameters['resource']",
        "is no text but int; give a string",
    ),
    "introspection with a parameter from a file": (
        lambda: asked(extra_parameters={"api_key": "a-secret\n"}),
        "Introspection.extra_parameters['api_key']",
        "strip what comes from a file",
    ),
    "introspection with a parameter without a name": (
        lambda: asked(extra_parameters={1: "a-secret"}),
        "Introspection.extra_parameters",
        '1 is no text or empty; write {"name": "x"}',
    ),
    "introspection remembered too long": (
        lambda: asked(remember_for=3601),
        "Introspection.remember_for",
        "not a number of seconds from 0 to 3600",
    ),
    "introspection without an exchange": (
        lambda: asked(max_concurrent=0),
        "Introspection.max_concurrent",
        "not a whole number of exchanges from 1",
    ),
    "introspection without an answer": (
        lambda: asked(inactive_per_minute=0),
        "Introspection.inactive_per_minute",
        "not a whole number of answers from 1",
    ),
    "introspection long": (
        lambda: asked(timeout=61),
        "Introspection.timeout",
        "not a number of seconds from 0.001 to 60",
    ),
    "introspection signed by text": (
        lambda: asked(signed="yes"),
        "Introspection.signed",
        "is no flag; write True or False",
    ),
    "subjects": (
        lambda: of_issuer(subjects="people"),
        "Issuer.subjects",
        'neither "unknown" nor "users"; write "users" if each subject but the client',
    ),
    "timeout nothing": (
        lambda: of_issuer(timeout=0),
        "Issuer.timeout",
        "not a number of seconds from 0.001 to 60",
    ),
    "timeout long": (
        lambda: of_issuer(timeout=61),
        "Issuer.timeout",
        "not a number of seconds from 0.001 to 60",
    ),
    "timeout no number": (
        lambda: of_issuer(timeout=math.nan),
        "Issuer.timeout",
        "not a number of seconds from 0.001 to 60",
    ),
    "timeout None": (
        lambda: of_issuer(timeout=None),
        "Issuer.timeout",
        "None is not a number of seconds",
    ),
    "timeout text": (
        lambda: of_issuer(timeout="5"),
        "Issuer.timeout",
        "'5' is not a number of seconds",
    ),
    "timeout a flag": (
        lambda: of_issuer(timeout=True),
        "Issuer.timeout",
        "True is not a number of seconds",
    ),
    "algorithm none": (
        lambda: of_issuer(algorithms=["none"]),
        "Issuer.algorithms",
        "'none' is not one of RS256",
    ),
    "algorithm symmetric": (
        lambda: of_issuer(algorithms=["RS256", "HS256"]),
        "Issuer.algorithms",
        "'HS256' is not one of RS256",
    ),
    "algorithm in lower case": (
        lambda: of_issuer(algorithms=["es256"]),
        "Issuer.algorithms",
        "'es256' is not one of",
    ),
    "no algorithms": (
        lambda: of_issuer(algorithms=[]),
        "Issuer.algorithms",
        "at least one",
    ),
    "algorithms None": (
        lambda: of_issuer(algorithms=None),
        "Issuer.algorithms",
        "is no list; write a list",
    ),
    "audience empty": (
        lambda: of_issuer(audience=""),
        "Issuer.audience",
        "write one or several strings",
    ),
    "no audience": (
        lambda: of_issuer(audience=[]),
        "Issuer.audience",
        "write one or several strings",
    ),
    "one audience empty": (
        lambda: of_issuer(audience=["a", ""]),
        "Issuer.audience",
        "write one or several strings",
    ),
    "audience no text": (
        lambda: of_issuer(audience=[1]),
        "Issuer.audience",
        "1 is no str; write a list of str",
    ),
    "audience a number": (
        lambda: of_issuer(audience=1),
        "Issuer.audience",
        "1 is no list",
    ),
    "scope with a space": (
        lambda: server(scopes={"mail read": "Read"}),
        "ResourceServer.scopes",
        "use printable ASCII",
    ),
    "offline_access": (
        lambda: server(scopes={"offline_access": "Stay"}),
        "ResourceServer.scopes",
        "remove it",
    ),
    "scopes a list": (
        lambda: server(scopes=["mail.read"]),
        "ResourceServer.scopes",
        'write {"notes.read": "Read your notes"}',
    ),
    "scope without a sentence": (
        lambda: server(scopes={"mail.read": None}),
        "ResourceServer.scopes",
        "sentence for people",
    ),
    "leeway negative": (
        lambda: server(leeway=-1),
        "ResourceServer.leeway",
        "not a number of seconds from 0 to 300",
    ),
    "leeway long": (
        lambda: server(leeway=301),
        "ResourceServer.leeway",
        "not a number of seconds from 0 to 300",
    ),
    "leeway text": (
        lambda: server(leeway="60"),
        "ResourceServer.leeway",
        "not a number",
    ),
    "leeway a flag": (
        lambda: server(leeway=True),
        "ResourceServer.leeway",
        "not a number",
    ),
    "max_log_age short": (
        lambda: server(max_log_age=0.5),
        "ResourceServer.max_log_age",
        "not a number of seconds from 0.75 to inf",
    ),
    "max_log_age no number": (
        lambda: server(max_log_age=math.nan),
        "ResourceServer.max_log_age",
        "not a number of seconds from 0.75 to inf",
    ),
    "max_log_age None": (
        lambda: server(max_log_age=None),
        "ResourceServer.max_log_age",
        "None is not a number",
    ),
    "max_remembered_tokens": (
        lambda: server(max_remembered_tokens=1),
        "ResourceServer.max_remembered_tokens",
        "not a whole number of tokens from 2",
    ),
    "max_remembered_tokens text": (
        lambda: server(max_remembered_tokens="1"),
        "ResourceServer.max_remembered_tokens",
        "not a whole number",
    ),
    "max_remembered_tokens with a fraction": (
        lambda: server(max_remembered_tokens=2.5),
        "ResourceServer.max_remembered_tokens",
        "not a whole number",
    ),
    "origins as text": (
        lambda: server(browser_origins="https://app.example.com"),
        "ResourceServer.browser_origins",
        "no list",
    ),
    "origin with a path": (
        lambda: server(browser_origins=["https://app.example.com/"]),
        "ResourceServer.browser_origins",
        "has a path",
    ),
    "origin with a query": (
        lambda: server(browser_origins=["https://app.example.com?a"]),
        "ResourceServer.browser_origins",
        "has a path",
    ),
    "origin without a scheme": (
        lambda: server(browser_origins=["app.example.com"]),
        "ResourceServer.browser_origins",
        "is no origin",
    ),
    "origin null": (
        lambda: server(browser_origins=["null"]),
        "ResourceServer.browser_origins",
        "is no origin",
    ),
    "origins in one string": (
        lambda: server(browser_origins=["https://a.example,https://b.example"]),
        "ResourceServer.browser_origins",
        "has a path",
    ),
    "hosts in one origin": (
        lambda: server(browser_origins=["https://a.example,b.example"]),
        "ResourceServer.browser_origins",
        "is no origin",
    ),
    "origin of all subdomains": (
        lambda: server(browser_origins=["https://*.example.com"]),
        "ResourceServer.browser_origins",
        "is no origin",
    ),
    "all origins and one more": (
        lambda: server(browser_origins=["*", "https://app.example.com"]),
        "ResourceServer.browser_origins",
        "is no origin",
    ),
    "origin in upper case": (
        lambda: server(browser_origins=["https://App.example.com"]),
        "ResourceServer.browser_origins",
        "has upper-case letters",
    ),
    "origin in another script": (
        lambda: server(browser_origins=["https://bücher.example"]),
        "ResourceServer.browser_origins",
        "is not printable ASCII",
    ),
    "origin with a user": (
        lambda: server(browser_origins=["https://me@app.example.com"]),
        "ResourceServer.browser_origins",
        "has user information",
    ),
    "origin with the default port": (
        lambda: server(browser_origins=["https://app.example.com:443"]),
        "ResourceServer.browser_origins",
        "names the default port",
    ),
    "origin with no port": (
        lambda: server(browser_origins=["http://localhost:"]),
        "ResourceServer.browser_origins",
        "names the default port",
    ),
    "origin with a port too high": (
        lambda: server(browser_origins=["https://app.example.com:70000"]),
        "ResourceServer.browser_origins",
        "is no origin",
    ),
    "preflights forwarded that are answered": (
        lambda: server(browser_origins=["*"], forward_unauthenticated_preflights=True),
        "ResourceServer.forward_unauthenticated_preflights",
        "has no effect",
    ),
    "forward_unauthenticated_preflights text": (
        lambda: server(forward_unauthenticated_preflights="false"),
        "ResourceServer.forward_unauthenticated_preflights",
        "no flag",
    ),
    "insecure_loopback text": (
        lambda: server(insecure_loopback="false"),
        "ResourceServer.insecure_loopback",
        "is no flag; write True or False",
    ),
    "metadata_at_root text": (
        lambda: server(metadata_at_root="no"),
        "ResourceServer.metadata_at_root",
        "is no flag; write True or False",
    ),
    "discard_bytes negative": (
        lambda: server(discard_bytes=-1),
        "ResourceServer.discard_bytes",
        "not a whole number of bytes from 0",
    ),
    "discard_bytes a fraction": (
        lambda: server(discard_bytes=1e6),
        "ResourceServer.discard_bytes",
        "not a whole number of bytes from 0",
    ),
    "discard_seconds long": (
        lambda: server(discard_seconds=301),
        "ResourceServer.discard_seconds",
        "not a number of seconds from 0 to 300",
    ),
    "ignore_query_token a number": (
        lambda: server(ignore_query_token=0),
        "ResourceServer.ignore_query_token",
        "is no flag; write True or False",
    ),
    "name empty": (
        lambda: server(name=" "),
        "ResourceServer.name",
        "write a name or None",
    ),
    "name no text": (
        lambda: server(name=1),
        "ResourceServer.name",
        "write a name or None",
    ),
    "documentation_uri": (
        lambda: server(documentation_uri="docs"),
        "ResourceServer.documentation_uri",
        "write https://",
    ),
    "policy_uri": (
        lambda: server(policy_uri="http://example.com"),
        "ResourceServer.policy_uri",
        "use https",
    ),
    "tos_uri": (
        lambda: server(tos_uri="https://example.com/#x"),
        "ResourceServer.tos_uri",
        "remove it",
    ),
    "logo_uri": (
        lambda: server(logo_uri=""),
        "ResourceServer.logo_uri",
        "is empty; write https://",
    ),
    "unmatched": (
        lambda: server(unmatched="allow"),
        "ResourceServer.unmatched",
        'neither "authenticated" nor "refuse"; write one of them, or leave it out',
    ),
    "metadata with a setting": (
        lambda: server(extra_metadata={"resource_name": "Mail"}),
        "ResourceServer.extra_metadata['resource_name']",
        "has a setting of its own",
    ),
    "metadata that names another resource": (
        lambda: server(extra_metadata={"resource": "https://evil.example"}),
        "ResourceServer.extra_metadata['resource']",
        "has a setting of its own",
    ),
    "metadata that promises": (
        lambda: server(extra_metadata={"dpop_bound_access_tokens_required": True}),
        "ResourceServer.extra_metadata['dpop_bound_access_tokens_required']",
        "remove it",
    ),
    "metadata null": (
        lambda: server(extra_metadata={"x": None}),
        "ResourceServer.extra_metadata['x']",
        "leave the member out",
    ),
    "metadata empty": (
        lambda: server(extra_metadata={"x": []}),
        "ResourceServer.extra_metadata['x']",
        "leave the member out",
    ),
    "metadata infinite": (
        lambda: server(extra_metadata={"x": math.inf}),
        "ResourceServer.extra_metadata['x']",
        "is not JSON; write",
    ),
    "metadata with no number inside": (
        lambda: server(extra_metadata={"x": [math.nan]}),
        "ResourceServer.extra_metadata['x']",
        "is not JSON; write",
    ),
    "metadata no JSON": (
        lambda: server(extra_metadata={"x": {1}}),
        "ResourceServer.extra_metadata['x']",
        "is not JSON; write",
    ),
    "metadata no mapping": (
        lambda: server(extra_metadata=["x"]),
        "ResourceServer.extra_metadata",
        'no mapping; write {"name": value}',
    ),
    "routes one Route": (
        lambda: server(routes=Route("/mail")),
        "ResourceServer.routes",
        "is no list; write a list, [Route(...)]",
    ),
    "routes strings": (
        lambda: server(routes=["/mail"]),
        "ResourceServer.routes",
        "'/mail' is no Route; write a list, [Route(...)]",
    ),
    "route without slash": (
        lambda: of_route("mail"),
        "Route('mail')",
        "write the decoded path in segments such as",
    ),
    "route of nothing": (lambda: of_route(""), "Route('')", "not a pattern"),
    "route with a star inside": (
        lambda: of_route("/*/mail"),
        "Route('/*/mail')",
        "* only as the last one",
    ),
    "route with half a segment": (
        lambda: of_route("/mail*"),
        "Route('/mail*')",
        "not a pattern",
    ),
    "route with two slashes": (
        lambda: of_route("//mail"),
        "Route('//mail')",
        "not a pattern",
    ),
    "route with half a placeholder": (
        lambda: of_route("/mail-{id}"),
        "Route('/mail-{id}')",
        "{name} (not <name>) for one whole segment",
    ),
    "route as Flask spells it": (
        lambda: Route("/admin/<id>", agent="forbidden"),
        "Route('/admin/<id>')",
        "such as /admin/{id}, with {name} (not <name>)",
    ),
    "route with a query": (
        lambda: of_route("/mail?all"),
        "Route('/mail?all')",
        "write the decoded path",
    ),
    "route percent-encoded": (
        lambda: of_route("/caf%C3%A9"),
        "Route('/caf%C3%A9')",
        "write the decoded path",
    ),
    "route with a fragment": (
        lambda: of_route("/mail#top"),
        "Route('/mail#top')",
        "write the decoded path",
    ),
    "route no text": (
        lambda: of_route(None),
        "Route(None)",
        "not a pattern",
    ),
    "route public text": (
        lambda: of_route(public="no"),
        "Route('/mail').public",
        "'no' is no flag; write True or False",
    ),
    "route optional text": (
        lambda: of_route(optional="no"),
        "Route('/mail').optional",
        "'no' is no flag; write True or False",
    ),
    "route scopes one string": (
        lambda: of_route(scopes="mail.read"),
        "Route('/mail').scopes",
        "'mail.read' is one string; write a list, ['mail.read']",
    ),
    "route scopes None": (
        lambda: of_route(scopes=None),
        "Route('/mail').scopes",
        "None is no list; write a list, []",
    ),
    "route scope no text": (
        lambda: of_route(scopes=[1]),
        "Route('/mail').scopes",
        "1 is not one word",
    ),
    "route scope undeclared": (
        lambda: server(scopes=MAIL, routes=[Route("/mail", scopes=["mail.raed"])]),
        "Route('/mail').scopes",
        "declare it there",
    ),
    "route acr_values": (
        lambda: of_route(acr_values=["p h r"]),
        "Route('/mail').acr_values",
        "printable ASCII",
    ),
    "route acr_values one string": (
        lambda: of_route(acr_values="phr"),
        "Route('/mail').acr_values",
        "'phr' is one string; write a list, ['phr']",
    ),
    "route methods one string": (
        lambda: of_route(methods="GET"),
        "Route('/mail').methods",
        "'GET' is no list; write a list, ['GET']",
    ),
    "route methods empty": (
        lambda: of_route(methods=()),
        "Route('/mail').methods",
        'empty; write ["GET"]',
    ),
    "route methods in lower case": (
        lambda: of_route(methods=["get"]),
        "Route('/mail').methods",
        "'get' is not a method in upper case; write 'GET'",
    ),
    "route methods no method": (
        lambda: of_route(methods=["*"]),
        "Route('/mail').methods",
        "'*' is not a method in upper case; write 'GET'",
    ),
    "route methods no text": (
        lambda: of_route(methods=[1]),
        "Route('/mail').methods",
        "1 is no str",
    ),
    "route user": (
        lambda: of_route(user="forbidden"),
        "Route('/mail').user",
        'is not "required"; write that, or leave it out',
    ),
    "route agent": (
        lambda: of_route(agent="maybe"),
        "Route('/mail').agent",
        'neither "required" nor "forbidden"; write one of them, or leave it out',
    ),
    "route max_age negative": (
        lambda: of_route(max_age=-1),
        "Route('/mail').max_age",
        "not a whole number of seconds from 0 to",
    ),
    "route max_age huge": (
        lambda: of_route(max_age=2**31),
        "Route('/mail').max_age",
        "not a whole number of seconds from 0 to",
    ),
    "route max_age text": (
        lambda: of_route(max_age="300"),
        "Route('/mail').max_age",
        "not a whole number",
    ),
    "route max_age a flag": (
        lambda: of_route(max_age=True),
        "Route('/mail').max_age",
        "not a whole number",
    ),
    "store a URL": (
        lambda: SQLiteStore("sqlite:///x.db"),
        "SQLiteStore.path",
        "'sqlite:///x.db' is a URL; write the path of the file alone",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_named_with_its_key_and_its_fix(fault: str) -> None:
    build, named, words = FAULTS[fault]

    with pytest.raises(ConfigurationError) as refused:
        build()

    text = str(refused.value)
    assert text.startswith(f"{named}: ")
    assert words in text
    assert "a-secret" not in text


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com",
        "https://app.example.com:8443",
        "http://localhost:5173",
        "http://[::1]:3000",
        "https://xn--bcher-kva.example",
        "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
        "*",
    ],
)
def test_origins_are_as_browsers_write_them(origin: str) -> None:
    assert server(browser_origins=[origin]).browser_origins == (origin,)


def test_algorithms_are_no_single_string() -> None:
    with pytest.raises(
        ConfigurationError, match=r"^Issuer\.algorithms: .*; write a list"
    ):
        Issuer(ISSUER, algorithms="ES256")


@pytest.mark.parametrize(
    "demand",
    [
        {"optional": True},
        {"scopes": ["mail.read"]},
        {"user": "required"},
        {"agent": "forbidden"},
        {"max_age": 0},
        {"acr_values": ["phr"]},
    ],
    ids=lambda demand: next(iter(demand)),
)
def test_public_route_can_demand_nothing(demand: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"^Route\('/mail'\): public checks"):
        Route("/mail", public=True, **demand)


# What is good


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="only what is needed"),
        pytest.param({"resource": RESOURCE + "/mail"}, id="resource with a path"),
        pytest.param({"leeway": 0}, id="no leeway"),
        pytest.param({"leeway": 300}, id="longest leeway"),
        pytest.param({"max_log_age": 0.75}, id="shortest max_log_age"),
        pytest.param({"max_log_age": math.inf}, id="max_log_age without end"),
        pytest.param({"max_remembered_tokens": 2}, id="few tokens"),
        pytest.param({"name": "Mail"}, id="name"),
        pytest.param({"scopes": MAIL}, id="scopes"),
        pytest.param({"extra_metadata": {"resource_name#de": "Post"}}, id="language"),
        pytest.param({"extra_metadata": {"x": 0, "y": False}}, id="zero and false"),
        pytest.param({"extra_metadata": {"x": 1.5}}, id="a number with a fraction"),
        pytest.param({"unmatched": "refuse"}, id="unmatched"),
        pytest.param({"routes": [Route("/x", scopes=["x"])]}, id="no scopes declared"),
        pytest.param(
            {"scopes": MAIL, "routes": [Route("/x", scopes=["mail.read"])]},
            id="scopes declared",
        ),
        pytest.param({"logo_uri": "https://example.com/logo.png"}, id="logo"),
    ],
)
def test_settings_are_good(settings: dict[str, Any]) -> None:
    assert MiddlewareState(server(**settings)).server.listed_issuers[0].issuer == ISSUER


@pytest.mark.parametrize("timeout", [0.001, 5, 60])
def test_timeout_of_an_issuer_is_good(timeout: float) -> None:
    assert Issuer(ISSUER, timeout=timeout).timeout == timeout


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"client_id_claims": [], "require_client_id": False}, id="client"),
        pytest.param({"jwks_file": Path("keys.json")}, id="path"),
        pytest.param({"agents": []}, id="no agent"),
        *(
            pytest.param(
                {"opaque_prefixes": [prefix], "introspection": asked()}, id=prefix
            )
            for prefix in ("at_", "eye_", "ewallet_", "Ey", "a.b")
        ),
    ],
)
def test_settings_of_an_issuer_are_good(settings: dict[str, Any]) -> None:
    assert of_issuer(**settings).listed_issuers[0].issuer == ISSUER


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"client_secret": "s"}, id="short secret of another server"),
        pytest.param({"client_secret": "pass word: ä"}, id="secret with a space"),
        pytest.param({"client_secret": "s", "auth_method": None}, id="no method"),
        pytest.param({"extra_parameters": {"resource": RESOURCE}}, id="parameter"),
    ],
)
def test_introspection_is_good(settings: dict[str, Any]) -> None:
    assert asked(**settings).auth_method == "client_secret_basic"


def test_introspection_signs_with_what_it_was_given() -> None:
    who = signing(key_id="k", assertion_audience="them").authentication(ISSUER)

    assert (who.method, who.key_id, who.audience) == ("private_key_jwt", "k", "them")
    assert signing().authentication(ISSUER).audience == ISSUER


@pytest.mark.parametrize("asking", [asked(), signing()], ids=["secret", "key"])
def test_no_secret_shows_in_settings(asking: Introspection) -> None:
    text = repr(of_issuer(introspection=asking))

    assert "a-secret" not in text
    assert "PRIVATE" not in text


def lenient(name: str) -> Issuer:
    return Issuer(name)


@pytest.mark.parametrize("servers", [[], [T1]], ids=["none", "one"])
def test_metadata_names_the_issuers_that_are_listed_beside_a_function(
    servers: list[str],
) -> None:
    """None is a choice: agents then have to know from elsewhere."""
    settings = server(issuers=lenient, authorization_servers=servers)

    assert list(settings.authorization_servers or ()) == servers


@pytest.mark.parametrize(
    "pattern",
    ["/", "/*", "/mail", "/mail/", "/mail/*", "/mail/{id}", "/{user}/mail/{id}/*"],
)
def test_pattern_is_good(pattern: str) -> None:
    assert Route(pattern).pattern == pattern


def test_settings_for_developing_may_use_loopback() -> None:
    local = server(
        resource="http://localhost:8000",
        issuers=[Issuer("http://127.0.0.1:9000", jwks_uri="http://[::1]:9000/keys")],
        insecure_loopback=True,
    )

    assert local.metadata_url.startswith("http://localhost:8000/")


@pytest.mark.parametrize("max_age", [0, 2**31 - 1])
def test_max_age_of_a_route_is_good(max_age: int) -> None:
    assert Route("/mail", max_age=max_age).demands_something


@pytest.mark.parametrize(
    ("settings", "something"),
    [
        ({}, False),
        ({"methods": ["GET"]}, False),
        ({"optional": True}, False),
        ({"public": True}, False),
        ({"scopes": ["a"]}, True),
        ({"any_scopes": ["a"]}, True),
        ({"user": "required"}, True),
        ({"agent": "forbidden"}, True),
        ({"acr_values": ["phr"]}, True),
        ({"max_age": 0}, True),
    ],
    ids=repr,
)
def test_route_knows_what_it_demands(settings: dict[str, Any], something: bool) -> None:
    assert Route("/mail", **settings).demands_something is something


@pytest.mark.parametrize(
    ("resource", "url"),
    [
        (RESOURCE, RESOURCE + "/auth.md"),
        (RESOURCE + "/", RESOURCE + "/auth.md"),
        (RESOURCE + "/mail", RESOURCE + "/mail/auth.md"),
        (RESOURCE + "/mail?tenant=1", RESOURCE + "/mail/auth.md"),
    ],
)
def test_guide_for_agents_stands_below_the_resource(resource: str, url: str) -> None:
    assert server(resource=resource).auth_md_url == url


@pytest.mark.parametrize("kind", [ResourceServer, Issuer, Introspection, Route])
def test_every_setting_is_on_the_page(kind: Any) -> None:
    _, _, text = PAGE.partition(f"## `{kind.__name__}(")
    section, _, _ = text.partition("\n## ")
    first_column = "".join(re.findall(r"^\|[^|]*\|", section, re.MULTILINE))
    settings = {member.name for member in dataclasses.fields(kind) if member.init}

    assert set(re.findall(r"`(\w+)`", first_column)) == settings


# Frozen


SETTINGS = [
    server(scopes=MAIL, routes=[Route("/mail")]),
    Issuer(ISSUER),
    Route("/mail"),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda value: type(value).__name__)
def test_settings_cannot_be_changed(settings: Any) -> None:
    for member in dataclasses.fields(settings):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(settings, member.name, None)


def test_settings_do_not_change_with_what_they_were_made_from() -> None:
    issuers, routes, scopes = [Issuer(ISSUER)], [Route("/mail")], dict(MAIL)
    metadata = {"x": {"y": [1]}}
    methods, algorithms, audience = ["GET"], ["ES256"], ["a"]
    document = jwks(key())
    built = server(
        issuers=issuers, routes=routes, scopes=scopes, extra_metadata=metadata
    )
    route = Route("/mail", methods=methods, scopes=methods)
    issuer = Issuer(ISSUER, algorithms=algorithms, audience=audience, jwks=document)
    for given in (issuers, routes, metadata["x"]["y"], methods, algorithms, audience):
        given.clear()
    for mapping in (scopes, metadata, document["keys"][0]):
        mapping.clear()
    document["keys"].clear()

    assert len(built.listed_issuers) == len(built.routes) == 1
    assert built.scopes == MAIL
    assert built.extra_metadata == {"x": {"y": (1,)}}
    assert set(route.methods or ()) == {"GET"}
    assert route.scopes == ("GET",)
    assert issuer.algorithms == ("ES256",)
    assert issuer.audience == ("a",)
    assert issuer.jwks is not None
    assert issuer.jwks["keys"][0]["kty"] == "EC"


def test_collections_of_settings_cannot_be_changed() -> None:
    built: Any = server(scopes=MAIL, extra_metadata={"x": [1]})
    issuer: Any = Issuer(ISSUER, jwks=jwks(key()))

    with pytest.raises(TypeError):
        built.scopes["all"] = "All"
    with pytest.raises(TypeError):
        built.extra_metadata["x"] = 1
    with pytest.raises(TypeError):
        issuer.jwks["keys"] = []
    with pytest.raises(TypeError):
        issuer.jwks["keys"][0]["kty"] = "oct"


def test_one_audience_may_be_written_as_a_string() -> None:
    assert Issuer(ISSUER, audience="client-77").audience == ("client-77",)


def test_settings_can_be_compared() -> None:
    assert server() == server()
    assert Route("/mail", scopes=["a"]) == Route("/mail", scopes=("a",))
    assert hash(Route("/mail", scopes=["a"])) == hash(Route("/mail", scopes=("a",)))


@pytest.mark.parametrize(
    ("build", "given"),
    [
        (Route, ("/mail", ["GET"])),
        (Issuer, (ISSUER, ISSUER + "/keys")),
        (ResourceServer, (RESOURCE, [Issuer(ISSUER)])),
    ],
)
def test_settings_are_given_by_name(build: Any, given: tuple[object, ...]) -> None:
    """Only what everybody knows by its place has one."""
    with pytest.raises(TypeError, match="positional"):
        build(*given)
