"""The collections in service: what they hold, which fields can be filtered, and rebuilding them."""

from fastapi import APIRouter, Request, Response

from facetrail.app.bodies import json_response
from facetrail.app.deps import PlainRoute, answers, platform_of, takes_parameters
from facetrail.app.shapes import BuildShape, CollectionShape, CollectionsShape, FieldsShape, JudgementsShape
from facetrail.models.errors import NotFound

router = APIRouter(route_class=PlainRoute, tags=["collections"])
NAMED = takes_parameters(None, path=("name",))


@router.get("/v1/collections", responses=answers(CollectionsShape))
async def list_collections(request: Request) -> Response:
    """Every collection in service."""
    platform = platform_of(request)
    default = platform.collection(None).name if platform.collections else None
    open_ones = list(platform.collections.values())
    described = await platform.in_thread(lambda: [platform.describe(c) for c in open_ones])
    return json_response({"collections": described, "default": default})


@router.get("/v1/collections/{name}", openapi_extra=NAMED, responses=answers(CollectionShape, 404))
async def get_collection(request: Request) -> Response:
    """One collection, with the state of its newest build."""
    platform = platform_of(request)
    collection = platform.collection(request.path_params["name"])
    return json_response(await platform.in_thread(lambda: platform.describe(collection)))


@router.get("/v1/collections/{name}/fields", openapi_extra=NAMED, responses=answers(FieldsShape, 404))
async def get_fields(request: Request) -> Response:
    """The metadata fields that a filter may name, with their most frequent values."""
    platform = platform_of(request)
    collection = platform.collection(request.path_params["name"])
    return json_response({"fields": await platform.in_thread(collection.searcher.field_counts)})


@router.get("/v1/collections/{name}/judgements", openapi_extra=NAMED, responses=answers(JudgementsShape, 404))
async def get_judgements(request: Request) -> Response:
    """The judged queries with their relevant documents; an empty list where `facetrail index judge` stored none."""
    platform = platform_of(request)
    collection = platform.collection(request.path_params["name"])
    return json_response({"queries": await platform.in_thread(collection.judgements.all)})


@router.post(
    "/v1/collections/{name}/build",
    openapi_extra=NAMED,
    status_code=202,
    responses=answers(BuildShape, 403, 404, 409, success=202),
)
async def build_collection(request: Request) -> Response:
    """Starts folding all writes into a new index generation; searches go on, and the switch drops none."""
    platform = platform_of(request)
    collection = platform.collection(request.path_params["name"])
    state = platform.start_build(collection)
    return json_response(state, 202, {"location": f"/v1/collections/{request.path_params['name']}/build"})


@router.get("/v1/collections/{name}/build", openapi_extra=NAMED, responses=answers(BuildShape, 404))
async def get_build(request: Request) -> Response:
    """The state of the newest build."""
    platform = platform_of(request)
    collection = platform.collection(request.path_params["name"])
    if collection.build.status == "none":
        raise NotFound(f"no build of {collection.name!r} was started since the service began; POST to this path")
    return json_response(collection.build)
