"""A collection opened for searching and writing: the one object behind the command line, the service and notebooks."""

import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from facetrail.indexing import generation, questions, search
from facetrail.indexing.build import (
    Progress,
    build_generation,
    encode_batch,
    encode_missing,
    no_progress,
    recorded_encoder,
    require_facets,
    require_same_encoder,
    stored_encoding,
)
from facetrail.indexing.collection import Collection, DeleteResult, PutResult
from facetrail.indexing.facet_search import FacetAsk, facet_weights, uses_facets
from facetrail.indexing.filters import parse_filter
from facetrail.indexing.filters_tree import Group
from facetrail.indexing.questions import Question
from facetrail.indexing.read_write_lock import ReadWriteLock
from facetrail.indexing.request import Mode, SearchRequest, SearchResult
from facetrail.indexing.state import Encoded, IndexState
from facetrail.models.errors import Conflict, InvalidInput, NotFound
from facetrail.models.records import Document
from facetrail.models.text.encoder import TextEncoder
from facetrail.models.text.facets import FacetEncoder, FacetQuery


@dataclass(frozen=True)
class CollectionInfo:
    """What `facetrail index info` and `GET /v1/collections` show."""

    name: str
    n_documents: int
    modes: tuple[str, ...]
    facets: tuple[str, ...]
    """Names of the facets that can be asked for."""
    generation: int
    n_written_since: int
    """Changes after the generation, served from memory until the next build."""
    encoder: str | None
    encoder_fingerprint: str | None
    dim: int | None
    dense_kind: str | None
    n_without_vector: int
    bytes_on_disk: int
    writable: bool


