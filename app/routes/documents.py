"""Documents: put, get and delete. Ids may hold slashes and any other character."""

from fastapi import APIRouter, Request, Response

from facetrail.app.bodies import check_tree, json_response, read_json, read_query
from facetrail.app.deps import PlainRoute, answers, platform_of, takes, takes_parameters
from facetrail.app.payloads import written_document
from facetrail.app.schemas import CollectionParameter, DeleteBody, DocumentIn, DocumentsBody
from facetrail.app.shapes import DeleteShape, DocumentShape, PutShape
from facetrail.models.errors import InvalidInput, NotFound
from facetrail.models.records import MAX_ID_BYTES, Document, Section

router = APIRouter(route_class=PlainRoute, tags=["documents"])


@router.put(
    "/v1/documents",
    openapi_extra=takes(DocumentsBody),
    responses=answers(PutShape, 400, 403, 404, 408, 409, 413, 415, 422),
)
async def put_documents(request: Request) -> Response:
    """Adds or replaces documents. They are on disk, and found by the next search, when the answer comes."""
    platform = platform_of(request)
    body, _ = await read_json(request, DocumentsBody, platform.settings)
    _check_count(len(body.documents), platform.settings.max_documents, "documents")
    documents = [_document(d, n, platform.settings.max_json_depth) for n, d in enumerate(body.documents)]
    return json_response(await platform.write(platform.collection(body.collection), lambda s: s.put(documents)))


def _check_count(n: int, n_allowed: int, what: str) -> None:
    if n > n_allowed:
        raise InvalidInput(
            f"{n:,} {what} in one request, at most {n_allowed:,} are taken; send several", pointer=f"/{what}"
        )


def _document(given: DocumentIn, number: int, max_depth: int) -> Document:
    if len(given.id.encode()) > MAX_ID_BYTES:
        raise InvalidInput(
            f"the id of document {number} is longer than {MAX_ID_BYTES} bytes; shorten it",
            pointer=f"/documents/{number}/id",
        )
    check_tree(given.metadata, max_depth, f"/documents/{number}/metadata")
    sections = tuple(Section(s.name, s.text) for s in given.sections)
    return Document(given.id, given.text, given.title, sections, given.metadata)


@router.get(
    "/v1/documents/{id:path}",
    openapi_extra=takes_parameters(CollectionParameter, path=("id",)),
    responses=answers(DocumentShape, 404, 422),
)
async def get_document(request: Request) -> Response:
    """One document."""
    platform = platform_of(request)
    collection = platform.collection(read_query(request, CollectionParameter, {}).collection)
    document_id = request.path_params["id"]
    return json_response(written_document(await platform.in_thread(lambda: collection.searcher.get(document_id))))


@router.delete(
    "/v1/documents/{id:path}",
    openapi_extra=takes_parameters(CollectionParameter, path=("id",)),
    responses=answers(DeleteShape, 403, 404, 409, 422),
)
async def delete_document(request: Request) -> Response:
    """Deletes one document; 404 if it does not exist."""
    platform = platform_of(request)
    collection = platform.collection(read_query(request, CollectionParameter, {}).collection)
    document_id = request.path_params["id"]
    result = await platform.write(collection, lambda s: s.delete([document_id]))
    if not result.deleted:
        raise NotFound(f"there is no document {document_id!r} in {collection.name!r}; check the id")
    return json_response(result)


@router.post(
    "/v1/documents/delete",
    openapi_extra=takes(DeleteBody),
    responses=answers(DeleteShape, 400, 403, 404, 408, 409, 413, 415, 422),
)
async def delete_documents(request: Request) -> Response:
    """Deletes by ids or by a filter, in one transaction; ids that do not exist are named in `missing`."""
    platform = platform_of(request)
    body, _ = await read_json(request, DeleteBody, platform.settings)
    collection = platform.collection(body.collection)
    ids, tree = body.ids, body.filter
    if (ids is None) == (tree is None):
        raise InvalidInput("say what to delete with either `ids` or `filter`, and not with both", pointer="/ids")
    if tree is not None:
        check_tree(tree, platform.settings.max_json_depth, "/filter")
        return json_response(await platform.write(collection, lambda s: s.delete_where(tree)))
    assert ids is not None
    _check_count(len(ids), platform.settings.max_documents, "ids")
    return json_response(await platform.write(collection, lambda s: s.delete(ids)))
