"""Features that two graphs share: joint SVD, tf-idf over the union of two corpora, or a text encoder's vectors.

Ours throughout; none of them sees a label.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]

from facetrail.models.errors import InvalidInput
from facetrail.models.graph.graph_data import CsrArray, Features, GraphData, GraphReport, build_graph
from facetrail.models.records import Document

if TYPE_CHECKING:
    from facetrail.models.text.encoder import TextEncoder

Float32Array = NDArray[np.float32]
_WORD = re.compile(r"\w\w+")
_SMALL = 1_024
"""Up to this many columns the SVD is of the dense matrix."""


@dataclass(frozen=True, eq=False)
class JointSvd:
    """Coordinates along the d strongest directions of two graphs' features together. Letter: F features."""

    basis: Float32Array
    """(F, d); of each column the largest loading in absolute value is positive."""
    centre: Float32Array
    """(d,) mean over both graphs."""
    scale: Float32Array
    """(d,) standard deviation over both graphs."""
    of_space: str = ""
    """Feature space of the graphs that it is applied to."""

    @classmethod
    def of(cls, source: GraphData, target: GraphData, dim: int = 128, *, seed: int = 0) -> "JointSvd":
        """From the L2-normalised rows of both. Directions along which nothing varies are left out, so d ≤ dim."""
        if source.n_features != target.n_features:
            raise InvalidInput(
                f"the source has {source.n_features} features and the target {target.n_features}; "
                "a joint SVD needs the same columns"
            )
        rows = sparse.vstack([_unit_rows(source.x), _unit_rows(target.x)]).tocsr()
        basis = _right_vectors(rows, dim, seed)
        largest = basis[np.abs(basis).argmax(axis=0), np.arange(basis.shape[1])]
        basis = basis * np.where(largest < 0, -1, 1)
        scores = rows @ basis  # of unit rows, so that a standard deviation is a share of 1
        centre, scale = scores.mean(axis=0), scores.std(axis=0)
        varies = scale > 1e-6
        if not varies.any():
            raise InvalidInput("all nodes of both graphs have the same features, so there is no direction to keep")
        kept: list[Float32Array] = [part[..., varies].astype(np.float32) for part in (basis, centre, scale)]
        return cls(kept[0], kept[1], kept[2], source.feature_space)

    @property
    def feature_space(self) -> str:
        """Names these coordinates."""
        return f"svd-{self.basis.shape[1]}:{hashlib.sha256(self.basis.tobytes()).hexdigest()[:16]}"

    def apply(self, graph: GraphData) -> GraphData:
        """The graph with (n, d) dense features in place of its own."""
        if graph.n_features != len(self.basis):
            raise InvalidInput(
                f"the graph has {graph.n_features} features, the SVD was made of {len(self.basis)}; give the same ones"
            )
        scores = (_unit_rows(graph.x) @ self.basis - self.centre) / self.scale
        return replace(graph, x=np.ascontiguousarray(scores, np.float32), feature_space=self.feature_space)


class DocumentFeatures(Protocol):
    """From documents to rows of features."""

    @property
    def feature_space(self) -> str: ...

    def rows(self, documents: Sequence[Document]) -> Features:
        """(len(documents), F) float32."""


