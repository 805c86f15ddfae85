"""The promises of `facetrail.indexing.index.Index`, as tests that every index family inherits.

Subclass it with a name that starts with `Test` and give it the fixture-free methods below:

    class TestExact(IndexContract):
        def make(self): ...                              # an empty index
        def contents(self, n, seed): ...                 # n documents' contents, all different
        def question(self, content): ...                 # a query that this content answers best
        def reopen(self, index, folder): ...             # index.save(folder), then open(folder)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facetrail.indexing.index import Hits

N = 40


def same(left: Hits, right: Hits) -> None:
    """Fails unless both hold the same ordinals with the same bits of score."""
    np.testing.assert_array_equal(left.ordinals, right.ordinals)
    np.testing.assert_array_equal(left.scores, right.scores)


class IndexContract:
    """Eleven promises. `finds_all`: a search with k = n returns every document (true of vectors, not of words)."""

    finds_all = False

    def make(self) -> Any:
        """An empty index."""
        raise NotImplementedError

    def contents(self, n: int, seed: int = 0) -> Sequence[Any]:
        """n contents that differ from each other."""
        raise NotImplementedError

    def question(self, content: Any) -> Any:
        """What to ask so that `content` is the best answer."""
        raise NotImplementedError

    def reopen(self, index: Any, folder: Path) -> Any:
        """What `save` writes and `open` reads."""
        folder.mkdir(parents=True)
        index.save(folder)
        return type(index).open(folder)

    def filled(self, n: int = N, first: int = 0) -> tuple[Any, Sequence[Any]]:
        """An index of n documents under ordinals first … first + n - 1, and their contents."""
        index, contents = self.make(), self.contents(n)
        index.add(range(first, first + n), contents)
        return index, contents

    def test_an_empty_index_finds_nothing(self) -> None:
        index = self.make()
        assert len(index) == 0
        hits = index.search(self.question(self.contents(1)[0]), 5)
        assert len(hits) == 0
        assert hits.ordinals.dtype == np.int64
        assert hits.scores.dtype == np.float64

    def test_a_document_finds_itself_first(self) -> None:
        index, contents = self.filled()
        assert len(index) == N
        for ordinal, content in enumerate(contents):
            assert index.search(self.question(content), 3).ordinals[0] == ordinal

    def test_hits_stand_in_total_order(self) -> None:
        index, contents = self.filled()
        for content in contents[:10]:
            hits = index.search(self.question(content), N)
            order = np.lexsort((hits.ordinals, -hits.scores))
            np.testing.assert_array_equal(order, np.arange(len(hits)))
            assert len(set(hits.ordinals.tolist())) == len(hits)

    def test_a_smaller_k_gives_the_head_of_a_larger_one(self) -> None:
        index, contents = self.filled()
        for content in contents[:5]:
            most = index.search(self.question(content), N)
            for k in (1, 3, 10):
                hits = index.search(self.question(content), k)
                assert len(hits) >= min(k, len(most))
                same(hits, Hits(most.ordinals[: len(hits)], most.scores[: len(hits)]))

    def test_k_beyond_the_corpus_and_k_of_zero(self) -> None:
        index, contents = self.filled()
        question = self.question(contents[0])
        most = index.search(question, 10 * N)
        assert 1 <= len(most) <= N
        assert len(most) == N or not self.finds_all
        assert len(index.search(question, 0)) == 0

    def test_everything_tied_with_the_last_is_kept(self) -> None:
        index, contents = self.make(), self.contents(3)
        index.add(range(12), [contents[0]] * 12)
        index.add([20, 21], contents[1:])
        hits = index.search(self.question(contents[0]), 4)
        assert hits.ordinals.tolist() == list(range(12))
        assert len(set(hits.scores.tolist())) == 1

    def test_a_removed_document_is_never_found(self) -> None:
        index, contents = self.filled()
        index.remove(range(0, N, 2))
        assert len(index) == N // 2
        for content in contents:
            assert not any(ordinal % 2 == 0 for ordinal in index.search(self.question(content), N).ordinals)

    def test_removal_equals_never_having_added(self) -> None:
        index, contents = self.filled()
        index.remove(range(0, N, 2))
        fresh = self.make()
        fresh.add(range(1, N, 2), contents[1::2])
        for content in contents:
            same(index.search(self.question(content), N), fresh.search(self.question(content), N))

    def test_removing_what_is_not_there_is_an_error_and_changes_nothing(self) -> None:
        index, contents = self.filled(5)
        before = index.search(self.question(contents[0]), 5)
        with pytest.raises(KeyError):
            index.remove([1, 99])
        with pytest.raises(KeyError):
            index.remove([1, 1])
        assert len(index) == 5
        same(index.search(self.question(contents[0]), 5), before)

    def test_only_allowed_documents_are_found(self) -> None:
        index, contents = self.filled()
        allowed = np.zeros(N, np.bool_)
        allowed[[3, 7, 8]] = True
        for content in contents[:10]:
            everything = index.search(self.question(content), N)
            keep = allowed[everything.ordinals]
            same(
                index.search(self.question(content), 3, allowed=allowed),
                Hits(everything.ordinals[keep], everything.scores[keep]),
            )
        assert len(index.search(self.question(contents[0]), 3, allowed=np.zeros(N, np.bool_))) == 0

    def test_a_reopened_index_gives_the_same_hits_and_takes_more(self, tmp_path: Path) -> None:
        index, contents = self.filled(first=5)
        index.remove([6, 10])
        opened = self.reopen(index, tmp_path / "saved")
        assert len(opened) == N - 2
        for content in contents[:10]:
            same(opened.search(self.question(content), N), index.search(self.question(content), N))
        more = self.contents(N + 6, seed=1)[-6:]
        for each in (index, opened):
            each.add(range(100, 106), more)
            each.remove([5, 101])
        for content in [*contents[:10], *more]:
            same(opened.search(self.question(content), N), index.search(self.question(content), N))
        assert opened.search(self.question(more[0]), 1).ordinals[0] == 100

    def test_an_empty_index_survives_saving(self, tmp_path: Path) -> None:
        index, contents = self.filled(3)
        index.remove([0, 1, 2])
        opened = self.reopen(index, tmp_path / "saved")
        assert len(opened) == 0
        assert len(opened.search(self.question(contents[0]), 3)) == 0
        opened.add([0], contents[:1])
        assert opened.search(self.question(contents[0]), 3).ordinals.tolist() == [0]
