import numpy as np
import pytest

from facetrail.indexing.lexical import LexicalConfig
from facetrail.training.text.negatives import Ranker, with_negatives
from facetrail.training.text.records import UNTITLED, Pair, PairConfig

TEXTS = {f"a:{i}": f"Title {i}\nshared words of document {'x' * i} number {i}" for i in range(30)}
QUERIES = ["shared words", "document number 7"]


@pytest.fixture(autouse=True)
def _cache(own_cache):
    return own_cache


def test_a_cached_ranking_is_the_same_and_builds_no_index(monkeypatch: pytest.MonkeyPatch):
    first = Ranker(TEXTS, LexicalConfig()).rank(QUERIES, 12)

    def refuse(*_: object) -> None:
        raise AssertionError("ranked again")

    monkeypatch.setattr(Ranker, "_ranked", refuse)
    assert np.array_equal(Ranker(TEXTS, LexicalConfig()).rank(QUERIES, 12), first)
    assert (first[0] >= 0).all()
    assert first.shape == (2, 12)


@pytest.mark.parametrize(
    ("texts", "config", "queries", "depth"),
    [
        (TEXTS, LexicalConfig(k1=1.2), QUERIES, 12),
        (TEXTS, LexicalConfig(b=0.75), QUERIES, 12),
        ({**TEXTS, "a:0": "changed"}, LexicalConfig(), QUERIES, 12),
        (TEXTS, LexicalConfig(), QUERIES[::-1], 12),
        (TEXTS, LexicalConfig(), QUERIES, 11),
    ],
)
def test_whatever_decides_the_ranking_changes_where_it_is_kept(texts, config, queries, depth):
    kept = Ranker(TEXTS, LexicalConfig())
    kept.rank(QUERIES, 12)
    path = Ranker(texts, config).cache_path(queries, depth)
    assert path != kept.cache_path(QUERIES, 12)
    assert not path.exists()


def test_a_damaged_cache_file_is_ranked_again():
    ranker = Ranker(TEXTS, LexicalConfig())
    first = ranker.rank(QUERIES, 12)
    ranker.cache_path(QUERIES, 12).write_bytes(b"cut off")
    assert np.array_equal(ranker.rank(QUERIES, 12), first)


def test_a_negative_comes_from_the_ranks_and_is_no_positive_neighbour_or_namesake():
    texts = {**TEXTS, "a:9": TEXTS["a:9"].replace("Title 9", "Title 3")}
    ranker = Ranker(texts, LexicalConfig())
    pair = Pair("qd", "shared words of document", texts["a:3"], "question:1", "a:3", "tldr")
    ranking = [ranker.ids[i] for i in ranker.rank([pair.left], 20)[0]]
    near = frozenset(ranking[4:9])
    assert "a:9" in ranking[9:20]
    allowed = set(ranking[2:20]) - near - {"a:3", "a:9", ranking[12]}
    config = PairConfig(negative_ranks=(3, 20), n_negatives=4)
    seen = set()
    for seed in range(40):
        (chosen,) = with_negatives(
            [pair], {"a": ranker}, texts, {"question:1": near}, config,
            is_clean=lambda name: name != ranking[12], rng=np.random.default_rng(seed),
        )  # fmt: skip
        assert len(set(chosen.negatives)) == 4
        seen |= set(chosen.negatives)
    assert seen == allowed


def test_a_pair_that_asks_with_the_title_gets_negatives_without_theirs():
    pair = Pair("qd", "shared words", "text", "question:1", "a:3", "title")
    config = PairConfig(negative_ranks=(1, 20))
    (chosen,) = with_negatives(
        [pair], {"a": Ranker(TEXTS, LexicalConfig())}, TEXTS, {}, config,
        is_clean=lambda _: True, rng=np.random.default_rng(0),
    )  # fmt: skip
    assert chosen.negatives[0].endswith(UNTITLED)
