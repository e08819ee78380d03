"""The same small application in each framework, mounted in each way it knows.

A handler writes down that it ran. ``build`` is given where to do so, and what puts the
middleware in front of an application.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import count
from typing import Any, TypeAlias

import falcon
import falcon.asgi
from fastapi import APIRouter, FastAPI
from flask import Blueprint, Flask
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from tests.differential.targets import HANDLERS, PREFIX, WEBSOCKET

App: TypeAlias = Any
"""ASGI or WSGI."""
Ran: TypeAlias = list[str]
"""The handlers that ran, by name."""
Protect: TypeAlias = Callable[[App], App]
Build: TypeAlias = Callable[[Ran, Protect], App]


@dataclass(frozen=True)
class Deployment:
    kind: str
    build: Build
    mount: str = ""
    """``root_path`` or ``SCRIPT_NAME``, said by the server."""
    wire: tuple[str, ...] = ("",)
    """What comes before the paths of the handlers in ordinary requests."""
    patterns: str = ""
    """What comes before the paths of the handlers in the patterns, as the docs say."""
    is_mounted_unseen: bool = False
    """Whether patterns might be written with the prefix, though they need not."""
    adds_slash: bool = False
    """Whether what mounts the application adds one to each path."""


# Starlette and FastAPI


def _starlette_routes(ran: Ran) -> list[Route]:
    def endpoint(name: str) -> Callable[[Request], Any]:
        async def answer(request: Request) -> PlainTextResponse:
            ran.append(name)
            return PlainTextResponse(name)

        return answer

    return [
        Route(
            handler.template("{%s}", "{%s:path}"),
            endpoint(handler.name),
            methods=[handler.method],
        )
        for handler in HANDLERS
    ]


def starlette(ran: Ran, protect: Protect) -> App:
    return protect(Starlette(routes=_starlette_routes(ran)))


def starlette_mount(ran: Ran, protect: Protect) -> App:
    inner = Starlette(routes=_starlette_routes(ran))
    return protect(Starlette(routes=[Mount(PREFIX, inner)]))


def in_starlette_mount(build: Build) -> Build:
    """The middleware stands inside of the mount."""
    return lambda ran, protect: Starlette(routes=[Mount(PREFIX, build(ran, protect))])


def fastapi(ran: Ran, protect: Protect) -> App:
    return protect(_fastapi(ran))


def fastapi_root_path(ran: Ran, protect: Protect) -> App:
    return protect(_fastapi(ran, root_path=PREFIX))


def fastapi_router(ran: Ran, protect: Protect) -> App:
    app = FastAPI(openapi_url=None)
    app.include_router(_fastapi_router(ran), prefix=PREFIX)
    return protect(app)


def fastapi_mount(ran: Ran, protect: Protect) -> App:
    app = FastAPI(openapi_url=None)
    app.mount(PREFIX, _fastapi(ran))
    return protect(app)


def _fastapi(ran: Ran, **options: Any) -> FastAPI:
    app = FastAPI(openapi_url=None, **options)
    app.include_router(_fastapi_router(ran))
    return app


def _fastapi_router(ran: Ran) -> APIRouter:
    router = APIRouter()
    for handler in HANDLERS:

        def endpoint(name: str) -> Callable[[], Any]:
            async def answer() -> str:
                ran.append(name)
                return name

            return answer

        router.add_api_route(
            handler.template("{%s}", "{%s:path}"),
            endpoint(handler.name),
            methods=[handler.method],
        )
    return router


# Flask and Quart, which register alike


def _register(app: Any, ran: Ran, *, is_async: bool) -> None:
    for handler in HANDLERS:

        def answer(name: str = handler.name, **parameters: str) -> str:
            ran.append(name)
            return name

        async def answer_async(name: str = handler.name, **parameters: str) -> str:
            ran.append(name)
            return name

        app.add_url_rule(
            handler.template("<%s>", "<path:%s>"),
            handler.name.replace(".", "_"),
            answer_async if is_async else answer,
            methods=[handler.method],
        )


def _flask(ran: Ran, **options: bool) -> Flask:
    app = Flask(__name__, static_folder=None)
    for name, setting in options.items():
        setattr(app.url_map, name, setting)
    _register(app, ran, is_async=False)
    return app


def flask(ran: Ran, protect: Protect) -> App:
    return protect(_flask(ran))


def flask_lenient(ran: Ran, protect: Protect) -> App:
    return protect(_flask(ran, strict_slashes=False, merge_slashes=False))


def flask_blueprint(ran: Ran, protect: Protect) -> App:
    app = Flask(__name__, static_folder=None)
    blueprint = Blueprint("api", __name__)
    _register(blueprint, ran, is_async=False)
    app.register_blueprint(blueprint, url_prefix=PREFIX)
    return protect(app)


def flask_dispatcher(ran: Ran, protect: Protect) -> App:
    return protect(DispatcherMiddleware(_not_found, {PREFIX: _flask(ran)}))


def in_dispatcher(build: Build) -> Build:
    """The middleware stands inside of the mount."""
    return lambda ran, protect: DispatcherMiddleware(
        _not_found, {PREFIX: build(ran, protect)}
    )


def _not_found(environ: Any, start_response: Any) -> list[bytes]:
    start_response("404 Not Found", [])
    return []


def quart(ran: Ran, protect: Protect) -> App:
    app: Any = import_module("quart").Quart(__name__, static_folder=None)
    _register(app, ran, is_async=True)
    return protect(app)


def quart_blueprint(ran: Ran, protect: Protect) -> App:
    module: Any = import_module("quart")
    app = module.Quart(__name__, static_folder=None)
    blueprint = module.Blueprint("api", __name__)
    _register(blueprint, ran, is_async=True)
    app.register_blueprint(blueprint, url_prefix=PREFIX)
    return protect(app)


# Django


def configure_django() -> None:
    settings: Any = import_module("django.conf").settings
    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"],
            SECRET_KEY="of no worth",
            MIDDLEWARE=[],
            LOGGING_CONFIG=None,
        )
        import_module("django").setup(set_prefix=False)
        # They close connections to databases, which takes a thread each time.
        signals: Any = import_module("django.core.signals")
        signals.request_started.receivers.clear()
        signals.request_finished.receivers.clear()


def django(
    kind: str, *, forced: bool = False, prefix: str = "", appends_slash: bool = False
) -> Build:
    """*forced*: ``FORCE_SCRIPT_NAME``; *prefix*: of ``include()``."""

    def build(ran: Ran, protect: Protect) -> App:
        configure_django()
        conf: Any = import_module("django.conf").settings
        urls: Any = import_module("django.urls")
        views = _django_views(ran, is_async=kind == "asgi")
        if prefix:
            views = [urls.path(prefix.strip("/") + "/", urls.include(views))]
        urlconf = types.ModuleType("urlconf")
        vars(urlconf).update(urlpatterns=views)
        forced_name = PREFIX if forced else None
        conf.FORCE_SCRIPT_NAME = forced_name
        common = "django.middleware.common.CommonMiddleware"
        conf.MIDDLEWARE = [common] if appends_slash else []
        if kind == "asgi":
            handler = import_module("django.core.handlers.asgi").ASGIHandler()
        else:
            handler = import_module("django.core.handlers.wsgi").WSGIHandler()

        # Settings are of the process, and there is more than one application in it.
        def set_up() -> None:
            conf.FORCE_SCRIPT_NAME = forced_name
            conf.ROOT_URLCONF = urlconf
            urls.set_urlconf(urlconf)

        async def asgi(scope: Any, receive: Any, send: Any) -> None:
            set_up()
            await handler(scope, receive, send)

        def wsgi(environ: Any, start_response: Any) -> Any:
            set_up()
            return handler(environ, start_response)

        return protect(asgi if kind == "asgi" else wsgi)

    return build


def _django_views(ran: Ran, *, is_async: bool) -> list[Any]:
    """Views stand by path there, and look at the method themselves."""
    urls: Any = import_module("django.urls")
    http: Any = import_module("django.http")

    def respond(path: str, request: Any) -> Any:
        name = f"{'GET' if request.method == 'HEAD' else request.method} {path}"
        if name not in {handler.name for handler in HANDLERS}:
            return http.HttpResponseNotAllowed(["GET"])
        ran.append(name)
        return http.HttpResponse(name)

    def view(path: str) -> Any:
        def answer(request: Any, **parameters: str) -> Any:
            return respond(path, request)

        async def answer_async(request: Any, **parameters: str) -> Any:
            return respond(path, request)

        return answer_async if is_async else answer

    return [
        urls.path(
            handler.template("<str:%s>", "<path:%s>").removeprefix("/"),
            view(handler.path),
        )
        for handler in {handler.path: handler for handler in HANDLERS}.values()
    ]


# Litestar


def litestar(path: str = "") -> Build:
    def build(ran: Ran, protect: Protect) -> App:
        return protect(_litestar(ran, path))

    return build


def _litestar(ran: Ran, path: str) -> App:
    module: Any = import_module("litestar")

    def endpoint(name: str, parameters: str) -> Any:
        async def answer() -> str:
            ran.append(name)
            return name

        return answer

    handlers = [
        module.route(
            handler.template("{%s:str}", "{%s:path}"),
            http_method=[handler.method],
        )(endpoint(handler.name, handler.path))
        for handler in HANDLERS
    ]
    return module.Litestar(
        handlers, path=path or None, openapi_config=None, logging_config=None
    )


def in_litestar_mount(build: Build) -> Build:
    """The middleware stands inside of what Litestar mounts."""

    def outer(ran: Ran, protect: Protect) -> App:
        module: Any = import_module("litestar")
        inner = build(ran, protect)

        async def mounted(scope: Any, receive: Any, send: Any) -> None:
            await inner(scope, receive, send)

        mounted.__annotations__ = {
            "scope": import_module("litestar.types").Scope,
            "receive": import_module("litestar.types").Receive,
            "send": import_module("litestar.types").Send,
            "return": None,
        }
        mount = module.asgi(PREFIX, is_mount=True, copy_scope=True)(mounted)
        return module.Litestar([mount], openapi_config=None, logging_config=None)

    return outer


# Falcon


def falcon_wsgi(prefix: str = "") -> Build:
    return lambda ran, protect: protect(_falcon(falcon.App(), ran, prefix))


def falcon_asgi(prefix: str = "") -> Build:
    return lambda ran, protect: protect(_falcon(falcon.asgi.App(), ran, prefix))


def _falcon(app: Any, ran: Ran, prefix: str) -> App:
    is_async = isinstance(app, falcon.asgi.App)
    for path in dict.fromkeys(handler.path for handler in HANDLERS):
        template = next(h for h in HANDLERS if h.path == path).template(
            "{%s}", "{%s:path}"
        )
        app.add_route(prefix + template, _falcon_resource(path, ran, is_async))
    return app


def _falcon_resource(path: str, ran: Ran, is_async: bool) -> object:
    def responder(name: str) -> Any:
        def answer(self: Any, request: Any, response: Any, **parameters: str) -> None:
            ran.append(name)
            response.text = name

        async def answer_async(
            self: Any, request: Any, response: Any, **parameters: str
        ) -> None:
            ran.append(name)
            response.text = name

        return answer_async if is_async else answer

    responders = {
        f"on_{handler.method.lower()}": responder(handler.name)
        for handler in HANDLERS
        if handler.path == path
    }
    return type("Resource", (), responders)()


# Bottle


def bottle(ran: Ran, protect: Protect) -> App:
    return protect(_bottle(ran))


def bottle_mount(ran: Ran, protect: Protect) -> App:
    app: Any = import_module("bottle").Bottle()
    app.mount(PREFIX + "/", _bottle(ran))
    return protect(app)


def _bottle(ran: Ran) -> App:
    app: Any = import_module("bottle").Bottle()
    for handler in HANDLERS:

        def answer(name: str = handler.name, **parameters: str) -> str:
            ran.append(name)
            return name

        app.route(handler.template("<%s>", "<%s:path>"), handler.method, answer)
    return app


# BlackSheep


def blacksheep(ran: Ran, protect: Protect) -> App:
    return protect(_blacksheep(ran))


def blacksheep_mount(ran: Ran, protect: Protect) -> App:
    app: Any = import_module("blacksheep").Application(
        router=import_module("blacksheep").Router()
    )
    inner = _blacksheep(ran)
    app.mount(PREFIX, inner)

    async def start_inner(application: Any) -> None:
        await inner.start()

    app.on_start += start_inner
    return protect(app)


def _blacksheep(ran: Ran) -> App:
    module: Any = import_module("blacksheep")
    app = module.Application(router=module.Router())

    def endpoint(name: str) -> Any:
        async def answer(request: Any) -> Any:
            ran.append(name)
            return module.Response(200, content=module.TextContent(name))

        answer.__annotations__ = {"request": module.Request, "return": module.Response}
        return answer

    for handler in HANDLERS:
        path = handler.template("{%s}", "{path:%s}")
        app.router.add(handler.method, path, endpoint(handler.name))
    return app


# Sanic

_NAMES = count()


def sanic(*, url_prefix: str = "", is_strict: bool = False) -> Build:
    def build(ran: Ran, protect: Protect) -> App:
        module: Any = import_module("sanic")
        app = module.Sanic(f"Differential{next(_NAMES)}", configure_logging=False)
        # Start-up rewrites the class, which only goes well once in a process.
        app.config.update(TOUCHUP=False, MOTD=False)
        blueprint = module.Blueprint(
            "api", url_prefix=url_prefix or None, strict_slashes=is_strict
        )

        def endpoint(name: str) -> Any:
            async def answer(request: Any, **parameters: str) -> Any:
                ran.append(name)
                return module.response.text(name)

            return answer

        for index, handler in enumerate(HANDLERS):
            blueprint.add_route(
                endpoint(handler.name),
                handler.template("<%s:str>", "<%s:path>"),
                methods=[handler.method],
                name=f"handler{index}",
            )
        app.blueprint(blueprint)
        with suppress(KeyError):
            module.Sanic.unregister_app(app)
        return protect(app)

    return build


# Websockets


def starlette_websocket(ran: Ran, protect: Protect) -> App:
    async def answer(websocket: WebSocket) -> None:
        ran.append("websocket")
        await websocket.close()

    return protect(Starlette(routes=[WebSocketRoute(WEBSOCKET, answer)]))


def litestar_websocket(ran: Ran, protect: Protect) -> App:
    module: Any = import_module("litestar")

    async def answer(socket: Any) -> None:
        ran.append("websocket")
        await socket.close()

    answer.__annotations__ = {"socket": module.WebSocket, "return": None}
    handler = module.websocket("/live/{room:str}")(answer)
    return protect(module.Litestar([handler], openapi_config=None, logging_config=None))


def quart_websocket(ran: Ran, protect: Protect) -> App:
    app: Any = import_module("quart").Quart(__name__, static_folder=None)

    async def answer(room: str) -> None:
        ran.append("websocket")

    app.add_websocket("/live/<room>", "live", answer)
    return protect(app)


# All of them


def _bare(kind: str, build: Build) -> Deployment:
    return Deployment(kind, build)


def _server_mount(kind: str, build: Build) -> Deployment:
    """Told by the server; the proxy takes the prefix off, or the server does."""
    return Deployment(kind, build, mount=PREFIX, is_mounted_unseen=True)


def _own_mount(kind: str, build: Build, *wire: str) -> Deployment:
    """The application assumes a mount that the server does not tell of."""
    return Deployment(kind, build, wire=wire, is_mounted_unseen=True)


def _told_of_prefix(kind: str, build: Build) -> Deployment:
    """Both the server and the router know the prefix, as the router drops no mount."""
    return Deployment(
        kind, build, mount=PREFIX, wire=("", PREFIX), is_mounted_unseen=True
    )


def _behind(kind: str, build: Build) -> Deployment:
    """The router of the application knows the prefix: patterns name it."""
    return Deployment(kind, build, wire=(PREFIX,), patterns=PREFIX)


def _in_front(kind: str, build: Build) -> Deployment:
    """The middleware stands inside of a mount."""
    return Deployment(kind, build, wire=(PREFIX,), is_mounted_unseen=True)


DEPLOYMENTS = {
    "Starlette": _bare("asgi", starlette),
    "Starlette, server's root_path": _server_mount("asgi", starlette),
    "Starlette, Mount behind": _behind("asgi", starlette_mount),
    "Starlette, Mount in front": _in_front("asgi", in_starlette_mount(starlette)),
    "FastAPI": _bare("asgi", fastapi),
    "FastAPI, server's root_path": _server_mount("asgi", fastapi),
    "FastAPI(root_path)": _own_mount("asgi", fastapi_root_path, "", PREFIX),
    "FastAPI, include_router": _behind("asgi", fastapi_router),
    "FastAPI, mount behind": _behind("asgi", fastapi_mount),
    "FastAPI in Starlette's Mount": _in_front("asgi", in_starlette_mount(fastapi)),
    "Flask": _bare("wsgi", flask),
    "Flask, lenient": _bare("wsgi", flask_lenient),
    "Flask, SCRIPT_NAME": _server_mount("wsgi", flask),
    "Flask, blueprint": _behind("wsgi", flask_blueprint),
    "Flask, dispatcher behind": _behind("wsgi", flask_dispatcher),
    "Flask, dispatcher in front": _in_front("wsgi", in_dispatcher(flask)),
    "Django (WSGI)": _bare("wsgi", django("wsgi")),
    "Django (WSGI), APPEND_SLASH": _bare("wsgi", django("wsgi", appends_slash=True)),
    "Django (ASGI), APPEND_SLASH": _bare("asgi", django("asgi", appends_slash=True)),
    "Django (WSGI), SCRIPT_NAME": _server_mount("wsgi", django("wsgi")),
    "Django (WSGI), FORCE_SCRIPT_NAME": _own_mount(
        "wsgi", django("wsgi", forced=True), ""
    ),
    "Django (WSGI), include": _behind("wsgi", django("wsgi", prefix=PREFIX)),
    "Django (ASGI)": _bare("asgi", django("asgi")),
    "Django (ASGI), root_path": _server_mount("asgi", django("asgi")),
    "Django (ASGI), FORCE_SCRIPT_NAME": _behind("asgi", django("asgi", forced=True)),
    "Django (ASGI), include": _behind("asgi", django("asgi", prefix=PREFIX)),
    "Litestar": _bare("asgi", litestar()),
    "Litestar, server's root_path": _server_mount("asgi", litestar()),
    "Litestar(path)": _behind("asgi", litestar(PREFIX)),
    "Litestar in Starlette's Mount": _in_front("asgi", in_starlette_mount(litestar())),
    "Litestar in Litestar's mount": replace(
        _in_front("asgi", in_litestar_mount(litestar())), adds_slash=True
    ),
    "Quart": _bare("asgi", quart),
    "Quart, server's root_path": _server_mount("asgi", quart),
    "Quart, blueprint": _behind("asgi", quart_blueprint),
    "Falcon (WSGI)": _bare("wsgi", falcon_wsgi()),
    "Falcon (WSGI), SCRIPT_NAME": _server_mount("wsgi", falcon_wsgi()),
    "Falcon (WSGI), prefix": _behind("wsgi", falcon_wsgi(PREFIX)),
    "Falcon (ASGI)": _bare("asgi", falcon_asgi()),
    "Falcon (ASGI), root_path": _server_mount("asgi", falcon_asgi()),
    "Falcon (ASGI), prefix": _behind("asgi", falcon_asgi(PREFIX)),
    "Falcon (ASGI), prefix and root_path": _told_of_prefix("asgi", falcon_asgi(PREFIX)),
    "Falcon (ASGI) in Starlette's Mount": _in_front(
        "asgi", in_starlette_mount(falcon_asgi(PREFIX))
    ),
    "Bottle": _bare("wsgi", bottle),
    "Bottle, SCRIPT_NAME": _server_mount("wsgi", bottle),
    "Bottle, mount": _behind("wsgi", bottle_mount),
    "BlackSheep": _bare("asgi", blacksheep),
    "BlackSheep, root_path": _server_mount("asgi", blacksheep),
    "BlackSheep, mount": _behind("asgi", blacksheep_mount),
    "BlackSheep in Starlette's Mount": _in_front(
        "asgi", in_starlette_mount(blacksheep)
    ),
    "Sanic": _bare("asgi", sanic()),
    "Sanic, strict": _bare("asgi", sanic(is_strict=True)),
    "Sanic, root_path": _server_mount("asgi", sanic()),
    "Sanic, blueprint and root_path": _told_of_prefix("asgi", sanic(url_prefix=PREFIX)),
    "Sanic, blueprint": _behind("asgi", sanic(url_prefix=PREFIX)),
}
