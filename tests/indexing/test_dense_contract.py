"""Every kind and storage of the dense index keeps the promises of the seam, in memory and saved."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from facetrail.indexing import dense_exact
from facetrail.indexing.dense import DenseConfig, DenseIndex
from facetrail.indexing.index import Float32Array

sys.path.insert(0, str(Path(__file__).parents[1]))
from contracts.index_contract import IndexContract, N

DIM = 24


def unit(n: int, dim: int = DIM, seed: int = 0) -> Float32Array:
    """n random unit vectors."""
    rows = np.random.default_rng(seed).standard_normal((n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def reopened(index: DenseIndex, folder: Path) -> DenseIndex:
    """What the next process sees."""
    folder.mkdir(parents=True, exist_ok=True)
    index.save(folder)
    return DenseIndex.open(folder)


class DenseContract(IndexContract):
    """The promises of the seam, for one config."""

    finds_all = True
    config = DenseConfig()

    def make(self) -> DenseIndex:
        return DenseIndex(DIM, self.config)

    def contents(self, n: int, seed: int = 0) -> Sequence[Float32Array]:
        return list(unit(n, seed=seed))

    def question(self, content: Float32Array) -> Float32Array:
        return content


class TestExact(DenseContract):
    """float32, scanned."""

    config = DenseConfig(kind="exact")


class TestFloat16(DenseContract):
    """Half the memory."""

    config = DenseConfig(kind="exact", storage="float16")


class TestInt8(DenseContract):
    """A quarter of the memory."""

    config = DenseConfig(kind="exact", storage="int8")


class SavedContract(DenseContract):
    """The same promises, kept by the saved part: every filled index has been saved and reopened."""

    @pytest.fixture(autouse=True)
    def _filters_go_through_the_structure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dense_exact, "SUBSET_ROWS", 0)
        monkeypatch.setattr(dense_exact, "SUBSET_SHARE", 0)

    def filled(self, n: int = N, first: int = 0) -> tuple[DenseIndex, Sequence[Float32Array]]:
        index, contents = super().filled(n, first)
        with tempfile.TemporaryDirectory() as folder:
            return reopened(index, Path(folder)), contents


class TestSavedExact(SavedContract):
    """Memory-mapped rows."""

    config = DenseConfig(kind="exact")


class TestPq(SavedContract):
    """Product-quantised codes."""

    config = DenseConfig(kind="pq")


class TestPqInt8(SavedContract):
    """The smallest: codes in front of codes."""

    config = DenseConfig(kind="pq", storage="int8")


class TestIvf(SavedContract):
    """Inverted lists."""

    config = DenseConfig(kind="ivf")


class TestHnsw(SavedContract):
    """A graph."""

    config = DenseConfig(kind="hnsw")
