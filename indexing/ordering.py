"""The id map and the total order: score descending, then id ascending in UTF-8 byte order."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from facetrail.indexing.index import Hits
from facetrail.models.errors import Damaged

IDS_FILE = "ids.json"


class IdMap:
    """Ordinal ↔ id, shared by all indexes of a generation.

    The first `n_sorted` ordinals (those of the generation) are in id byte order, so that among them the order of
    ordinals is the order of ids; ordinals given out later are not. An ordinal is never given out twice.
    """

    def __init__(self, ids: Sequence[str] = ()) -> None:
        """ids: the generation's, in UTF-8 byte order, distinct."""
        self._ids = list(ids)
        self._ordinals = {document_id: ordinal for ordinal, document_id in enumerate(self._ids)}
        self.n_sorted = len(self._ids)

    def __len__(self) -> int:
        """Living documents."""
        return len(self._ordinals)

    @property
    def n_ordinals(self) -> int:
        """Ordinals given out so far, dead ones included; the size of every mask over ordinals."""
        return len(self._ids)

    def add(self, document_id: str) -> int:
        """A new ordinal for an id that does not live."""
        ordinal = len(self._ids)
        self._ids.append(document_id)
        self._ordinals[document_id] = ordinal
        return ordinal

    def remove(self, document_id: str) -> int | None:
        """Forgets a living id; returns the ordinal it had, None if it does not live."""
        return self._ordinals.pop(document_id, None)

    def ordinal(self, document_id: str) -> int | None:
        """The ordinal of a living id, else None."""
        return self._ordinals.get(document_id)

    def id(self, ordinal: int) -> str:
        """The id an ordinal was given out for."""
        return self._ids[ordinal]

    def sort(self, hits: Hits) -> Hits:
        """The same hits in total order; O(n log n), ids are looked at only where scores tie."""
        order = np.lexsort((hits.ordinals, -hits.scores))
        ordinals, scores = hits.ordinals[order], hits.scores[order]
        if self.n_sorted < self.n_ordinals and len(ordinals) and int(ordinals.max()) >= self.n_sorted:
            for start, end in _tied_runs(scores):
                run = ordinals[start:end]
                if int(run.max()) >= self.n_sorted:
                    ordinals[start:end] = sorted(run.tolist(), key=lambda o: self._ids[o].encode())
        return Hits(ordinals, scores)

    def save(self, folder: Path) -> None:
        """Writes the sorted part; a generation is saved before anything is added to its map."""
        (folder / IDS_FILE).write_text(json.dumps(self._ids, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Reads what `save` wrote."""
        path = folder / IDS_FILE
        try:
            ids = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise Damaged(
                f"{path} cannot be read ({error}); rebuild it with `facetrail index build --out DIR`"
            ) from error
        if not isinstance(ids, list) or not all(isinstance(i, str) for i in ids):
            raise Damaged(f"{path} is not a list of ids; rebuild it with `facetrail index build --out DIR`")
        return cls(ids)


def _tied_runs(scores: np.ndarray) -> Iterable[tuple[int, int]]:
    """[start, end) of every run of at least two equal scores in a sorted array."""
    bounds = np.flatnonzero(np.diff(scores) != 0) + 1
    starts, ends = np.concatenate(([0], bounds)), np.concatenate((bounds, [len(scores)]))
    tied = ends - starts > 1
    return zip(starts[tied].tolist(), ends[tied].tolist(), strict=True)
