"""The equality gate rejects what differs, and says so."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facetrail.models.errors import Unavailable
from facetrail.models.text import networks, query, runtime
from facetrail.models.text.bulk import plan_batches
from facetrail.models.text.encoder import load_encoder
from facetrail.models.text.gate import judge
from facetrail.models.text.pooling import masked_pool, pool, unit_rows

TEXT = "Graph neural networks suggest references for an unfinished manuscript."


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache without any verdict."""
    monkeypatch.setenv("FACETRAIL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def rows(seed: int = 0, n: int = 16) -> Any:
    vectors = np.random.default_rng(seed).standard_normal((n, 24)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_equal_vectors_pass() -> None:
    assert judge(rows(), rows(), min_cosine=0.999, max_difference=0, tie=0, whole_ranking=True).passed


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda v: v + 1e-4, "coordinates differ"),
        (lambda v: np.where(np.arange(16)[:, None] == 3, -v, v), "cosine"),
        (lambda v: v[:8], "another shape"),
        (lambda v: v * np.nan, "not finite"),
    ],
    ids=["difference", "cosine", "shape", "nan"],
)
def test_other_vectors_do_not(change: Callable[[Any], Any], reason: str) -> None:
    verdict = judge(
        rows(), change(rows()).astype(np.float32), min_cosine=0.999, max_difference=1e-5, tie=1e-5, whole_ranking=True
    )
    assert not verdict.passed
    assert reason in verdict.reason


def test_another_ranking_does_not_pass() -> None:
    reference = np.eye(4, dtype=np.float32)
    reference[1, 0], reference[2, 0] = 0.5, 0.4
    candidate = reference.copy()
    candidate[1, 0], candidate[2, 0] = 0.4, 0.5
    assert "ranks" in judge(reference, candidate, tie=1e-3, whole_ranking=True).reason
    assert "ranks" in judge(reference, candidate, tie=1e-3, whole_ranking=False).reason
    assert judge(reference, candidate, tie=0.2, whole_ranking=True).passed


def test_only_the_best_counts_without_whole_ranking() -> None:
    reference = np.eye(4, dtype=np.float32)
    reference[1:, 0] = 0.9, 0.5, 0.4
    candidate = reference.copy()
    candidate[2:, 0] = 0.4, 0.5
    assert judge(reference, candidate, tie=0.02, whole_ranking=True).passed is False
    pairs = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    assert judge(pairs, pairs, tie=0, whole_ranking=False).passed


def _sabotaged_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import numpy as tensors

    honest = tensors.load_file

    def dishonest(path: Path) -> Any:
        found = dict(honest(path))
        name = "encoder.layer.1.output.dense.weight"
        return {**found, name: found[name] * 1.01}

    monkeypatch.setattr(tensors, "load_file", dishonest)


