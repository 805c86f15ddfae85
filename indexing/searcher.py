"""A collection opened for searching and writing: the one object behind the command line, the service and notebooks."""

import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from facetrail.indexing import generation, questions, search
from facetrail.indexing.build import build_generation
from facetrail.indexing.catching_up import catch_up, open_state
from facetrail.indexing.collection import Collection, DeleteResult, PutResult
from facetrail.indexing.collection_info import CollectionInfo, describe
from facetrail.indexing.encoding import (
    encode_batch,
    encode_missing,
    recorded_encoder,
    require_facets,
    require_same_encoder,
)
from facetrail.indexing.facet_search import facet_ask, uses_facets
from facetrail.indexing.filters import parse_filter
from facetrail.indexing.filters_tree import Filter, Group
from facetrail.indexing.progress import Progress, no_progress
from facetrail.indexing.questions import Question
from facetrail.indexing.read_write_lock import ReadWriteLock
from facetrail.indexing.request import Hit, Mode, SearchRequest, SearchResult
from facetrail.indexing.state import IndexState
from facetrail.models.errors import InvalidInput
from facetrail.models.records import Document
from facetrail.models.text.encoder import TextEncoder
from facetrail.models.text.facets import FacetEncoder, FacetQuery


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
            state = open_state(collection, verify=verify)
            if encoder is not None:
                require_same_encoder(collection, encoder)
            searcher = cls(collection, state, encoder)
            catch_up(collection, state)
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
        names = state.facets.config.names
        ask = facet_ask(request.facets, names, query, lambda text: self.facet_encoder.sentences(text))
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

    def ids_where(self, condition: Filter) -> list[str]:
        """The living documents that pass."""
        with self._lock.read():
            state = self._state
            mask = state.fields.evaluate(condition, state.ids.n_ordinals)
            return [state.ids.id(o) for o in np.flatnonzero(mask).tolist()]

    def neighbours(self, document_id: str, k: int, condition: Filter) -> list[Hit]:
        """The k documents that pass and are nearest to one by their vectors; it is not among them.

        Raises NotFound for an id that does not live and InvalidInput without a dense index.
        """
        with self._lock.read():
            state = self._state
            request = SearchRequest(like=document_id, mode="dense")
            question = questions.question_for_like(
                state, document_id, questions.resolve_mode(request, state), self.collection.get_many
            )
            assert state.dense is not None
            assert question.vector is not None
            allowed = state.fields.evaluate(condition, state.ids.n_ordinals)
            allowed[list(question.excluded)] = False
            hits = state.ids.sort(state.dense.search(question.vector, k, allowed=allowed))
            return [Hit(state.ids.id(o), s) for o, s in zip(hits.ordinals.tolist(), hits.scores.tolist(), strict=True)]

    def nearest_among(self, document_ids: Sequence[str], targets: Sequence[str], k: int) -> dict[str, list[str]]:
        """Each document's k nearest of the targets by their vectors; documents without a vector are left out.

        Empty without a dense index.
        """
        with self._lock.read():
            state = self._state
            asked = {o: i for i in document_ids if (o := state.ids.ordinal(i)) is not None and o not in state.bare}
            if state.dense is None or not asked:
                return {}
            allowed = np.zeros(state.ids.n_ordinals, bool)
            allowed[[o for i in targets if (o := state.ids.ordinal(i)) is not None]] = True
            found = state.dense.search_many(state.dense.vectors(list(asked)), k, allowed=allowed)
            return {
                document_id: [state.ids.id(o) for o in state.ids.sort(hits).ordinals.tolist()]
                for document_id, hits in zip(asked.values(), found, strict=True)
            }

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
            result = self.collection.delete(self.ids_where(condition))
            self._apply_changes()
            return result

    def _apply_changes(self) -> None:
        with self._lock.write():
            catch_up(self.collection, self._state)

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
        state = open_state(self.collection, verify=True)
        catch_up(self.collection, state)
        with self._writing, self._lock.write():
            catch_up(self.collection, state)
            self._state = state
        return True

    @property
    def generation(self) -> int:
        """Number of the generation that searches read."""
        return self._state.number

    def info(self) -> CollectionInfo:
        """Counts and names; cheap."""
        with self._lock.read():
            return describe(self.collection, self._state)
