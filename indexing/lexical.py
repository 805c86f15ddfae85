"""BM25 with exact deletes.

idf(t) = ln(1 + (N − df + ½) / (df + ½)),  score(q, d) = Σ_t qtf · idf(t) · tf / (tf + k1 · (1 − b + b · |d| / avgdl))

N, df and Σ|d| count live documents only, over all segments. Sums run in float64 in the terms' byte order, so after any
sequence of changes scores equal those of a fresh index of the surviving documents bit for bit.
"""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from facetrail.indexing import lexical_store
from facetrail.indexing.analysis import Analyser, AnalyserConfig
from facetrail.indexing.index import EMPTY_HITS, BoolArray, Float64Array, Hits, Int64Array
from facetrail.indexing.lexical_inversion import count_terms, impact_table
from facetrail.indexing.lexical_search import Scratch, Weighted, ranked, score_rows, search_segment
from facetrail.indexing.lexical_segment import Forward, Segment, Tail, Uint32Array, join
from facetrail.indexing.lexical_terms import UNKNOWN, Vocabulary
from facetrail.indexing.request import TermContribution
from facetrail.models.errors import Conflict, Damaged

TAIL_ROWS = 256
"""Documents in the tail before it becomes a segment: scanning them costs about as much as one window of postings."""
BULK_CHUNK = 20_000
"""Documents analysed before their token ids are counted; bounds the memory of a bulk add."""
LARGEST_MERGE = 32_768
"""Segments with this many documents are left to `compact`, so that no single add waits for a long merge."""


