"""Probes and counters."""

from fastapi import APIRouter, Request, Response

from facetrail.app.bodies import json_response, problem_response
from facetrail.app.deps import PlainRoute, answers, metrics_of, platform_of
from facetrail.app.shapes import StateShape
from facetrail.models.errors import Unavailable

router = APIRouter(route_class=PlainRoute, tags=["service"])


@router.get("/healthz", responses=answers(StateShape))
async def healthz(request: Request) -> Response:
    """200 while the process lives."""
    return json_response({"state": "alive"})


@router.get("/readyz", responses=answers(StateShape))
async def readyz(request: Request) -> Response:
    """200 when collections are open and encoders warm; 503 while starting and stopping."""
    state = platform_of(request).state
    if state != "ready":
        return problem_response(Unavailable(f"the service is {state}; ask again soon"), request.scope["path"])
    return json_response({"state": state})


@router.get(
    "/metrics",
    responses={
        200: {"description": "Prometheus exposition format", "content": {"text/plain": {"schema": {"type": "string"}}}}
    },
)
async def metrics(request: Request) -> Response:
    """Counters for Prometheus."""
    return Response(metrics_of(request).text(), media_type="text/plain; version=0.0.4; charset=utf-8")
