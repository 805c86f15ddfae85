"""Scanning on a device: the logic on torch's CPU, the real thing where there is a GPU."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facetrail.indexing import dense_exact, dense_gpu
from facetrail.indexing.dense import DenseConfig, DenseIndex
from facetrail.indexing.dense_base import Base
from facetrail.indexing.dense_rows import VectorRows
from facetrail.indexing.index import Float32Array, Hits


def content(seed: int = 0) -> tuple[Float32Array, Float32Array]:
    """2,000 unit vectors with copies and zero vectors, and 15 queries."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((2_000, 40))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    rows[1_000:1_200] = rows[7]
    rows[[5, 6]] = 0
    return rows, rows[rng.integers(10, 900, 15)]


def opened(folder: Path, config: DenseConfig) -> DenseIndex:
    """A saved and reopened index of `content`."""
    folder.mkdir()
    index = DenseIndex(40, config)
    index.add(range(2_000), content()[0])
    index.save(folder)
    return DenseIndex.open(folder)


def assert_same(found: list[Hits], expected: list[Hits]) -> None:
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(left.ordinals, right.ordinals)
        np.testing.assert_array_equal(left.scores, right.scores)


def compare(device: DenseIndex, cpu: DenseIndex) -> None:
    """Every kind of search gives the same hits."""
    queries = content()[1]
    for index in (device, cpu):
        index.remove([20, 21, 1_003])
        index.add([5_000], queries[:1])
    allowed = np.random.default_rng(4).random(5_001) < 0.6
    for k in (1, 10, 500, 1_990, 3_000):
        for mask in (None, allowed):
            assert_same(device.search_many(queries, k, allowed=mask), cpu.search_many(queries, k, allowed=mask))
            assert_same(
                [device.search(content()[0][7], k, allowed=mask)], [cpu.search(content()[0][7], k, allowed=mask)]
            )


@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
def test_torch_gives_the_hits_of_the_cpu(storage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_exact, "SUBSET_ROWS", 0)
    monkeypatch.setattr(dense_gpu, "SCORES_AT_ONCE", 5_000)  # several blocks of queries
    config = DenseConfig(kind="exact", storage=storage, device="cpu")
    device, cpu = opened(tmp_path / "a", config), opened(tmp_path / "b", config)
    device._base = Base(device._base.rows, "exact", dense_gpu.TorchScanner(device._base.rows, "cpu"))
    compare(device, cpu)


def test_a_lower_precision_of_the_device_loses_no_hit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scanner whose products are rounded to bfloat16, and says so, still proposes every hit."""
    import torch

    monkeypatch.setattr(dense_exact, "SUBSET_ROWS", 0)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    config = DenseConfig(kind="exact", device="cpu")
    device, cpu = opened(tmp_path / "a", config), opened(tmp_path / "b", config)
    scanner = dense_gpu.TorchScanner(device._base.rows, "cpu")
    scanner._matrix = scanner._matrix.to(torch.bfloat16).to(torch.float32)
    device._base = Base(device._base.rows, "exact", scanner)
    compare(device, cpu)


def test_a_list_that_ends_too_early_is_not_settled() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.7], np.float32)
    rows = np.array([4, 2, 9, 1])
    settled = dense_gpu.settled_rows
    assert settled(scores, rows, 2, None, 0.05, 100).tolist() == [4, 2, 9, 1]
    assert settled(scores, rows, 3, None, 0.05, 100) is None  # more rows may be tied with the third
    assert settled(scores, rows, 3, None, 0.05, 4).tolist() == [4, 2, 9, 1]  # there are no more rows
    mask = np.ones(100, np.bool_)
    mask[[4, 2]] = False
    assert settled(scores, rows, 3, mask, 0.05, 100) is None
    assert settled(scores, rows, 1, mask, 0.0, 100) is None
    mask[2] = True
    assert settled(scores, rows, 1, mask, 0.05, 100).tolist() == [2, 9, 1]


def test_a_small_index_does_not_look_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_gpu, "_may_have_gpu", lambda: pytest.fail("looked for a GPU"))
    rows = VectorRows(content()[0], np.zeros(0, np.float32), "float32")
    assert dense_gpu.open_scanner(rows, DenseConfig()) is None
    assert dense_gpu.open_scanner(rows, DenseConfig(device="cpu", exact_below=0)) is None


@pytest.mark.gpu
def test_a_gpu_gives_the_hits_of_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_exact, "SUBSET_ROWS", 0)
    torch = pytest.importorskip("torch")
    faiss = pytest.importorskip("faiss")
    if not (torch.cuda.is_available() or faiss.get_num_gpus()):
        pytest.skip("needs a GPU and a build of torch or FAISS that uses it")
    device = opened(tmp_path / "a", DenseConfig(device="cuda"))
    assert device._base._scanner is not None
    compare(device, opened(tmp_path / "b", DenseConfig(device="cpu")))
