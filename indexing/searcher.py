"""A collection opened for searching and writing: the one object behind the command line, the service and notebooks."""

import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from facetrail.indexing import generation, questions, search
from facetrail.indexing.build import (
    Progress,
    build_generation,
    encode_missing,
    no_progress,
    recorded_encoder,
    require_same_encoder,
)
from facetrail.indexing.collection import Collection, DeleteResult, PutResult
from facetrail.indexing.filters import parse_filter
from facetrail.indexing.filters_tree import Group
from facetrail.indexing.index import Float32Array
from facetrail.indexing.questions import Question
from facetrail.indexing.read_write_lock import ReadWriteLock
from facetrail.indexing.request import SearchRequest, SearchResult
from facetrail.indexing.state import IndexState
from facetrail.models.errors import Conflict, InvalidInput, NotFound
from facetrail.models.records import Document
from facetrail.models.text.encoder import TextEncoder


@dataclass(frozen=True)
class CollectionInfo:
    """What `facetrail index info` and `GET /v1/collections` show."""

    name: str
    n_documents: int
    modes: tuple[str, ...]
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

    def search(self, request: SearchRequest) -> SearchResult:
        """One page of hits. Raises InvalidInput, NotFound (like, examples) and Gone (cursor)."""
        state = self._state
        mode = questions.resolve_mode(request, state)
        vector, encoding_ms = None, 0.0
        if request.query is not None and mode != "lexical":
            started = time.perf_counter()
            vector = self.encoder.encode_queries([request.query])[0]
            encoding_ms = (time.perf_counter() - started) * 1e3
        with self._lock.read():
            state = self._state
            question = self._question(state, request, mode, vector)
            answer = search.run(state, request, mode, question)
            if vector is not None:
                answer.timings_ms["encode"] = encoding_ms
            return search.page(state, request, mode, question, answer, self.collection.get_many)

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
        vectors = self.encoder.encode_queries(list(queries)) if mode != "lexical" else None
        with self._lock.read():
            state = self._state
            answers = search.run_many(state, requests, mode, vectors)
            return [
                search.page(state, r, mode, Question(r.query), a, self.collection.get_many)
                for r, a in zip(requests, answers, strict=True)
            ]

    # -- documents ---------------------------------------------------------------------------------------------------

    def get(self, document_id: str) -> Document:
        """One document; NotFound if it does not live."""
        return self.collection.get(document_id)

    def put(self, documents: Sequence[Document]) -> PutResult:
        """Adds or replaces documents. On disk, and visible to the next search, when this returns."""
        with self._writing:
            vectors = None
            if self._state.dense is not None and documents:
                vectors = self.encoder.encode_documents([d.content for d in documents])
            result = self.collection.put(documents, vectors)
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
            encoded, vectors, bare = self._with_vectors(state, documents)
            state.put(encoded, vectors)
            state.put(bare, None)
        state.change = changes[-1].number

    def _with_vectors(
        self, state: IndexState, documents: list[Document]
    ) -> tuple[list[Document], Float32Array | None, list[Document]]:
        """(documents with a vector, their vectors, documents without)."""
        fingerprint = self.collection.settings.encoder_fingerprint
        if state.dense is None or fingerprint is None:
            return [], None, documents
        try:
            return documents, self.collection.vectors_for([d.id for d in documents], fingerprint), []
        except NotFound:
            # A build that was interrupted between reading and encoding leaves documents without a vector.
            n_bare = self.collection.count_without_vectors(fingerprint)
            without = {d.id for d, _ in self.collection.documents_without_vectors(fingerprint, n_bare)}
            encoded = [d for d in documents if d.id not in without]
            vectors = self.collection.vectors_for([d.id for d in encoded], fingerprint)
            return encoded, vectors, [d for d in documents if d.id in without]

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
                modes=tuple(m for m, part in (("lexical", state.lexical), ("dense", state.dense)) if part is not None),
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
