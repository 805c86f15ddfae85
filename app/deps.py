"""What a route needs: the platform of its application, and a route class that costs next to nothing.

Routes take the request alone and read their body through `facetrail.app.bodies`. FastAPI's own solving of parameters
and re-validation of answers cost more than a small search, so `PlainRoute` leaves them out and keeps FastAPI's routing
and OpenAPI description; the bodies' and answers' schemas are given by `takes` and `answers`.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from facetrail.app.metrics import Metrics
from facetrail.app.platform import Platform
from facetrail.app.shapes import ProblemShape

Endpoint = Callable[[Request], Awaitable[Response]]
REFERENCE = "#/components/schemas/{model}"


class PlainRoute(APIRoute):
    """A FastAPI route that hands the request to its endpoint and sends the response it returns."""

    def __init__(self, path: str, endpoint: Endpoint, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.path_regex = re.compile(self.path_regex.pattern, re.DOTALL)  # ids may hold line breaks

        async def run(scope: Scope, receive: Receive, send: Send) -> None:
            response = await endpoint(Request(scope, receive))
            await response(scope, receive, send)

        self.app = run


def platform_of(request: Request) -> Platform:
    """The platform that the application serves."""
    platform: Platform = request.scope["app"].state.platform
    return platform


def metrics_of(request: Request) -> Metrics:
    """The application's counters."""
    metrics: Metrics = request.scope["app"].state.metrics
    return metrics


def takes(model: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI description of a JSON body; `facetrail.app.openapi` moves its definitions to the components."""
    schema = model.model_json_schema(ref_template=REFERENCE)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def takes_parameters(
    model: type[BaseModel] | None, *, encoded: tuple[str, ...] = (), path: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The OpenAPI description of a query string and of the path's names; `encoded` parameters carry JSON."""
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for name in path
    ]
    schema = model.model_json_schema(ref_template=REFERENCE) if model is not None else {"properties": {}}
    for name, described in schema["properties"].items():
        description = described.pop("description", "")
        place = {"content": {"application/json": {"schema": described}}} if name in encoded else {"schema": described}
        parameters.append({"name": name, "in": "query", "required": False, "description": description, **place})
    return {"parameters": parameters}


PROBLEMS = {
    400: "Not HTTP, or a body that ended early",
    401: "No API key, or an unknown one",
    403: "A read key on a write route, or a request from another site's page",
    404: "The document, collection or route does not exist",
    405: "The route does not take this method",
    408: "The body did not arrive in time",
    409: "The state of the collection forbids it",
    410: "The cursor's index generation was replaced",
    413: "The body is too large",
    415: "Not JSON, or compressed",
    421: "A host name that this service does not answer to",
    422: "The request cannot be used as it is; `pointer` names the field",
    503: "Starting, stopping or too busy; come again after `Retry-After` seconds",
}


def answers(model: type[BaseModel] | None, *statuses: int, success: int = 200) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of a route's answers: its success and the problems it may answer."""
    everywhere = (401, 421, 503)
    described: dict[int | str, dict[str, Any]] = {
        status: {
            "description": PROBLEMS[status],
            "content": {
                "application/problem+json": {"schema": {"$ref": REFERENCE.format(model=ProblemShape.__name__)}}
            },
        }
        for status in sorted({*everywhere, *statuses})
    }
    if model is not None:
        described[success] = {"model": model, "description": (model.__doc__ or "").splitlines()[0]}
    return described
