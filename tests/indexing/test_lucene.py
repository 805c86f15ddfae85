"""The second lexical engine: the contract where it applies, and agreement with ours on SciFact.

Runs in an environment with the extra `lucene`: `make test-lucene`, where its absence is a failure. Elsewhere the tests
that need it are skipped; the first one runs there.
"""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from facetrail.indexing.corpus import read_corpus, read_queries
from facetrail.indexing.lexical import LexicalIndex
from facetrail.indexing.lucene import LuceneIndex
from facetrail.models.errors import Damaged, Unavailable

sys.path.insert(0, str(Path(__file__).parents[1]))
from contracts.index_contract import IndexContract

PYSERINI = importlib.util.find_spec("jnius_config") is not None


@pytest.fixture(autouse=True)
def _pyserini(request: pytest.FixtureRequest) -> None:
    """Skips what needs pyserini where it is missing, unless `-m lucene` asks for it by name."""
    needed = request.node.get_closest_marker("lucene") is not None
    if needed and not PYSERINI and request.config.option.markexpr != "lucene":
        pytest.skip("needs the extra `lucene`; run `make test-lucene`")


@pytest.mark.skipif(PYSERINI, reason="pyserini is installed here")
def test_without_pyserini_the_cure_is_named() -> None:
    index = LuceneIndex()
    index.add([0], ["a text"])
    with pytest.raises(Unavailable, match=r"pip install 'facetrail\[lucene\]'"):
        index.search("text", 3)


@pytest.mark.lucene
class TestLuceneContract(IndexContract):
    """pyserini keeps the promises of the seam, with scores rounded to four decimals."""

    def make(self) -> LuceneIndex:
        return LuceneIndex()

    def contents(self, n: int, seed: int = 0) -> Sequence[str]:
        rng = np.random.default_rng(seed)
        words = [f"w{i}x" for i in range(100)]
        return [" ".join([*rng.choice(words, 12), f"unique{seed}{i}q"]) for i in range(n)]

    def question(self, content: str) -> str:
        return content

    def test_damage_is_named(self, tmp_path: Path) -> None:
        index, _ = self.filled(3)
        index.save(tmp_path)
        (tmp_path / "documents.jsonl").write_text("")
        with pytest.raises(Damaged, match="documents are missing"):
            LuceneIndex.open(tmp_path)


@pytest.mark.lucene
def test_both_engines_find_the_same_on_scifact(data_folder: Path) -> None:
    """Top ten of 300 queries: lengths rounded to a byte and another tokeniser move few documents."""
    folder = data_folder / "scifact"
    texts = [document.content for document in read_corpus(folder)]
    queries = [query.text for query in read_queries(folder / "queries.jsonl")][:300]
    ours, theirs = LexicalIndex(), LuceneIndex()
    for index in (ours, theirs):
        index.add(range(len(texts)), texts)
    shares = []
    for query in queries:
        left, right = (set(index.search(query, 10).ordinals[:10].tolist()) for index in (ours, theirs))
        shares.append(len(left & right) / 10)
    print(f"overlap@10 with pyserini: {np.mean(shares):.3f}")
    assert np.mean(shares) >= 0.9