class Searcher:
    """Thread-safe. Searches run beside each other; a write is visible to the next search when `put` returns.

    A generation switch waits for running searches and drops none.
    """

    def __init__(self, collection: Collection, state: IndexState, encoder: TextEncoder | None) -> None:
        """Use `Searcher.open`."""
        self.collection = collection
        self._encoder = encoder
        self._state = state
        self._lock = ReadWriteLock()
        self._writing = threading.Lock()  # one put, delete or rebuild at a time
        self._loading = threading.Lock()

    @classmethod
    def open(
        cls, folder: Path, *, encoder: TextEncoder | None = None, writable: bool = False, verify: bool = True
    ) -> Self:
        """Opens a built collection. The encoder is loaded at the first search that needs it, unless given.

        Raises NotFound (no collection there), Conflict (not built yet, other encoder, second writer), Damaged.
        """
        collection = Collection.open(folder, writable=writable)
        try:
            state = _open_state(collection, verify=verify)
            if encoder is not None:
                require_same_encoder(collection, encoder)
            searcher = cls(collection, state, encoder)
            searcher._catch_up(state)
        except BaseException:
            collection.close()
            raise
        return searcher

    def close(self) -> None:
        """Releases the database and the writer lock."""
        self.collection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- searching ---------------------------------------------------------------------------------------------------

    @property
    def encoder(self) -> TextEncoder:
        """The encoder the collection was built with, loaded on first use."""
        with self._loading:
            if self._encoder is None:
                self._encoder = recorded_encoder(self.collection)
            return self._encoder

    @property
    def facet_encoder(self) -> FacetEncoder:
        """The same, as an encoder with facets. Raises Conflict if it has not the collection's."""
        return require_facets(self.collection, self.encoder)

    def search(self, request: SearchRequest) -> SearchResult:
        """One page of hits. Raises InvalidInput, NotFound (like, examples) and Gone (cursor)."""
        state = self._state
        mode = questions.resolve_mode(request, state)
        faceted = uses_facets(request, mode, state)
        vector, facet_query, encoding_ms = None, None, 0.0
        if request.query is not None and mode != "lexical":
            started = time.perf_counter()
            if faceted:
                facet_query = self.facet_encoder.encode_facet_query(request.query)
                vector = facet_query.single
            else:
                vector = self.encoder.encode_queries([request.query])[0]
            encoding_ms = (time.perf_counter() - started) * 1e3
        elif faceted and request.explain:
            _ = self.encoder  # it knows the sentences; loaded now, because nothing slow may run under the lock
        with self._lock.read():
            state = self._state
            question = self._question(state, request, mode, vector)
            if faceted:
                question = self._with_facets(state, request, question, facet_query)
            answer = search.run(state, request, mode, question)
            if vector is not None:
                answer.timings_ms["encode"] = encoding_ms
            return search.page(state, request, mode, question, answer, self.collection.get_many)

    def _with_facets(
        self, state: IndexState, request: SearchRequest, question: Question, query: FacetQuery | None
    ) -> Question:
        """The question with what the facet index needs; query None: that of the document it is `like`."""
        assert state.facets is not None
        if query is None:
            assert request.like is not None  # resolve_mode refused vectors and examples
            assert question.vector is not None
            query = state.facets.query(questions.living_ordinal(state, request.like), question.vector)
        weights = facet_weights(request.facets, state.facets.config.names, query.prior)
        ask = FacetAsk(query, weights, lambda text: self.facet_encoder.sentences(text))
        return replace(question, facets=ask)

    def _question(self, state: IndexState, request: SearchRequest, mode: str, vector: Any) -> Question:
        if request.query is not None:
            return Question(request.query, vector)
        if request.like is not None:
            return questions.question_for_like(
                state, request.like, questions.resolve_mode(request, state), self.collection.get_many
            )
        if request.recommend is not None:
            return questions.question_for_examples(state, request.recommend)
        assert state.dense is not None
        assert request.vector is not None
        return Question(vector=questions.unit_vector(request.vector, state.dense.dim))

    def search_many(self, queries: Sequence[str], request: SearchRequest) -> list[SearchResult]:
        """The same search for many query texts; encoding and scoring run in batches. `request.query` is not read."""
        requests = [request.model_copy(update={"query": q}) for q in queries]
        if not requests:
            return []
        mode = questions.resolve_mode(requests[0], self._state)
        if uses_facets(requests[0], mode, self._state):
            return self._search_many_by_facets(requests, mode)
        vectors = self.encoder.encode_queries(list(queries)) if mode != "lexical" else None
        with self._lock.read():
            state = self._state
            answers = search.run_many(state, requests, mode, vectors)
            return [
                search.page(state, r, mode, Question(r.query), a, self.collection.get_many)
                for r, a in zip(requests, answers, strict=True)
            ]

    def _search_many_by_facets(self, requests: Sequence[SearchRequest], mode: Mode) -> list[SearchResult]:
        asked = [self.facet_encoder.encode_facet_query(r.query or "") for r in requests]
        results = []
        with self._lock.read():
            state = self._state
            for request, query in zip(requests, asked, strict=True):
                question = self._with_facets(state, request, Question(request.query, query.single), query)
                answer = search.run(state, request, mode, question)
                results.append(search.page(state, request, mode, question, answer, self.collection.get_many))
        return results

    # -- documents ---------------------------------------------------------------------------------------------------

    def get(self, document_id: str) -> Document:
        """One document; NotFound if it does not live."""
        return self.collection.get(document_id)

    def put(self, documents: Sequence[Document]) -> PutResult:
        """Adds or replaces documents. On disk, and visible to the next search, when this returns."""
        with self._writing:
            if self._state.dense is not None and documents:
                encoded = encode_batch(self.collection, self.encoder, [d.content for d in documents])
                result = self.collection.put(documents, encoded.vectors, encoded.facets)
            else:
                result = self.collection.put(documents)
            self._apply_changes()
            return result

    def delete(self, document_ids: Sequence[str]) -> DeleteResult:
        """Deletes what lives among the ids and names what did not."""
        with self._writing:
            result = self.collection.delete(document_ids)
            self._apply_changes()
            return result

    def delete_where(self, tree: dict[str, Any]) -> DeleteResult:
        """Deletes every document that a filter keeps, in one transaction. Raises InvalidInput for a filter that says
        nothing: it would keep, and so delete, everything.
        """
        condition = parse_filter(tree)
        if isinstance(condition, Group) and not (condition.must or condition.should or condition.must_not):
            raise InvalidInput(
                'an empty filter would delete every document; name what goes, for instance {"year": {"lt": 2000}}',
                pointer="/filter",
            )
        with self._writing:
            with self._lock.read():
                state = self._state
                mask = state.fields.evaluate(condition, state.ids.n_ordinals)
                ids = [state.ids.id(o) for o in np.flatnonzero(mask).tolist()]
            result = self.collection.delete(ids)
            self._apply_changes()
            return result

    def _apply_changes(self) -> None:
        with self._lock.write():
            self._catch_up(self._state)

    def _catch_up(self, state: IndexState) -> None:
        """Applies the changes a state has not seen; the caller keeps searches out of that state."""
        changes = self.collection.changes_since(state.change)
        if not changes:
            return
        last = {change.id: change for change in changes}
        state.discard(i for i, change in last.items() if change.kind == "delete")
        written = [i for i, change in last.items() if change.kind == "put"]
        documents = [d for d in self.collection.get_many(written) if d is not None]
        if documents:
            with_vector, encoded, bare = self._with_vectors(state, documents)
            state.put(with_vector, encoded)
            state.put(bare, None)
        state.change = changes[-1].number

    def _with_vectors(
        self, state: IndexState, documents: list[Document]
    ) -> tuple[list[Document], Encoded | None, list[Document]]:
        """(documents with a vector, their vectors and facet data, documents without)."""
        fingerprint = self.collection.settings.encoder_fingerprint
        if state.dense is None or fingerprint is None:
            return [], None, documents
        try:
            with self.collection.snapshot() as view:
                return documents, stored_encoding(view, [d.id for d in documents]), []
        except NotFound:
            # A build that was interrupted between reading and encoding leaves documents without a vector.
            n_bare = self.collection.count_without_vectors(fingerprint)
            without = {d.id for d, _ in self.collection.documents_without_vectors(fingerprint, n_bare)}
            rest = [d for d in documents if d.id not in without]
            with self.collection.snapshot() as view:
                encoded = stored_encoding(view, [d.id for d in rest])
            return rest, encoded, [d for d in documents if d.id in without]

    def field_counts(self, limit: int = 20) -> dict[str, Any]:
        """The metadata keys that filters can name, each with its kinds and most frequent values."""
        with self._lock.read():
            fields = self._state.fields
            return {
                info.key: {**asdict(info), "values": [asdict(c) for c in fields.counts(info.key, limit=limit)]}
                for info in fields.keys()  # noqa: SIM118 - a method of ours, not a mapping
            }

    # -- generations -------------------------------------------------------------------------------------------------

    def rebuild(self, progress: Progress = no_progress) -> int:
        """Folds all writes into a new generation, in the background of searches and writes; returns its number."""
        if self.collection.settings.encoder is not None:
            encode_missing(self.collection, self.encoder, progress)
        number = build_generation(self.collection, progress)
        self.refresh()
        return number

    def refresh(self) -> bool:
        """Switches to the generation that CURRENT names, if it is another one; searches under way finish on theirs."""
        if generation.current_number(self.collection.folder) == self._state.number:
            return False
        state = _open_state(self.collection, verify=True)
        self._catch_up(state)
        with self._writing, self._lock.write():
            self._catch_up(state)
            self._state = state
        return True

    def info(self) -> CollectionInfo:
        """Counts and names; cheap."""
        with self._lock.read():
            state, settings = self._state, self.collection.settings
            return CollectionInfo(
                name=settings.name,
                n_documents=len(state.ids),
                modes=state.modes,
                facets=settings.facets or (),
                generation=state.number,
                n_written_since=self.collection.last_change - generation.built_from(self.collection.folder),
                encoder=settings.encoder,
                encoder_fingerprint=settings.encoder_fingerprint,
                dim=settings.dim,
                dense_kind=state.dense.kind if state.dense is not None else None,
                n_without_vector=len(state.ids) - len(state.dense) if state.dense is not None else 0,
                bytes_on_disk=sum(f.stat().st_size for f in self.collection.folder.rglob("*") if f.is_file()),
                writable=self.collection.writable,
            )


def _open_state(collection: Collection, *, verify: bool) -> IndexState:
    opened = generation.open_generation(collection.folder, verify=verify)
    if opened is None:
        raise Conflict(
            f"the collection in {collection.folder} has no index yet; "
            f"finish it with `facetrail index build --out {collection.folder} --resume`"
        )
    path, manifest = opened
    return IndexState.open(path, number=manifest.number, change=manifest.built_from_change)