@dataclass(frozen=True, eq=False)
class Tfidf:
    """L2-normalised tf · log((1 + N) / (1 + df)) + tf over words of two or more letters that two documents hold."""

    columns: dict[str, int]
    weights: Float32Array
    """(F,) 1 + log((1 + N) / (1 + df))."""

    @classmethod
    def of(cls, *corpora: Iterable[Document]) -> "Tfidf":
        """The vocabulary of the union: give every corpus whose graphs are to be compared."""
        frequencies: Counter[str] = Counter()
        n = 0
        for corpus in corpora:
            for document in corpus:
                n += 1
                frequencies.update(set(_words(document)))
        kept = sorted(word for word, df in frequencies.items() if df > 1)
        if not kept:
            raise InvalidInput(f"no word occurs in two of the {n} documents, so they have no features; give more text")
        df = np.array([frequencies[word] for word in kept])
        return cls({word: i for i, word in enumerate(kept)}, (1 + np.log((1 + n) / (1 + df))).astype(np.float32))

    @property
    def feature_space(self) -> str:
        """Names the vocabulary and its weights."""
        digest = hashlib.sha256(" ".join(self.columns).encode() + self.weights.tobytes()).hexdigest()
        return f"tfidf-{len(self.columns)}:{digest[:16]}"

    def rows(self, documents: Sequence[Document]) -> CsrArray:
        """(n, F) CSR."""
        counts = [Counter(word for word in _words(document) if word in self.columns) for document in documents]
        indices = np.array([self.columns[word] for count in counts for word in count], np.int64)
        data = np.array([n for count in counts for n in count.values()], np.float32)
        ends = np.cumsum([0, *map(len, counts)])
        shape = (len(documents), len(self.columns))
        return _unit_rows(sparse.csr_array((data * self.weights[indices], indices, ends), shape=shape))


@dataclass(frozen=True)
class EncoderFeatures:
    """The vectors of one text encoder."""

    encoder: "TextEncoder"

    @property
    def feature_space(self) -> str:
        """Names the encoder's weights and settings."""
        return f"encoder:{self.encoder.fingerprint}"

    def rows(self, documents: Sequence[Document]) -> Float32Array:
        """(n, dim)."""
        return self.encoder.encode_documents([document.content for document in documents])


def graph_from_documents(
    documents: Sequence[Document],
    references: Iterable[tuple[str, str]],
    features: DocumentFeatures,
    *,
    labels: Sequence[str | None] | None = None,
    class_names: Sequence[str] | None = None,
) -> GraphData:
    """Documents as nodes, references between them as edges.

    references: (from, to) ids; those that name no document are counted and left out. labels: a class name a document,
    None where it has none. class_names: their order; left out: sorted. Raises InvalidInput for a label not among them.
    """
    numbers = {document.id: number for number, document in enumerate(documents)}
    ends = [(numbers.get(a), numbers.get(b)) for a, b in references]
    edges = np.array([end for end in ends if None not in end], np.int64).reshape(-1, 2)
    y = None
    if labels is not None:
        class_names = class_names or sorted({label for label in labels if label is not None})
        y = _class_numbers(labels, class_names)
    return build_graph(
        [document.id for document in documents],
        features.rows(documents),
        edges,
        y,
        class_names=class_names,
        feature_space=features.feature_space,
        report=GraphReport(n_unresolved=len(ends) - len(edges)),
    )


def _class_numbers(labels: Sequence[str | None], class_names: Sequence[str]) -> NDArray[np.int64]:
    numbers: dict[str | None, int] = {name: number for number, name in enumerate(class_names)}
    if unknown := {label for label in labels if label is not None} - numbers.keys():
        raise InvalidInput(f"the label {min(unknown)!r} is not among the classes {', '.join(class_names)}; add it")
    return np.array([numbers.get(label, -1) for label in labels], np.int64)


def _words(document: Document) -> list[str]:
    return _WORD.findall(document.content.lower())


def _unit_rows(x: Features) -> CsrArray:
    """Rows of norm 1, as CSR; a row of zeros stays one."""
    rows = sparse.csr_array(x, dtype=np.float32)
    norms = np.sqrt(rows.multiply(rows).sum(axis=1))
    return (sparse.diags_array(1 / np.where(norms > 0, norms, 1)) @ rows).astype(np.float32).tocsr()


def _right_vectors(rows: CsrArray, dim: int, seed: int) -> NDArray[np.float64]:
    """(F, d) right singular vectors, strongest first. The seed draws the iteration's start."""
    if min(rows.shape) <= _SMALL:
        _, _, vectors = np.linalg.svd(rows.toarray().astype(np.float64), full_matrices=False)
        return np.asarray(vectors[:dim].T)
    from scipy.sparse.linalg import svds  # type: ignore[import-untyped]

    start = np.random.default_rng(seed).standard_normal(min(rows.shape))
    _, strengths, vectors = svds(rows.astype(np.float64), k=dim, v0=start)
    return np.asarray(vectors[np.argsort(-strengths)].T)
