"""A client of the service, with the names of its HTTP API and typed answers.

    with Client("http://127.0.0.1:8000") as client:
        for hit in client.search("graph neural networks", limit=5).hits:
            print(hit.score, hit.id)

Light to import. What the service refuses is raised as `ServiceProblem`; the service alone judges what it is sent.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack
from urllib.parse import quote

from pydantic import BaseModel

from facetrail.app.client_http import Connection, ServiceProblem
from facetrail.app.client_options import ReasonOptions, RecommendOptions, SearchOptions
from facetrail.app.recommend_schemas import EventIn, EventsShape, RecommendShape
from facetrail.app.schemas import DocumentIn
from facetrail.app.shapes import (
    BatchShape,
    BuildShape,
    CollectionShape,
    CollectionsShape,
    DeleteShape,
    DocumentShape,
    EmbeddingsShape,
    FieldsShape,
    JudgementsShape,
    PutShape,
    RerankShape,
    SearchShape,
    StateShape,
)

if TYPE_CHECKING:
    from facetrail.app.client_reason import ReasonEvent
    from facetrail.app.reason_schemas import AnswerShape

__all__ = ["Client", "ServiceProblem"]

Answer = TypeVar("Answer", bound=BaseModel)


class Client:
    """One service. Thread-safe; close it, or use it in a `with`.

    url: where the service listens. key: an API key, where the service has some. timeout: seconds for connecting and for
    each part of an answer. retries: how often a busy service is asked again, each time after the wait that its
    `Retry-After` asks for; nothing else is ever sent twice.

    Every call raises ServiceProblem (status, title, detail, kind, pointer), Unavailable where nobody answers, and
    InvalidInput for what JSON cannot carry. `collection` names one of the service's; its first one if left out.
    """

    def __init__(self, url: str, *, key: str | None = None, timeout: float = 30.0, retries: int = 3) -> None:
        self._connection = Connection(url, key=key, timeout=timeout, retries=retries)

    def close(self) -> None:
        """Closes the connections."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- finding -----------------------------------------------------------------------------------------------------

    def search(self, query: str | None = None, **options: Unpack[SearchOptions]) -> SearchShape:
        """One page of hits, by a query, or by `like`, `vector` or `recommend`; `cursor` brings the next page."""
        return self._post("/v1/search", {"query": query, **options}, SearchShape)

    def search_batch(self, queries: Sequence[str], **options: Unpack[SearchOptions]) -> BatchShape:
        """The same search for many queries; one result a query, in their order."""
        collection = options.pop("collection", None)
        body = {"queries": list(queries), "search": options, "collection": collection}
        return self._post("/v1/search/batch", body, BatchShape)

    def recommend(self, user: str | None = None, **options: Unpack[RecommendOptions]) -> RecommendShape:
        """Items for a stored user, for a `history` sent along, or near to an `item` (strategy `similar`)."""
        return self._post("/v1/recommend", {"user": user, **options}, RecommendShape)

    def reason(self, question: str, **options: Unpack[ReasonOptions]) -> "AnswerShape":
        """A question's answer from the collection, with checked citations; it takes seconds, so give a `timeout`."""
        from facetrail.app.reason_schemas import AnswerShape  # only who asks for answers waits for its imports

        return self._post("/v1/reason", {"question": question, **options}, AnswerShape)

    def reason_events(self, question: str, **options: Unpack[ReasonOptions]) -> "Iterator[ReasonEvent]":
        """The same as it is written: what was retrieved, the answer's parts as they come, the whole answer last."""
        from facetrail.app.client_reason import reason_events

        return reason_events(self._connection, {"question": question, **options, "stream": True})

    # -- what is stored ----------------------------------------------------------------------------------------------

    def put_documents(
        self, documents: Sequence[DocumentIn | Mapping[str, Any]], *, collection: str | None = None
    ) -> PutShape:
        """Adds or replaces documents, all or none; found by the next search when it returns."""
        body = {"documents": [_written(d) for d in documents], "collection": collection}
        return self._ask("PUT", "/v1/documents", PutShape, body)

    def get_document(self, document_id: str, *, collection: str | None = None) -> DocumentShape:
        """One document."""
        return self._ask("GET", _place(document_id), DocumentShape, query=_named(collection))

    def delete_document(self, document_id: str, *, collection: str | None = None) -> DeleteShape:
        """Deletes one document; a problem of status 404 if it does not exist."""
        return self._ask("DELETE", _place(document_id), DeleteShape, query=_named(collection))

    def delete_documents(
        self,
        ids: Sequence[str] | None = None,
        *,
        filter: Mapping[str, Any] | None = None,
        collection: str | None = None,
    ) -> DeleteShape:
        """Deletes by ids or by a filter; ids that do not exist are named in `missing`."""
        body = {"ids": None if ids is None else list(ids), "filter": filter, "collection": collection}
        return self._post("/v1/documents/delete", body, DeleteShape)

    def events(self, events: Sequence[EventIn | Mapping[str, Any]], *, collection: str | None = None) -> EventsShape:
        """Adds what users did, all or none; part of the next recommendation when it returns. Sending twice is safe."""
        return self._post(
            "/v1/events", {"events": [_written(e) for e in events], "collection": collection}, EventsShape
        )

    # -- the encoder by itself ---------------------------------------------------------------------------------------

    def embeddings(
        self,
        input: str | Sequence[str],
        *,
        input_type: Literal["document", "query"] = "document",
        facet: str | None = None,
        collection: str | None = None,
    ) -> EmbeddingsShape:
        """Unit vectors of texts, or of one facet of them."""
        texts = input if isinstance(input, str) else list(input)
        body = {"input": texts, "input_type": input_type, "facet": facet, "collection": collection}
        return self._post("/v1/embeddings", body, EmbeddingsShape)

    def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int | None = None,
        method: Literal["dense", "lexical", "hybrid"] | None = None,
        collection: str | None = None,
    ) -> RerankShape:
        """Given texts in the order in which they answer a query."""
        body = {
            "query": query,
            "documents": list(documents),
            "top_n": top_n,
            "method": method,
            "collection": collection,
        }
        return self._post("/v1/rerank", body, RerankShape)

    # -- the service -------------------------------------------------------------------------------------------------

    def collections(self) -> CollectionsShape:
        """Every collection in service."""
        return self._ask("GET", "/v1/collections", CollectionsShape)

    def collection(self, name: str) -> CollectionShape:
        """One collection, with the state of its newest build."""
        return self._ask("GET", f"/v1/collections/{_quoted(name)}", CollectionShape)

    def fields(self, name: str) -> FieldsShape:
        """The metadata fields of a collection that a filter may name."""
        return self._ask("GET", f"/v1/collections/{_quoted(name)}/fields", FieldsShape)

    def judgements(self, name: str) -> JudgementsShape:
        """The judged queries of a collection, with their relevant documents."""
        return self._ask("GET", f"/v1/collections/{_quoted(name)}/judgements", JudgementsShape)

    def build(self, name: str) -> BuildShape:
        """Starts folding all writes of a collection into a new generation; `collection` says how it goes on."""
        return self._ask("POST", f"/v1/collections/{_quoted(name)}/build", BuildShape)

    def health(self) -> StateShape:
        """The service's state once it is ready; a problem of status 503 if it is not so after the retries."""
        return self._ask("GET", "/readyz", StateShape)

    # -- the wire ----------------------------------------------------------------------------------------------------

    def _post(self, path: str, body: Mapping[str, Any], shape: type[Answer]) -> Answer:
        return self._ask("POST", path, shape, body)

    def _ask(
        self,
        method: str,
        path: str,
        shape: type[Answer],
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        given = None if body is None else {name: value for name, value in body.items() if value is not None}
        return shape.model_validate_json(self._connection.ask(method, path, body=given, query=query))


def _written(given: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    return given.model_dump(exclude_unset=True) if isinstance(given, BaseModel) else dict(given)


def _named(collection: str | None) -> dict[str, str]:
    return {} if collection is None else {"collection": collection}


def _quoted(name: str) -> str:
    return quote(name, safe="").replace(".", "%2E")  # `..` would be taken for the folder above


def _place(document_id: str) -> str:
    return f"/v1/documents/{_quoted(document_id)}"