def test_a_sabotaged_graph_is_refused(
    tiny_bert: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = load_encoder(str(tiny_bert), runtime="torch", bulk="fp32").encode_queries([TEXT])
    _sabotaged_graph(monkeypatch)
    with pytest.raises(Unavailable, match="differ from fp32"):
        load_encoder(str(tiny_bert), runtime="onnx").encode_queries([TEXT])
    encoder = load_encoder(str(tiny_bert), bulk="fp32")
    with caplog.at_level(logging.WARNING):
        np.testing.assert_allclose(encoder.encode_queries([TEXT]), expected, atol=1e-6)
    assert "encoded by torch" in caplog.text
    assert encoder.card.runtime_query == "torch"


def test_sabotaged_bf16_is_refused(
    tiny_bert: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = load_encoder(str(tiny_bert), bulk="fp32").encode_documents([TEXT])
    honest = networks.open_network

    def dishonest(source: Any, *, dtype: torch.dtype, device: torch.device) -> Any:
        network = honest(source, dtype=dtype, device=device)
        if dtype is torch.bfloat16:
            network._layers[1]["down.weight"] *= 3  # type: ignore[attr-defined]
        return network

    monkeypatch.setattr(networks, "open_network", dishonest)
    for _ in range(2):  # worked out, then remembered
        caplog.clear()
        encoder = load_encoder(str(tiny_bert), bulk="bf16")
        with caplog.at_level(logging.WARNING):
            np.testing.assert_allclose(encoder.encode_documents([TEXT]), expected, atol=1e-6)
        assert "bf16 fails the equality gate: cosine" in caplog.text
        assert encoder.card.dtype_bulk == "fp32"


def test_auto_needs_a_processor_with_bf16(tiny_bert: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "cpu_has_bf16", lambda: False)
    encoder = load_encoder(str(tiny_bert), device="cpu")
    encoder.encode_documents([TEXT])
    assert encoder.card.dtype_bulk == "fp32"


def test_a_missing_package_means_torch(
    tiny_bert: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    encoder = load_encoder(str(tiny_bert), bulk="fp32")
    with caplog.at_level(logging.WARNING):
        encoder.encode_queries([TEXT])
    assert "onnxruntime is not installed" in caplog.text
    assert encoder.card.runtime_query == "torch"


def test_a_damaged_graph_in_the_cache_is_made_again(tiny_bert: Path, own_cache: Path) -> None:
    first = load_encoder(str(tiny_bert), runtime="onnx").encode_queries([TEXT])
    (weights,) = own_cache.glob("graphs/*/model.bin")
    weights.write_bytes(b"\x01" * weights.stat().st_size)
    np.testing.assert_array_equal(load_encoder(str(tiny_bert), runtime="onnx").encode_queries([TEXT]), first)


def test_no_unfinished_graph_stays_behind(tiny_bert: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path, source: Any) -> None:
        (folder / "model.onnx").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(query, "write_graph", full)
    with pytest.raises(KeyboardInterrupt):
        load_encoder(str(tiny_bert), runtime="onnx").encode_queries([TEXT])
    assert not [path for path in (own_cache / "graphs").iterdir() if path.is_dir()]


def test_only_one_makes_the_graph(tiny_bert: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two encoders that start at once: the second waits for the lock file, then finds the graph made."""
    honest, made = query.write_graph, []

    def slow(folder: Path, source: Any) -> None:
        made.append(folder)
        time.sleep(0.5)
        honest(folder, source)

    monkeypatch.setattr(query, "write_graph", slow)
    found: list[Any] = []
    encoders = [load_encoder(str(tiny_bert), runtime="onnx") for _ in range(2)]
    threads = [threading.Thread(target=lambda e=e: found.append(e.encode_queries([TEXT]))) for e in encoders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    np.testing.assert_array_equal(*found)


def test_batches_hold_every_text_once_and_keep_the_budget() -> None:
    lengths = np.random.default_rng(5).integers(1, 60, 400).tolist()
    batches = plan_batches(lengths, 128)
    assert sorted(np.concatenate(batches).tolist()) == list(range(400))
    assert all(sum(lengths[i] for i in batch) <= 128 for batch in batches)
    in_order = [lengths[i] for batch in batches for i in batch]
    assert in_order == sorted(lengths, reverse=True)
    assert [len(batch) for batch in plan_batches([500, 2], 128)] == [1, 1]
    assert plan_batches([], 128) == []


def test_pooling_by_hand() -> None:
    states = torch.tensor([[[1.0, -2.0], [3.0, 4.0], [100.0, 100.0]]])
    mask = torch.tensor([[True, True, False]])
    assert pool(states[:, :2], "mean").tolist() == masked_pool(states, mask, "mean").tolist() == [[2.0, 1.0]]
    assert pool(states[:, :2], "max").tolist() == masked_pool(states, mask, "max").tolist() == [[3.0, 4.0]]
    assert pool(states[:, :2], "cls").tolist() == masked_pool(states, mask, "cls").tolist() == [[1.0, -2.0]]
    assert unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist() == [
        [pytest.approx(0.6), pytest.approx(0.8)],
        [0, 0],
    ]
