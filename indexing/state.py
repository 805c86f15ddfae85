"""The indexes of one generation plus the writes that came after it, over one id map."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from facetrail.indexing.dense import DenseConfig, DenseIndex
from facetrail.indexing.fields import FieldIndex
from facetrail.indexing.index import Float32Array
from facetrail.indexing.lexical import LexicalConfig, LexicalIndex
from facetrail.indexing.ordering import IdMap
from facetrail.models.records import Document

LEXICAL, DENSE, FIELDS = "lexical", "dense", "fields"


@dataclass
class IndexState:
    """What a search reads. Not thread-safe: the searcher's lock guards it.

    `change` is the collection's change number up to which the indexes are current.
    """

    number: int
    change: int
    ids: IdMap
    fields: FieldIndex
    lexical: LexicalIndex | None
    dense: DenseIndex | None

    @classmethod
    def empty(
        cls, *, lexical: LexicalConfig | None, dense: tuple[int, DenseConfig] | None, ids: Sequence[str] = ()
    ) -> Self:
        """Indexes without documents. dense: (dim, config); ids: the sorted ids about to be filled in."""
        return cls(
            number=0,
            change=0,
            ids=IdMap(ids),
            fields=FieldIndex(),
            lexical=LexicalIndex(lexical) if lexical else None,
            dense=DenseIndex(dense[0], dense[1]) if dense else None,
        )

    def fill(self, ordinals: range, documents: Sequence[Document], vectors: Float32Array | None) -> None:
        """Adds documents under given ordinals to every index. vectors: (n, dim), one row a document."""
        if self.lexical is not None:
            self.lexical.add(ordinals, [d.content for d in documents])
        if self.dense is not None and vectors is not None:
            self.dense.add(ordinals, vectors)
        self.fields.add(ordinals, [d.id for d in documents], [d.metadata for d in documents])

    def put(self, documents: Sequence[Document], vectors: Float32Array | None) -> None:
        """Adds or replaces documents. vectors: (n, dim); None: by words alone, until the next build encodes them."""
        self.discard(d.id for d in documents)
        first = self.ids.n_ordinals
        for document in documents:
            self.ids.add(document.id)
        self.fill(range(first, first + len(documents)), documents, vectors)

    def discard(self, document_ids: Iterable[str]) -> None:
        """Removes the ids that live; others are passed over."""
        ordinals = [o for o in (self.ids.remove(i) for i in document_ids) if o is not None]
        if not ordinals:
            return
        if self.lexical is not None:
            self.lexical.remove(ordinals)
        if self.dense is not None:
            self.dense.remove(ordinals)
        self.fields.remove(ordinals)

    def save(self, folder: Path) -> None:
        """Writes every index into its own sub-folder of an empty folder."""
        self.ids.save(folder)
        parts = {LEXICAL: self.lexical, DENSE: self.dense, FIELDS: self.fields}
        for name, part in parts.items():
            if part is not None:
                (folder / name).mkdir()
                part.save(folder / name)

    @classmethod
    def open(cls, folder: Path, *, number: int, change: int) -> Self:
        """Opens a saved generation, memory-mapped."""
        return cls(
            number=number,
            change=change,
            ids=IdMap.open(folder),
            fields=FieldIndex.open(folder / FIELDS),
            lexical=LexicalIndex.open(folder / LEXICAL) if (folder / LEXICAL).is_dir() else None,
            dense=DenseIndex.open(folder / DENSE) if (folder / DENSE).is_dir() else None,
        )
