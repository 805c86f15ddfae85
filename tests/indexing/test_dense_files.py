"""A saved dense index: damage is named, never a crash; what is read is what was written."""

import json
from pathlib import Path

import numpy as np
import pytest

from facetrail.indexing.dense import DenseConfig, DenseIndex
from facetrail.models.errors import Damaged, Unavailable

DIM = 32


def unit(n: int, seed: int = 0) -> np.ndarray:
    """n random unit vectors."""
    rows = np.random.default_rng(seed).standard_normal((n, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def saved(folder: Path, n: int = 300, **config: object) -> Path:
    """An index of n vectors on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    index = DenseIndex(DIM, DenseConfig.model_validate(config))
    index.add(range(n), unit(n))
    index.save(folder)
    return folder


@pytest.mark.parametrize("kind", ["exact", "pq", "ivf", "hnsw"])
def test_a_truncated_or_missing_file_is_named(kind: str, tmp_path: Path) -> None:
    reference = saved(tmp_path / "reference", kind=kind, storage="int8")
    names = [file.name for file in reference.iterdir()]
    assert len(names) == 5 + (kind != "exact")
    for name in names:
        for cut in (0, 1, 60, -1):
            folder = saved(tmp_path / f"{name}{cut}", kind=kind, storage="int8")
            path = folder / name
            path.write_bytes(path.read_bytes()[:cut])
            with pytest.raises(Damaged, match=name):
                DenseIndex.open(folder)
        (folder / name).unlink()
        with pytest.raises(Damaged, match=name):
            DenseIndex.open(folder)


def test_every_flipped_bit_of_the_faiss_file_is_caught(tmp_path: Path) -> None:
    folder = saved(tmp_path / "index", kind="hnsw", n=40)
    path = folder / "candidates.faiss"
    whole = path.read_bytes()
    for position in np.random.default_rng(0).integers(0, len(whole), 100).tolist():
        broken = bytearray(whole)
        broken[position] ^= 4
        path.write_bytes(bytes(broken))
        with pytest.raises(Damaged, match=r"candidates\.faiss"):
            DenseIndex.open(folder)


def test_parts_of_different_indexes_are_not_mixed(tmp_path: Path) -> None:
    one, other = saved(tmp_path / "one"), saved(tmp_path / "other", n=299)
    for name in ("vectors.npy", "ordinals.npy", "zero.npy"):
        whole = (one / name).read_bytes()
        (one / name).write_bytes((other / name).read_bytes())
        with pytest.raises(Damaged, match=name):
            DenseIndex.open(one)
        (one / name).write_bytes(whole)
    np.save(one / "ordinals.npy", np.zeros(300, np.int64))
    with pytest.raises(Damaged, match="ascending"):
        DenseIndex.open(one)


def test_a_faiss_file_of_other_vectors_is_refused_even_with_the_right_hash(tmp_path: Path) -> None:
    one, other = saved(tmp_path / "one", kind="pq"), saved(tmp_path / "other", kind="pq", n=299)
    (one / "candidates.faiss").write_bytes((other / "candidates.faiss").read_bytes())
    manifest = json.loads((one / "dense.json").read_text())
    manifest["candidates_sha256"] = json.loads((other / "dense.json").read_text())["candidates_sha256"]
    (one / "dense.json").write_text(json.dumps(manifest))
    with pytest.raises(Damaged, match="299 vectors of 32 dimensions, not 300 of 32"):
        DenseIndex.open(one)


def test_a_newer_format_and_an_unknown_option_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "index")
    manifest = json.loads((folder / "dense.json").read_text())
    for change in ({"format": 2}, {"config": {"unheard": 1}}, {"n": "many"}, {"kind": "tree"}):
        (folder / "dense.json").write_text(json.dumps(manifest | change))
        with pytest.raises(Damaged, match=r"dense\.json"):
            DenseIndex.open(folder)


def test_nothing_is_pickled(tmp_path: Path) -> None:
    folder = saved(tmp_path / "index")
    np.save(folder / "ordinals.npy", np.array([{"a": 1}] * 300, dtype=object), allow_pickle=True)
    with pytest.raises(Damaged, match=r"ordinals\.npy"):
        DenseIndex.open(folder)


def test_vectors_are_mapped_and_not_read(tmp_path: Path) -> None:
    folder = saved(tmp_path / "index")
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("this system does not list a process's mapped files")
    assert str(folder) not in maps.read_text()
    index = DenseIndex.open(folder)
    assert str(folder / "vectors.npy") in maps.read_text()
    assert len(index) == 300


def test_saving_over_what_is_open_elsewhere_gives_a_compact_copy(tmp_path: Path) -> None:
    index = DenseIndex.open(saved(tmp_path / "first", kind="pq"))
    index.remove(range(0, 300, 3))
    index.add(range(300, 320), unit(20, seed=1))
    (tmp_path / "second").mkdir()
    index.save(tmp_path / "second")
    compact = DenseIndex.open(tmp_path / "second")
    assert (len(compact), compact.n_dead, compact.n_unsaved) == (220, 0, 0)
    kept = [*[o for o in range(300) if o % 3], *range(300, 320)]
    np.testing.assert_array_equal(compact.vectors(kept), index.vectors(kept))


def test_cuda_where_there_is_none_is_refused(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    folder = saved(tmp_path / "index", device="cuda")
    with pytest.raises(Unavailable, match="'cuda'"):
        DenseIndex.open(folder)
