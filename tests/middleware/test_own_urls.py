"""The documents that the middleware publishes itself: the metadata and ``auth.md``.

Sources: RFC 9728 §3, RFC 9110 §13.1.2
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from agentauth_middleware import Route, asgi, wsgi
from agentauth_middleware.settings.issuer import Issuer
from agentauth_middleware.settings.resource_server import ResourceServer
from agentauth_middleware.testing import FakeIssuer
from tests.middleware.conftest import RunningMiddleware
from tests.support.exchange import Answer, HTTPRequest, Middleware
from tests.support.scenarios import Issuers, Token, challenges_of, no_credentials
from tests.support.server_side import environ, http_scope, request, serve

WELL_KNOWN = "/.well-known/oauth-protected-resource"
ORIGIN = "https://api.example.com"
V1 = f"{ORIGIN}/v1"
OWN_PATHS = (f"{WELL_KNOWN}/v1", f"{WELL_KNOWN}/v1/", WELL_KNOWN, "/v1/auth.md")


def server(resource: str = V1, **settings: Any) -> ResourceServer:
    # Whose keys have to be fetched, from where nobody answers.
    issuers = (Issuer("http://127.0.0.1:9/as", timeout=1),)
    everything: dict[str, Any] = {"issuers": issuers, **settings}
    return ResourceServer(resource, insecure_loopback=True, **everything)


@pytest.fixture
def v1(start_middleware: RunningMiddleware) -> Middleware:
    return start_middleware(
        server(name="Notes", scopes={"notes.read": "Read your notes"})
    )


# Where they are


@pytest.mark.parametrize(
    ("resource", "target"),
    [
        (ORIGIN, WELL_KNOWN),
        (f"{ORIGIN}/", WELL_KNOWN),
        (V1, f"{WELL_KNOWN}/v1"),
        (f"{V1}/", f"{WELL_KNOWN}/v1/"),
        (f"{ORIGIN}:8443/a/b", f"{WELL_KNOWN}/a/b"),
        (f"{ORIGIN}?tenant=7", f"{WELL_KNOWN}?tenant=7"),
        (f"{ORIGIN}/?tenant=7", f"{WELL_KNOWN}?tenant=7"),
        (f"{V1}?tenant=7", f"{WELL_KNOWN}/v1?tenant=7"),
        (f"{ORIGIN}/a%20b", f"{WELL_KNOWN}/a%20b"),
        (f"{ORIGIN}/caf%C3%A9", f"{WELL_KNOWN}/caf%C3%A9"),
        (f"{ORIGIN}/mcp.v2/~x", f"{WELL_KNOWN}/mcp.v2/~x"),
    ],
)
def test_metadata_is_where_challenges_say(
    resource: str, target: str, start_middleware: RunningMiddleware
) -> None:
    middleware = start_middleware(server(resource))

    (challenge,) = challenges_of(middleware.get("/"))
    named = challenge.parameters["resource_metadata"]

    assert named.endswith(target)
    answer = middleware.get(target)
    assert answer.status == 200
    assert answer.json()["resource"] == resource
    assert f'"resource": "{resource}"' in answer.body.decode()


@pytest.mark.parametrize(
    ("resource", "targets"),
    [
        pytest.param(ORIGIN, [f"{WELL_KNOWN}/"], id="origin, slash"),
        pytest.param(V1, [f"{WELL_KNOWN}/v1/"], id="path, slash"),
        pytest.param(f"{V1}/", [f"{WELL_KNOWN}/v1"], id="slash, none"),
        pytest.param(V1, [WELL_KNOWN, f"{WELL_KNOWN}/"], id="root"),
        pytest.param(V1, [f"/v1{WELL_KNOWN}"], id="appended"),
        pytest.param(f"{V1}/", [f"/v1{WELL_KNOWN}"], id="slash, appended"),
        pytest.param(
            V1,
            [
                f"{WELL_KNOWN}/v1?x=1",
                f"{WELL_KNOWN}/v1?access_token=x",
                f"{WELL_KNOWN}?",
            ],
            id="query",
        ),
    ],
)
def test_metadata_is_where_agents_look_as_well(
    resource: str, targets: list[str], start_middleware: RunningMiddleware
) -> None:
    middleware = start_middleware(server(resource))

    for target in targets:
        assert middleware.get(target).status == 200
        assert middleware.get(target).json()["resource"] == resource
    assert not middleware.seen


@pytest.mark.parametrize("target", [WELL_KNOWN, f"{WELL_KNOWN}/"])
def test_metadata_at_the_root_can_be_switched_off(
    target: str, start_middleware: RunningMiddleware
) -> None:
    middleware = start_middleware(server(metadata_at_root=False))

    assert "access" in middleware.get(target).json()  # the application's
    assert [seen.path for seen in middleware.seen] == [target]
    assert middleware.get(f"{WELL_KNOWN}/v1").status == 200


def test_metadata_of_an_origin_is_at_the_root_in_any_case(
    start_middleware: RunningMiddleware,
) -> None:
    middleware = start_middleware(server(ORIGIN, metadata_at_root=False))

    assert middleware.get(WELL_KNOWN).status == 200


NEIGHBOURS = ("/v2", "/v1/notes", "/v10", "/V1", "/v2?x=1", "/v2/", "/v1/../v2", "//v2")


@pytest.mark.parametrize("suffix", NEIGHBOURS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("unmatched", ["authenticated", "refuse"])
def test_metadata_of_other_resources_is_for_the_application(
    unmatched: str, method: str, suffix: str, start_middleware: RunningMiddleware
) -> None:
    """Several resources may share a host; who looks for one has no token yet."""
    middleware = start_middleware(server(unmatched=unmatched))
    token = {"Authorization": "Bearer of another resource"}

    for headers in ({}, token):
        fields = tuple(headers.items())
        answer = middleware.ask(HTTPRequest(method, WELL_KNOWN + suffix, fields))
        assert answer.status == 200
    path = (WELL_KNOWN + suffix).partition("?")[0]
    assert [(seen.path, seen.access) for seen in middleware.seen] == [(path, None)] * 2


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "QUERY"])
def test_metadata_of_other_resources_is_only_read(method: str, v1: Middleware) -> None:
    assert v1.ask(HTTPRequest(method, f"{WELL_KNOWN}/v2")).status == 401
    assert not v1.seen


def test_routes_come_before_metadata_of_other_resources(
    start_middleware: RunningMiddleware,
) -> None:
    middleware = start_middleware(server(routes=[Route("/*", scopes=["notes.read"])]))

    assert middleware.get(f"{WELL_KNOWN}/v2").status == 401
    assert middleware.get(f"{WELL_KNOWN}/v1").status == 200
    assert not middleware.seen


@pytest.mark.parametrize(
    "suffix",
    [
        "/%2e%2e/v1",
        "/../v1",
        "/v2/../../admin",
        "/../../admin",
        "/..%2f..%2fadmin",
        "/%2e%2e%2f%2e%2e%2fadmin",
        "/v2/%2e%2e/%2e%2e/%2e%2e/admin",
        "/%252e%252e/%252e%252e/admin",
        "/..\\..\\admin",
        "\\v1",
        "/v1%2f",
        "/%76%31",
        "-more",
        "/v1%0a",
    ],
)
def test_nothing_else_comes_in_by_the_well_known_path(
    suffix: str, v1: Middleware, issuers: Issuers
) -> None:
    """Some frameworks take dots, backslashes and encodings out of a path."""
    assert v1.get(WELL_KNOWN + suffix).status in (400, 401, 404)
    assert not v1.seen


@pytest.mark.parametrize(
    "target",
    [
        "/%2ewell-known/oauth-protected-resource/v1",
        "/.well-known%2Foauth-protected-resource/v1",
        "/v1/%61uth.md",
        "/v1%2Fauth.md",
        f"/{WELL_KNOWN}/v1",
        f"/v1/..{WELL_KNOWN}/v1",
        "/v1//auth.md",
        "/.WELL-KNOWN/oauth-protected-resource/v1",
    ],
)
def test_another_spelling_of_an_own_url_is_not_ours(
    target: str, v1: Middleware
) -> None:
    assert v1.get(target).status in (400, 401, 404)
    assert not v1.seen


def test_one_resource_may_stand_in_front_of_another() -> None:
    """An API, say, with an MCP server mounted in it."""
    outer = server(metadata_at_root=False, routes=[Route("/v2/*", public=True)])
    inner = server(f"{ORIGIN}/v2")

    async def nobody(*_: object) -> None:
        raise AssertionError("let in")

    def nobody_wsgi(*_: object) -> list[bytes]:
        raise AssertionError("let in")

    behind = asgi.AgentAuthMiddleware(nobody, inner)
    stacked = asgi.AgentAuthMiddleware(behind, outer)
    behind_wsgi = wsgi.AgentAuthMiddleware(nobody_wsgi, inner)
    stacked_wsgi = wsgi.AgentAuthMiddleware(behind_wsgi, outer)

    for path, resource in {
        f"{WELL_KNOWN}/v1": V1,
        f"{WELL_KNOWN}/v2": inner.resource,
        WELL_KNOWN: inner.resource,
    }.items():
        talk = anyio.run(request, stacked, http_scope(path))
        assert talk.json["resource"] == resource
        assert serve(stacked_wsgi, environ(path)).json["resource"] == resource
    for path, named in {
        "/v1/x": WELL_KNOWN + "/v1",
        "/v2/x": WELL_KNOWN + "/v2",
    }.items():
        talk = anyio.run(request, stacked, http_scope(path))
        answer = serve(stacked_wsgi, environ(path))
        assert talk.status == answer.status == 401
        assert talk.json["resource_metadata"] == ORIGIN + named
        assert answer.json["resource_metadata"] == ORIGIN + named


def test_auth_md_at_the_host_can_be_switched_off(
    start_middleware: RunningMiddleware,
) -> None:
    middleware = start_middleware(
        server(metadata_at_root=False, routes=[Route("/auth.md", public=True)])
    )

    assert middleware.get("/v1/auth.md").field(
        "content-type",
    ) == ("text/markdown; charset=utf-8")
    assert "access" in middleware.get("/auth.md").json()


def test_two_resources_of_a_host_keep_apart(
    start_middleware: RunningMiddleware, issuers: Issuers
) -> None:
    middlewares = {
        path: start_middleware(
            server(ORIGIN + path, issuers=issuers.trusted, metadata_at_root=False)
        )
        for path in ("/v1", "/v2")
    }

    for path, middleware in middlewares.items():
        (challenge,) = challenges_of(middleware.get("/"))
        assert challenge.parameters == {"resource_metadata": ORIGIN + WELL_KNOWN + path}
        assert middleware.get(WELL_KNOWN + path).json()["resource"] == ORIGIN + path
        for other in middlewares:
            token = issuers.main.token(ORIGIN + other)
            status = middleware.get("/", {"Authorization": f"Bearer {token}"}).status
            assert status == (200 if other == path else 401)


@pytest.mark.parametrize(
    ("mount", "target"),
    [
        pytest.param("/v1", WELL_KNOWN, id="appended form"),
        pytest.param("/v1", "/auth.md", id="auth.md"),
        pytest.param(WELL_KNOWN, "/v1", id="mounted at the well-known path"),
        # A proxy takes the mount off, and the server puts it back in front of all.
        pytest.param("/v1", f"{WELL_KNOWN}/v1", id="canonical, behind a proxy"),
    ],
)
def test_documents_of_a_mounted_application_are_found(
    mount: str, target: str, v1: Middleware
) -> None:
    answer = v1.ask(HTTPRequest("GET", target, mount=mount))

    assert answer.status == 200
    assert V1 in answer.body.decode()


@pytest.mark.parametrize("mount", ["", "/v1", "/elsewhere"])
def test_challenges_of_a_mounted_application_name_the_same_urls(
    mount: str, v1: Middleware
) -> None:
    answer = v1.ask(HTTPRequest("GET", "/notes", mount=mount))

    (challenge,) = challenges_of(answer)
    assert challenge.parameters == {"resource_metadata": f"{ORIGIN}{WELL_KNOWN}/v1"}
    assert answer.json()["auth_md"] == f"{V1}/auth.md"


# How they are served


@pytest.mark.parametrize("target", OWN_PATHS)
@pytest.mark.parametrize(
    "fields",
    [
        pytest.param((), id="no token"),
        pytest.param((("Authorization", "Bearer bad"),), id="bad token"),
        pytest.param((("Authorization", "Bearer a b"),), id="malformed"),
        pytest.param((("Authorization", "Bearer a"),) * 2, id="two tokens"),
        pytest.param((("Authorization", "Basic dTpw"),), id="Basic"),
        pytest.param(
            (("Host", "evil.example"), ("X-Forwarded-Host", "evil.example")),
            id="spoofed host",
        ),
        pytest.param(
            (("Forwarded", "host=evil.example"), ("X-Forwarded-Prefix", "/evil")),
            id="spoofed prefix",
        ),
        pytest.param(
            (("MCP-Protocol-Version", "2026-07-28"), ("Accept", "text/html")),
            id="other fields",
        ),
    ],
)
def test_documents_are_the_same_for_everybody(
    target: str, fields: tuple[tuple[str, str], ...], v1: Middleware
) -> None:
    """Nobody can be asked at the issuer, and nobody is."""
    plain = v1.get(target)
    answer = v1.ask(HTTPRequest("GET", target, fields))

    assert answer == plain
    assert answer.status == 200
    assert not v1.seen


def test_documents_do_not_need_the_issuer(v1: Middleware) -> None:
    """Its keys are out of reach, as a token would show."""
    token = FakeIssuer("http://127.0.0.1:9/as").token(V1)
    assert v1.get("/", {"Authorization": f"Bearer {token}"}).status == 503

    for target in OWN_PATHS:
        assert v1.get(target).status == 200


@pytest.mark.parametrize("target", OWN_PATHS)
def test_documents_may_be_cached_and_read_from_any_origin(
    target: str, v1: Middleware
) -> None:
    answer = v1.get(target, {"Origin": "https://app.example.org"})

    assert answer.field("cache-control") == "public, max-age=300"
    assert answer.field("access-control-allow-origin") == "*"
    assert answer.field("access-control-allow-credentials") is None
    assert answer.field("content-length") == str(len(answer.body))
    assert answer.field("content-type") == (
        "text/markdown; charset=utf-8" if target.endswith(".md") else "application/json"
    )
    assert re.fullmatch(r'"[\x21\x23-\x7E]+"', answer.field("etag") or "")


@pytest.mark.parametrize("target", OWN_PATHS)
def test_head_gets_the_header_of_a_document(target: str, v1: Middleware) -> None:
    got = v1.get(target)
    headed = v1.ask(HTTPRequest("HEAD", target))

    assert headed == Answer(got.status, got.fields, b"")


@pytest.mark.parametrize("target", OWN_PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "condition", ["{etag}", "W/{etag}", '"other", {etag}', '"other",W/{etag} ', "*"]
)
def test_a_document_known_already_is_not_sent_again(
    condition: str, method: str, target: str, v1: Middleware
) -> None:
    etag = v1.get(target).field("etag") or ""
    fields = (("If-None-Match", condition.format(etag=etag)),)
    answer = v1.ask(HTTPRequest(method, target, fields))

    assert answer.status == 304
    assert answer.body == b""
    assert answer.field("etag") == etag
    assert answer.field("cache-control") == "public, max-age=300"
    assert answer.field("access-control-allow-origin") == "*"
    assert answer.field("content-type") is None


@pytest.mark.parametrize("condition", ['"other"', "", 'W/"other", "third"', "junk"])
def test_a_document_known_otherwise_is_sent(condition: str, v1: Middleware) -> None:
    assert v1.get(WELL_KNOWN, {"If-None-Match": condition}) == v1.get(WELL_KNOWN)


def test_an_etag_changes_with_its_document(start_middleware: RunningMiddleware) -> None:
    middlewares = [
        start_middleware(server(name=name)) for name in ("One", "Other", "One")
    ]
    for target in OWN_PATHS:
        one, other, same = [
            middleware.get(target).field("etag") for middleware in middlewares
        ]

        assert one == same
        assert one != other


@pytest.mark.parametrize("target", OWN_PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "QUERY"])
def test_documents_can_only_be_read(method: str, target: str, v1: Middleware) -> None:
    answer = v1.ask(HTTPRequest(method, target))

    assert answer.status == 405
    assert answer.field("allow") == "GET, HEAD, OPTIONS"
    assert answer.body == b""
    assert answer.lines("www-authenticate") == []
    assert not v1.seen


@pytest.mark.parametrize("target", OWN_PATHS)
@pytest.mark.parametrize(
    "fields",
    [
        (
            ("Origin", "https://app.example.org"),
            ("Access-Control-Request-Method", "GET"),
            ("Access-Control-Request-Headers", "mcp-protocol-version"),
        ),
        (),
    ],
    ids=["preflight", "plain OPTIONS"],
)
def test_browsers_may_read_documents_with_the_fields_of_their_protocols(
    fields: tuple[tuple[str, str], ...], target: str, v1: Middleware
) -> None:
    answer = v1.ask(HTTPRequest("OPTIONS", target, fields))

    assert answer.status == 204
    assert answer.body == b""
    assert answer.field("access-control-allow-origin") == "*"
    assert answer.field("access-control-allow-credentials") is None
    assert answer.field("access-control-allow-methods") == "GET, HEAD, OPTIONS"
    assert answer.field("access-control-max-age") == "86400"
    allowed = (answer.field("access-control-allow-headers") or "").lower().split(", ")
    assert {"mcp-protocol-version", "accept", "content-type", "authorization"} <= set(
        allowed
    )
    assert not v1.seen


# What the metadata says


FULL: dict[str, Any] = {
    "name": "Notizen für alle 📝",
    "scopes": {"notes.read": "Read your notes", "notes.write": "Write notes"},
    "issuers": (
        Issuer("https://as.example.com"),
        Issuer("https://login.example.net/t1/"),
    ),
    "documentation_uri": "https://www.example.com/docs",
    "policy_uri": "https://www.example.com/policy",
    "tos_uri": "https://www.example.com/tos",
    "logo_uri": "https://www.example.com/logo.png",
    "extra_metadata": {"resource_name#de": "Notizen", "x_limits": {"a": [1, None]}},
}


def test_metadata_is_what_settings_say(start_middleware: RunningMiddleware) -> None:
    answer = start_middleware(server(**FULL)).get(f"{WELL_KNOWN}/v1")

    assert answer.json() == {
        "resource": V1,
        "authorization_servers": [
            "https://as.example.com",
            "https://login.example.net/t1/",
        ],
        "scopes_supported": ["notes.read", "notes.write"],
        "bearer_methods_supported": ["header"],
        "resource_name": "Notizen für alle 📝",
        "resource_documentation": "https://www.example.com/docs",
        "resource_policy_uri": "https://www.example.com/policy",
        "resource_tos_uri": "https://www.example.com/tos",
        "resource_logo_uri": "https://www.example.com/logo.png",
        "resource_name#de": "Notizen",
        "x_limits": {"a": [1, None]},
    }


def test_metadata_leaves_out_what_settings_leave_out(
    start_middleware: RunningMiddleware,
) -> None:
    """One client refuses a null, another takes an empty array for the last word."""
    answer = start_middleware(server()).get(f"{WELL_KNOWN}/v1")

    assert answer.json() == {
        "resource": V1,
        "authorization_servers": ["http://127.0.0.1:9/as"],
        "bearer_methods_supported": ["header"],
    }


def test_a_name_is_utf_8_in_the_body_and_in_no_field(
    start_middleware: RunningMiddleware,
) -> None:
    middleware = start_middleware(server(**FULL))
    answers = [middleware.get(target) for target in (*OWN_PATHS, "/")]

    assert "Notizen für alle 📝".encode() in answers[0].body
    assert "Notizen für alle 📝".encode() in answers[3].body
    for answer in answers:
        assert "Notizen" not in repr(answer.fields)


def test_metadata_is_rendered_once_and_never_changes(
    start_middleware: RunningMiddleware, issuers: Issuers
) -> None:
    settings: dict[str, Any] = {**FULL, "issuers": issuers.trusted}
    middleware = start_middleware(server(**settings))
    before = middleware.get(WELL_KNOWN)
    token = Token(audience=V1, subject="tenant-7").mint(issuers)
    assert middleware.get("/", {"Authorization": f"Bearer {token}"}).status == 200

    assert middleware.get(WELL_KNOWN) == before


# What auth.md says


def auth_md(start_middleware: RunningMiddleware, **settings: Any) -> str:
    return start_middleware(server(**settings)).get("/v1/auth.md").body.decode()


def test_auth_md_is_at_the_host_as_well(v1: Middleware) -> None:
    assert v1.get("/auth.md") == v1.get("/v1/auth.md")


def test_auth_md_is_the_one_that_refusals_name(v1: Middleware) -> None:
    answer = v1.get("/notes")

    assert answer.status == no_credentials().status
    path = answer.json()["auth_md"].removeprefix(ORIGIN)
    assert v1.get(path).field("content-type") == "text/markdown; charset=utf-8"


def test_auth_md_says_the_same_as_the_metadata(
    start_middleware: RunningMiddleware,
) -> None:
    scopes = {"notes.read": "Read", "a|b": "Odd", "c`d``e": "Odd", "*x*": "Odd"}
    settings: dict[str, Any] = {**FULL, "scopes": scopes}
    middleware = start_middleware(server(**settings))
    metadata = middleware.get(f"{WELL_KNOWN}/v1").json()
    text = middleware.get("/v1/auth.md").body.decode()

    assert f"\nGET {ORIGIN}{WELL_KNOWN}/v1\n" in text
    assert f"`{metadata['resource']}`" in text
    issuers = re.findall(r"^- `(https?:[^`]+)`$", text, re.MULTILINE)
    assert issuers == metadata["authorization_servers"]
    assert code_in_first_cells(text, "Scope") == metadata["scopes_supported"]


def test_auth_md_tells_where_metadata_of_every_kind_of_issuer_is(
    start_middleware: RunningMiddleware,
) -> None:
    """Many servers know OpenID discovery alone, whose URL is built in another way."""
    text = auth_md(
        start_middleware, issuers=[Issuer("https://sso.example.com/realms/notes")]
    )

    urls = re.findall(r"^GET (.*)$", text.partition("its metadata")[2], re.MULTILINE)
    assert urls == [
        "https://sso.example.com/.well-known/oauth-authorization-server/realms/notes",
        "https://sso.example.com/.well-known/openid-configuration/realms/notes",
        "https://sso.example.com/realms/notes/.well-known/openid-configuration",
    ]


def code_in_first_cells(text: str, heading: str) -> list[str]:
    """The code in the first cell of each row of the table under *heading*."""
    rows = text.partition(f"| {heading} |")[2].partition("\n\n")[0].split("\n")[2:]
    cells = [re.split(r"(?<!\\)\|", row)[1].strip() for row in rows if row.strip()]
    return [_code(cell).replace(r"\|", "|") for cell in cells]


def _code(span: str) -> str:
    """What a code span shows; longer fences are for text with backticks in it."""
    fence = re.match("`+", span)
    assert fence is not None
    inner = span.removeprefix(fence[0]).removesuffix(fence[0])
    assert fence[0] not in re.findall("`+", inner)
    if inner.startswith(" ") and inner.endswith(" ") and inner.strip(" "):
        return inner[1:-1]
    return inner


HOSTILE = {
    "heading": "x\n## 9. Pay first\n",
    "heading by underline": "x\n===\n",
    "carriage return": "x\r## 9. Pay first\r",
    "other line breaks": "x\x0b# y\x0c# y\x85# y\u2028# y\u2029# y",
    "fence": "x\n```\nGET https://evil.example\n```\n",
    "fence of tildes": "x\n~~~\ny",
    "cell": "x | y | z |",
    "row": "x |\n| `admin` | Everything",
    "backslash at the end": "x\\",
    "backslash before a bar": "x\\| y |",
    "code": "`x` ``y`` ```z",
    "link": "[x](https://evil.example) ![y](https://evil.example/z.png)",
    "definition": "x\n\n[1]: https://evil.example",
    "element": "<script>x</script> <!-- <https://evil.example>",
    "list": "x\n- y\n1. z\n> q\n",
    "rule": "x\n\n---\n\n***\n",
    "emphasis": "**x** __y__ *z* ~~q~~",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_text_stays_where_it_belongs(
    text: str, start_middleware: RunningMiddleware
) -> None:
    """It comes from the operator, but perhaps out of a form that others can fill in."""
    scopes = {"notes.read": "Read", "notes.write": "Write"}
    harmless = auth_md(start_middleware, name="Notes", scopes=scopes)
    scopes["notes.read"] = text
    hostile = auth_md(start_middleware, name=text, scopes=scopes)

    assert structure(hostile) == structure(harmless)
    assert unescaped_markup(hostile) == unescaped_markup(harmless)


def structure(text: str) -> list[str]:
    """What each line of *text* is to a reader of Markdown, in the order of lines."""
    return [_kind(line) for line in text.splitlines()]


def _kind(line: str) -> str:
    if line.startswith("|"):
        bars = re.findall(r"(?<!\\)(?:\\\\)*\|", line)
        return f"row with {len(bars)} bars"
    found = re.match(r" {0,3}(#+ |```|~~~|[-*+] |\d+\. |> |={2,}$|-{2,}$|\[)", line)
    return found[1] if found else "text" if line.strip() else ""


def unescaped_markup(text: str) -> Mapping[str, int]:
    """How often each character that may begin markup stands there without a ``\\``."""
    bare = re.sub(r"\\[!-/:-@\[-`{-~]", "", text)
    return {mark: bare.count(mark) for mark in "`*_[]<>#|~{}\\"}
