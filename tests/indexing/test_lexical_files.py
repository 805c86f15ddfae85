"""What a saved lexical index refuses: damage, other analysers, other formats."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from facetrail.indexing.lexical import LexicalConfig, LexicalIndex
from facetrail.models.errors import Conflict, Damaged

ARRAYS = (
    "terms", "term_offsets", "posting_offsets", "posting_docs", "posting_codes", "forward_offsets", "forward_terms",
    "forward_tfs", "lengths", "ordinals",
)  # fmt: skip


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """An index of 50 documents on disk."""
    index = LexicalIndex()
    index.add(range(50), [f"common words {i} again and {i % 7} again" for i in range(50)])
    folder = tmp_path / "saved"
    folder.mkdir()
    index.save(folder)
    return folder


def test_a_folder_holds_plain_files_only(saved: Path) -> None:
    assert {file.name for file in saved.iterdir()} == {f"{name}.npy" for name in ARRAYS} | {"lexical.json"}
    for name in ARRAYS:
        np.load(saved / f"{name}.npy", allow_pickle=False)


@pytest.mark.parametrize("name", ARRAYS)
def test_a_damaged_array_is_named(saved: Path, name: str) -> None:
    path = saved / f"{name}.npy"
    whole, array = path.read_bytes(), np.load(path)
    spoilt = {
        "cut": whole[: len(whole) - array.itemsize],
        "header cut": whole[:20],
        "empty": b"",
        "text": b"these are not the bytes you are looking for" * 10,
    }
    for content in spoilt.values():
        path.write_bytes(content)
        with pytest.raises(Damaged, match=rf"{name}\.npy is damaged"):
            LexicalIndex.open(saved)
    for other in (array[:-1], np.append(array, array[-1:]), array.astype(np.float64), array.reshape(1, -1)):
        np.save(path, other)
        with pytest.raises(Damaged, match=rf"{name}\.npy is damaged"):
            LexicalIndex.open(saved)
    path.unlink()
    with pytest.raises(Damaged, match=rf"{name}\.npy is damaged"):
        LexicalIndex.open(saved)


@pytest.mark.parametrize("name", ["term_offsets", "posting_offsets", "forward_offsets", "ordinals"])
def test_offsets_and_ordinals_must_ascend(saved: Path, name: str) -> None:
    array = np.load(saved / f"{name}.npy")
    array[3] = -5
    np.save(saved / f"{name}.npy", array)
    with pytest.raises(Damaged, match=rf"{name}\.npy is damaged"):
        LexicalIndex.open(saved)


@pytest.mark.parametrize("name", ["posting_docs", "posting_codes", "forward_terms", "forward_tfs", "lengths"])
def test_random_numbers_in_an_array_do_not_end_the_process(saved: Path, name: str) -> None:
    """The generation's checksums catch these; opened without them, answers are wrong but memory is not touched."""
    rng, path = np.random.default_rng(2), saved / f"{name}.npy"
    whole = np.load(path)
    for _ in range(20):
        array = whole.copy()
        at = rng.integers(0, len(array), 5)
        array[at] = rng.integers(0, np.iinfo(array.dtype).max, 5, dtype=array.dtype, endpoint=True)
        np.save(path, array)
        index = LexicalIndex.open(saved)
        for allowed in (None, np.arange(50) < 3):
            hits = index.search("common words 3 again", 10, allowed=allowed)
            assert ((hits.ordinals >= 0) & (hits.ordinals < 50)).all()


def test_a_damaged_description_is_named(saved: Path) -> None:
    path = saved / "lexical.json"
    good = json.loads(path.read_text())
    spoilt = [b"{", b"[]", b"\xff\xfe", json.dumps({**good, "config": {"k1": "much"}}).encode()]
    spoilt += [json.dumps({key: value for key, value in good.items() if key != "sizes"}).encode()]
    spoilt += [json.dumps({key: value for key, value in good.items() if key != "config"}).encode()]
    for content in spoilt:
        path.write_bytes(content)
        with pytest.raises(Damaged, match=r"lexical\.json is damaged"):
            LexicalIndex.open(saved)


def test_another_analyser_or_format_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facetrail.indexing.analysis.VERSION", 999)
    with pytest.raises(Conflict, match="another version of the analyser"):
        LexicalIndex.open(saved)
    monkeypatch.undo()
    description = json.loads((saved / "lexical.json").read_text())
    (saved / "lexical.json").write_text(json.dumps({**description, "format": 99}))
    with pytest.raises(Conflict, match="format 99"):
        LexicalIndex.open(saved)


def test_the_configuration_comes_back(tmp_path: Path) -> None:
    config = LexicalConfig.model_validate({"k1": 1.7, "b": 0.3, "analyser": {"stemmer": "none"}})
    index = LexicalIndex(config)
    index.add([4], ["running"])
    index.save(tmp_path)
    assert LexicalIndex.open(tmp_path).config == config
    assert len(LexicalIndex.open(tmp_path).search("run", 3)) == 0


def test_wrong_ordinals_change_nothing() -> None:
    index = LexicalIndex()
    index.add([3], ["one text"])
    for ordinals, texts in (([3], ["again"]), ([5, 5], ["twice", "twice"]), ([-1], ["negative"])):
        with pytest.raises(KeyError):
            index.add(ordinals, texts)
    with pytest.raises(ValueError, match="2 ordinals for 1 texts"):
        index.add([8, 9], ["one"])
    assert len(index) == 1
    assert index.document_frequencies() == {"on": 1, "text": 1}


READ_ONLY = """
import numba.core.caching as caching
def refuse(self):
    raise OSError(30, "Read-only file system")
caching._CacheLocator.ensure_cache_path = refuse
from facetrail.indexing import lexical_inversion
assert lexical_inversion.impact_table(0.9, 0.4, 5.0)[1 << 10] > 0
print(type(lexical_inversion.impact_table._cache).__name__)
"""


def test_kernels_compile_where_nothing_can_be_written() -> None:
    """A read-only install in an account without a writable home (numba's own test of a folder, made to fail)."""
    answer = subprocess.run([sys.executable, "-c", READ_ONLY], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "NullCache"