class LexicalConfig(BaseModel):
    """BM25's parameters and the analyser."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k1: float = Field(default=0.9, ge=0)
    """How slowly repeated occurrences stop to count."""
    b: float = Field(default=0.4, ge=0, le=1)
    """How much long documents are held back; 0: not at all."""
    analyser: AnalyserConfig = AnalyserConfig()


class AnalysedQuery(NamedTuple):
    """The terms of a query with their counts, and what the caller may want to tell whoever asked."""

    terms: dict[str, int]
    warnings: list[str]


class LexicalIndex:
    """An `Index[str, str]`. Searches may run in parallel with each other, not with changes."""

    def __init__(self, config: LexicalConfig | None = None) -> None:
        self.config = config or LexicalConfig()
        self.analyser = Analyser(self.config.analyser)
        self._scratch = Scratch()
        self._table: tuple[Float64Array, Float64Array] = (np.full(3, -1.0), np.empty(0))
        self._segments: list[Segment] = []
        self._n_live = self._total_length = 0
        self._start_from(Segment.build(*join([]), 0), Vocabulary.of([]))

    def _start_from(self, segment: Segment, vocabulary: Vocabulary) -> None:
        self._segments = [segment]
        self._tail = Tail()
        self._vocabulary = vocabulary
        self._df = np.zeros(max(1024, len(vocabulary)), np.int64)
        self._df[: len(vocabulary)] = np.diff(segment.postings.offsets)
        self._n_live = len(segment)
        self._total_length = int(segment.forward.lengths.sum(dtype=np.int64))

    def __len__(self) -> int:
        return self._n_live

    @property
    def n_dead(self) -> int:
        """Removed documents that still take space."""
        return self._tail.n_dead + sum(segment.n_dead for segment in self._segments)

    @property
    def needs_compaction(self) -> bool:
        """More than 8 segments, or more than a fifth of the stored documents dead."""
        return len(self._segments) > 8 or self.n_dead > 0.2 * (self._n_live + self.n_dead)

    @property
    def avgdl(self) -> float:
        """Mean length of the live documents in tokens; 1 where there is none."""
        return self._total_length / self._n_live if self._total_length else 1.0

    def document_frequencies(self) -> dict[str, int]:
        """In how many live documents each term occurs; terms of removed documents only are not listed."""
        df = self._df[: len(self._vocabulary)].tolist()
        return {term: n for term, n in zip(self._vocabulary.terms(), df, strict=True) if n}

    # ---- changes

    def add(self, ordinals: Sequence[int], texts: Sequence[str]) -> None:
        """Adds documents. KeyError where an ordinal is negative, repeated or in the index already."""
        if len(ordinals) != len(texts):
            raise ValueError(f"{len(ordinals)} ordinals for {len(texts)} texts")
        if len(set(ordinals)) != len(ordinals):
            raise KeyError("an ordinal occurs twice in one call")
        for ordinal in ordinals if self._n_live else ():
            if self._locate(ordinal) is not None:
                raise KeyError(ordinal)
        if ordinals and min(ordinals) < 0:
            raise KeyError(min(ordinals))
        if len(texts) > TAIL_ROWS:
            self._add_segment(np.asarray(ordinals, np.int64), texts)
            return
        for ordinal, text in zip(ordinals, texts, strict=True):
            self._add_one(int(ordinal), text)

    def _add_one(self, ordinal: int, text: str) -> None:
        words = self.analyser.terms(text)
        counts = Counter(words)
        add = self._vocabulary.add
        ids = [add(term) for term in counts]
        self._grow_df()
        self._tail.append(ordinal, ids, [min(tf, 65_535) for tf in counts.values()], len(words))
        self._df[ids] += 1
        self._n_live += 1
        self._total_length += len(words)
        if len(self._tail) >= TAIL_ROWS:
            self._seal()

    def _add_segment(self, ordinals: Int64Array, texts: Sequence[str]) -> None:
        parts = []
        for first in range(0, len(texts), BULK_CHUNK):
            chunk = slice(first, first + BULK_CHUNK)
            forward = self._analyse(texts[chunk])
            self._grow_df()
            self._df += np.bincount(forward.terms, minlength=len(self._df))
            self._total_length += int(forward.lengths.sum(dtype=np.int64))
            parts.append((ordinals[chunk], forward))
        self._n_live += len(texts)
        self._segments.append(Segment.build(*join(parts), len(self._vocabulary)))

    def _analyse(self, texts: Sequence[str]) -> Forward:
        analyser, add = self.analyser, self._vocabulary.add
        ids: dict[str, int] = {}  # surface word → term id, so that each is stemmed and looked up once; -1: stop word
        flat: list[int] = []
        starts = np.zeros(len(texts) + 1, np.int64)
        for row, text in enumerate(texts):
            words = analyser.words(text)
            try:
                flat.extend([ids[word] for word in words])
            except KeyError:
                for word in words:
                    if word not in ids:
                        ids[word] = -1 if analyser.is_stop_word(word) else add(analyser.term(word))
                flat.extend([ids[word] for word in words])
            starts[row + 1] = len(flat)
        counted, tfs, offsets, lengths = count_terms(np.asarray(flat, np.int32), starts, len(self._vocabulary))
        return Forward(offsets, counted, tfs, lengths)

    def _grow_df(self) -> None:
        if len(self._vocabulary) > len(self._df):
            self._df = np.concatenate([self._df, np.zeros(len(self._vocabulary), np.int64)])

    def _seal(self) -> None:
        """Turns the tail into a segment, together with the newest segments that are not much larger."""
        parts, size = [self._tail.survivors()], len(self._tail)
        while len(self._segments) > 1 and len(self._segments[-1]) <= min(2 * size, LARGEST_MERGE):
            last = self._segments.pop()
            size += len(last)
            parts.append(last.survivors())
        self._segments.append(Segment.build(*join(parts), len(self._vocabulary)))
        self._tail = Tail()

    def _locate(self, ordinal: int) -> tuple[Segment | Tail, int] | None:
        row = self._tail.rows.get(ordinal)
        if row is not None:
            return self._tail, row
        for segment in self._segments:
            row = segment.row_of(ordinal)
            if row is not None:
                return segment, row
        return None

    def remove(self, ordinals: Sequence[int]) -> None:
        """Removes documents; statistics forget them at once. KeyError, and no change, where one is not there."""
        places = []
        for ordinal in ordinals:
            place = self._locate(ordinal)
            if place is None:
                raise KeyError(ordinal)
            places.append((ordinal, *place))
        if len(set(ordinals)) != len(ordinals):
            raise KeyError("an ordinal occurs twice in one call")
        for ordinal, part, row in places:
            if isinstance(part, Tail):
                part.kill(ordinal)
            else:
                part.live[row] = False
                part.n_dead += 1
            forward = part.forward
            self._df[forward.terms[forward.offsets[row] : forward.offsets[row + 1]]] -= 1
            self._n_live -= 1
            self._total_length -= int(forward.lengths[row])

    def compact(self) -> None:
        """Rewrites the live documents as one segment; scores do not change."""
        self._start_from(*self._compacted())

    def _compacted(self) -> tuple[Segment, Vocabulary]:
        parts: list[Segment | Tail] = [*self._segments, self._tail]
        ordinals, forward = join([part.survivors() for part in parts if len(part)])
        used = np.flatnonzero(self._df[: len(self._vocabulary)]).tolist()
        terms = self._vocabulary.terms()
        used.sort(key=terms.__getitem__)
        new_ids: Uint32Array = np.zeros(len(terms), np.uint32)
        new_ids[used] = np.arange(len(used), dtype=np.uint32)
        renumbered = forward._replace(terms=new_ids[forward.terms])
        vocabulary = Vocabulary.of([terms[i] for i in used])
        return Segment.build(ordinals, renumbered, len(used)), vocabulary

    # ---- searches

    def analyse_query(self, text: str) -> AnalysedQuery:
        """The terms that a search for this text looks up, with a warning where there are none."""
        counts = Counter(self.analyser.query_terms(text))
        warnings = [] if counts else ["the query holds no word to look up; the lexical source found nothing"]
        return AnalysedQuery(dict(sorted(counts.items())), warnings)

    def search(self, query: str, k: int, *, allowed: BoolArray | None = None) -> Hits:
        """The k best documents and all ties with the k-th. A query without known terms finds nothing."""
        return self.search_terms(self.analyse_query(query).terms, k, allowed=allowed)

    def search_many(
        self, queries: Sequence[str], k: int, *, allowed: BoolArray | None = None, n_threads: int = 1
    ) -> list[Hits]:
        """`search` for each query; the kernels of several threads run at the same time."""
        if n_threads == 1:
            return [self.search(query, k, allowed=allowed) for query in queries]
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(n_threads) as pool:
            return list(pool.map(lambda query: self.search(query, k, allowed=allowed), queries))

    def search_terms(self, terms: dict[str, int], k: int, *, allowed: BoolArray | None = None) -> Hits:
        """`search` for terms that are analysed already, in byte order, with their counts in the query."""
        weighted = self._weigh(terms)
        if k <= 0 or weighted is None:
            return EMPTY_HITS
        scratch = self._scratch
        scratch.fit(max(map(len, self._segments)), len(self._df))
        found = [search_segment(part, weighted, k, allowed, scratch) for part in self._segments if len(part)]
        if len(self._tail):
            rows, tail = self._tail.visible_rows(allowed), self._tail
            found.append(score_rows(tail.ordinals, tail.forward, rows, weighted, scratch, is_ordered=False))
        return ranked(found, k)

    def _idf(self, df: int) -> float:
        return math.log(1.0 + (self._n_live - df + 0.5) / (df + 0.5))

    def _weigh(self, terms: dict[str, int]) -> Weighted | None:
        ids, weights, is_ordered, last = [], [], True, UNKNOWN
        for term, count in terms.items():
            term_id = self._vocabulary.id_of(term)
            if term_id != UNKNOWN and (df := int(self._df[term_id])) > 0:
                ids.append(term_id)
                weights.append(count * self._idf(df))
                is_ordered, last = is_ordered and term_id > last, term_id
        if not ids:
            return None
        return Weighted(np.array(ids, np.int64), np.array(weights), max(ids), is_ordered, *self._impacts())

    def _impacts(self) -> tuple[Float64Array, Float64Array]:
        """(k1, b, avgdl) and the table of impacts, kept until avgdl changes."""
        norm, table = self._table
        if norm[2] != self.avgdl:
            norm = np.array([self.config.k1, self.config.b, self.avgdl])
            table = impact_table(*norm)
            self._table = (norm, table)
        return norm, table

    def explain(self, query: str, ordinal: int) -> list[TermContribution]:
        """Each matching term's share of the document's score, in byte order; added left to right they give its bits.

        KeyError where the ordinal is not in the index.
        """
        place = self._locate(ordinal)
        if place is None:
            raise KeyError(ordinal)
        part, row = place
        forward, config, shares = part.forward, self.config, []
        at = slice(int(forward.offsets[row]), int(forward.offsets[row + 1]))
        tfs = dict(zip(forward.terms[at].tolist(), forward.tfs[at].tolist(), strict=True))
        scale = config.k1 * ((1.0 - config.b) + config.b * (int(forward.lengths[row]) / self.avgdl))
        for term, count in self.analyse_query(query).terms.items():
            term_id = self._vocabulary.id_of(term)
            tf = tfs.get(term_id, 0)
            if tf:
                df = int(self._df[term_id])
                idf = self._idf(df)
                shares.append(TermContribution(term, tf, df, idf, count * idf * (tf / (tf + scale))))
        return shares

    # ---- disk

    def save(self, folder: Path) -> None:
        """Writes the live documents, compacted, under their ordinals."""
        segment, vocabulary = self._compacted()
        description = {"config": self.config.model_dump(), "analyser_fingerprint": self.analyser.fingerprint}
        lexical_store.write(folder, description, segment, vocabulary)

    @classmethod
    def open(cls, folder: Path) -> "LexicalIndex":
        """Maps what `save` wrote. Damaged where a file is not what was written, Conflict for another analyser."""
        description = lexical_store.read_description(folder)
        try:
            config = LexicalConfig.model_validate(description["config"])
            fingerprint = description["analyser_fingerprint"]
        except (KeyError, ValidationError) as error:
            path = folder / lexical_store.DESCRIPTION
            raise Damaged(f"{path} is damaged: its configuration cannot be read; rebuild the index") from error
        index = cls(config)
        if fingerprint != index.analyser.fingerprint:
            raise Conflict(f"{folder} was built with another version of the analyser: rebuild the index")
        index._start_from(*lexical_store.read(folder, description))
        return index
