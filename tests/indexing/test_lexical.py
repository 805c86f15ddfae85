"""BM25: the contract of every index, and exactness after any sequence of changes."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facetrail.indexing.lexical import LexicalIndex

sys.path.insert(0, str(Path(__file__).parents[1]))
from contracts.index_contract import IndexContract

WORDS = [f"w{chr(97 + i // 26)}{chr(97 + i % 26)}x" for i in range(300)]


def texts(n: int, seed: int = 0, longest: int = 40) -> list[str]:
    """n texts of words drawn with unequal probabilities."""
    rng = np.random.default_rng(seed)
    chance = 1.0 / np.arange(1, len(WORDS) + 1)
    chance /= chance.sum()
    return [" ".join(rng.choice(WORDS, rng.integers(1, longest), p=chance)) for _ in range(n)]


class TestLexicalContract(IndexContract):
    """The lexical index keeps the promises of the seam."""

    def make(self) -> LexicalIndex:
        return LexicalIndex()

    def contents(self, n: int, seed: int = 0) -> Sequence[str]:
        return [f"{text} unique{seed}{i}q" for i, text in enumerate(texts(n, seed))]

    def question(self, content: str) -> str:
        return content
