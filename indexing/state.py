"""The indexes of one generation plus the writes that came after it, over one id map."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from facetrail.indexing.collection_schema import CollectionSettings
from facetrail.indexing.dense import DenseConfig, DenseIndex
from facetrail.indexing.facets import FacetConfig, FacetIndex
from facetrail.indexing.fields import FieldIndex
from facetrail.indexing.index import Float32Array
from facetrail.indexing.lexical import LexicalConfig, LexicalIndex
from facetrail.indexing.ordering import IdMap
from facetrail.models.records import Document
from facetrail.models.text.facets import FacetBatch

LEXICAL, DENSE, FACETS, FIELDS = "lexical", "dense", "facets", "fields"


@dataclass(frozen=True, slots=True)
class Encoded:
    """What an encoder made of n documents: vectors (n, dim), and facet data where the collection has facets."""

    vectors: Float32Array
    facets: FacetBatch | None = None


@dataclass
class IndexState:
    """What a search reads. Not thread-safe: the searcher's lock guards it.

    `change` is the collection's change number up to which the indexes are current. `facets` holds the documents that
    `dense` holds, or is None.
    """

    number: int
    change: int
    ids: IdMap
    fields: FieldIndex
    lexical: LexicalIndex | None
    dense: DenseIndex | None
    facets: FacetIndex | None
    bare: set[int] = field(default_factory=set)
    """Ordinals without a vector: found by words alone, until the next build encodes them."""

    @classmethod
    def empty(cls, settings: CollectionSettings, ids: Sequence[str] = ()) -> Self:
        """The indexes of a collection, without documents. ids: the sorted ids about to be filled in."""
        dense = DenseConfig.model_validate(settings.dense) if settings.dense is not None else None
        return cls(
            number=0,
            change=0,
            ids=IdMap(ids),
            fields=FieldIndex(),
            lexical=LexicalIndex(LexicalConfig.model_validate(settings.lexical))
            if settings.lexical is not None
            else None,
            dense=DenseIndex(settings.dim, dense) if settings.dim and dense else None,
            facets=_empty_facets(settings),
        )

    def fill(self, ordinals: range, documents: Sequence[Document], encoded: Encoded | None) -> None:
        """Adds documents under given ordinals to every index; row i of `encoded` is of document i."""
        if self.lexical is not None:
            self.lexical.add(ordinals, [d.content for d in documents])
        if self.dense is not None and encoded is not None:
            self.dense.add(ordinals, encoded.vectors)
        elif self.dense is not None:
            self.bare.update(ordinals)
        if self.facets is not None and encoded is not None:
            assert encoded.facets is not None  # the collection refuses one without the other
            self.facets.add(ordinals, encoded.facets)
        self.fields.add(ordinals, [d.id for d in documents], [d.metadata for d in documents])

    def put(self, documents: Sequence[Document], encoded: Encoded | None) -> None:
        """Adds or replaces documents. encoded None: by words alone, until the next build encodes them."""
        self.discard(d.id for d in documents)
        first = self.ids.n_ordinals
        for document in documents:
            self.ids.add(document.id)
        self.fill(range(first, first + len(documents)), documents, encoded)

    def discard(self, document_ids: Iterable[str]) -> None:
        """Removes the ids that live; others are passed over."""
        ordinals = [o for o in (self.ids.remove(i) for i in document_ids) if o is not None]
        if not ordinals:
            return
        if self.lexical is not None:
            self.lexical.remove(ordinals)
        encoded = [o for o in ordinals if o not in self.bare]
        self.bare.difference_update(ordinals)
        if self.dense is not None:
            self.dense.remove(encoded)
        if self.facets is not None:
            self.facets.remove(encoded)
        self.fields.remove(ordinals)

    @property
    def modes(self) -> tuple[str, ...]:
        """The single sources that can be asked; hybrid comes with the first two."""
        parts = (("lexical", self.lexical), ("dense", self.dense), ("facet", self.facets))
        return tuple(mode for mode, part in parts if part is not None)

    def save(self, folder: Path) -> None:
        """Writes every index into its own sub-folder of an empty folder."""
        self.ids.save(folder)
        parts = {LEXICAL: self.lexical, DENSE: self.dense, FACETS: self.facets, FIELDS: self.fields}
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
            facets=FacetIndex.open(folder / FACETS) if (folder / FACETS).is_dir() else None,
        )


def _empty_facets(settings: CollectionSettings) -> FacetIndex | None:
    if settings.facets is None or settings.facet_margin is None or settings.facet_mixing is None:
        return None
    assert settings.dim is not None  # facets come with a dense index, and that with an encoder
    config = FacetConfig(names=settings.facets, margin=settings.facet_margin, mixing=settings.facet_mixing)
    return FacetIndex(settings.dim, config)
