"""The application, made by a function: routes, the gate around them, and the counters."""

from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from facetrail.app import openapi
from facetrail.app.auth import HostGuard, Keys
from facetrail.app.bodies import problem_response
from facetrail.app.deps import PlainRoute
from facetrail.app.errors import Refused
from facetrail.app.limits import Gate, Load
from facetrail.app.metrics import Metrics
from facetrail.app.platform import Platform
from facetrail.app.routes import chat, collections, documents, health, models, page, reason, recommend, search
from facetrail.app.settings import Settings

ROUTERS = (
    search.router,
    recommend.router,
    documents.router,
    models.router,
    reason.router,
    chat.router,
    collections.router,
    health.router,
    page.router,
)
"""In the order in which paths are matched: the busiest first."""

DETAILS = {404: "there is no such route; /openapi.json lists them", 405: "this route does not take that method"}


def create_app(settings: Settings, platform: Platform, *, host: str = "127.0.0.1") -> FastAPI:
    """The ASGI application. `host` is the address it will listen on; the platform opens and closes by itself.

    Raises NotFound for a key file that cannot be read.
    """
    keys, metrics = Keys.of(settings), Metrics()
    load = Load(settings, platform.searching.check, metrics)
    metrics.in_flight.set_function(lambda: load.in_flight)
    metrics.queued.set_function(lambda: platform.searching.queued)
    metrics.watch(platform.gauges)
    app = FastAPI(
        title="facetrail",
        version=version("facetrail"),
        docs_url=None,  # FastAPI's documentation pages load scripts from other sites
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # its check costs every request; see metrics.py
    )
    app.state.platform, app.state.metrics, app.state.load = platform, metrics, load
    for router in ROUTERS:
        app.router.routes.extend(router.routes)  # flat: an included router costs a second matching
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_middleware(
        Gate,
        routes={(method, r.path): r for r in _plain_routes(app) if "{" not in r.path for method in r.methods or ()},
        settings=settings,
        keys=keys,
        guard=HostGuard.of(settings, keys, host),
        load=load,
        metrics=metrics,
    )
    app.openapi = lambda: openapi.describe(app)  # type: ignore[method-assign]
    return app


def _plain_routes(app: FastAPI) -> list[PlainRoute]:
    return [route for route in app.routes if isinstance(route, PlainRoute)]


def _http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if error.status_code == 405:  # Starlette names the methods of the first matching route only
        matching = [r for r in _plain_routes(request.app) if r.path_regex.match(request.scope["path"])]
        headers["allow"] = ", ".join(sorted({method for route in matching for method in route.methods or ()}))
    refused = Refused(error.status_code, DETAILS.get(error.status_code, error.detail), headers=headers)
    return problem_response(refused, request.scope["path"])
