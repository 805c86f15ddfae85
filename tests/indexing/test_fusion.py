"""Fusion: formulas solved by hand, guards, and properties on random lists."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetrail.indexing.fusion import Fused, fuse
from facetrail.indexing.index import EMPTY_HITS, Hits, best_with_ties
from facetrail.indexing.request import FusionConfig
from facetrail.models.errors import InvalidInput

METHODS = ("z", "minmax", "rrf", "dbsf")


def hits(scores: dict[int, float]) -> Hits:
    return best_with_ties(np.array(list(scores), np.int64), np.array(list(scores.values()), np.float64), len(scores))


def config(method: str, *weights: float, k: int = 60) -> FusionConfig:
    shares = dict(zip(("lexical", "dense"), weights, strict=False)) or None
    return FusionConfig.model_validate({"method": method, "weights": shares, "k": k})


def by_ordinal(fused: Fused) -> dict[int, float]:
    return dict(zip(fused.ordinals.tolist(), fused.scores.tolist(), strict=True))


LEXICAL = hits({1: 3.0, 2: 2.0, 3: 1.0})
DENSE = hits({2: 0.9, 4: 0.5})
SQRT = np.sqrt(1.5)  # z of 3, 2, 1 is ±√1.5 with the population's deviation

BY_HAND = {
    "z": {1: SQRT / 2 - 0.5, 2: 0.5, 3: -SQRT / 2 - 0.5, 4: -SQRT / 2 - 0.5},
    "minmax": {1: 0.5, 2: 0.25 + 0.5, 3: 0.0, 4: 0.0},
    "rrf": {1: 0.5 / 61, 2: 0.5 / 62 + 0.5 / 61, 3: 0.5 / 63, 4: 0.5 / 62},
    "dbsf": {1: (SQRT / 2 - 0.5) / 6 + 0.5, 2: 0.5 / 6 + 0.5, 3: (-SQRT - 1) / 12 + 0.5, 4: (-SQRT - 1) / 12 + 0.5},
}


@pytest.mark.parametrize("method", METHODS)
def test_scores_equal_those_worked_out_by_hand(method: str) -> None:
    found = by_ordinal(fuse({"lexical": LEXICAL, "dense": DENSE}, config(method)))
    assert found == pytest.approx(BY_HAND[method], abs=1e-12)


def test_order_is_by_score_then_ordinal_and_absent_scores_are_none() -> None:
    fused = fuse({"lexical": LEXICAL, "dense": DENSE}, config("minmax"))
    assert fused.ordinals.tolist() == [2, 1, 3, 4]
    lexical, dense = fused.source_scores(3)
    assert (lexical.name, lexical.raw, lexical.rank, lexical.normalised) == ("lexical", None, None, 0.0)
    assert (dense.name, dense.raw, dense.rank, dense.weight) == ("dense", 0.5, 2, 0.5)


@pytest.mark.parametrize("method", METHODS)
def test_weight_one_and_zero_reproduces_the_first_order_with_the_others_tied_at_its_end(method: str) -> None:
    first, second = hits({5: 9.0, 3: 4.0, 8: 1.0}), hits({9: 7.0, 3: 6.0, 7: 5.0})
    fused = fuse({"lexical": first, "dense": second}, config(method, 1, 0))
    assert [o for o in fused.ordinals.tolist() if o in (5, 3, 8)] == first.ordinals.tolist()
    scores = by_ordinal(fused)
    assert scores[7] == scores[9] <= scores[8]
    assert (scores[7] == scores[8]) == (method != "rrf")


@pytest.mark.parametrize("method", METHODS)
def test_equal_sources_keep_their_order(method: str) -> None:
    assert fuse({"lexical": LEXICAL, "dense": LEXICAL}, config(method)).ordinals.tolist() == [1, 2, 3]


@pytest.mark.parametrize("method", METHODS)
def test_one_empty_source_leaves_the_other_alone_with_a_warning(method: str) -> None:
    fused = fuse({"lexical": EMPTY_HITS, "dense": DENSE}, config(method, 0.8, 0.2))
    alone = fuse({"dense": DENSE}, FusionConfig.model_validate({"method": method}))
    assert fused.ordinals.tolist() == DENSE.ordinals.tolist()
    assert fused.scores.tolist() == alone.scores.tolist()
    assert [s.weight for s in fused.sources] == [1.0]
    assert "lexical" in fused.warnings[0]


def test_a_source_of_weight_zero_that_alone_found_something_is_used() -> None:
    fused = fuse({"lexical": EMPTY_HITS, "dense": DENSE}, config("z", 1, 0))
    assert fused.ordinals.tolist() == DENSE.ordinals.tolist()
    assert any("weight 0" in warning for warning in fused.warnings)


def test_nothing_found_is_an_empty_ranking() -> None:
    fused = fuse({"lexical": EMPTY_HITS, "dense": EMPTY_HITS}, FusionConfig())
    assert len(fused) == 0
    assert len(fused.warnings) == 2


@pytest.mark.parametrize(("method", "value"), [("z", 0.0), ("minmax", 1.0), ("dbsf", 0.5)])
def test_constant_scores_carry_no_opinion(method: str, value: float) -> None:
    constant = hits(dict.fromkeys(range(5), 1e6 + 0.1))
    fused = fuse({"lexical": constant}, FusionConfig.model_validate({"method": method}))
    assert fused.scores.tolist() == [value] * 5


@pytest.mark.parametrize(
    ("weights", "pointer"),
    [
        ({"lexical": -1, "dense": 1}, "/fusion/weights/lexical"),
        ({"lexical": 0, "dense": 0}, "/fusion/weights"),
        ({"lexical": float("nan"), "dense": 1}, "/fusion/weights/lexical"),
        ({"lexical": float("inf"), "dense": 1}, "/fusion/weights/lexical"),
        ({"dense": 1}, "/fusion/weights"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights: dict[str, float], pointer: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        fuse({"lexical": LEXICAL, "dense": DENSE}, FusionConfig.model_validate({"weights": weights}))
    assert caught.value.pointer == pointer


def test_a_weight_for_an_unknown_source_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no source 'dense'"):
        fuse({"lexical": LEXICAL}, config("z", 1, 1))


score_lists = st.dictionaries(st.integers(0, 30), st.integers(-50, 50).map(lambda n: n / 4), max_size=20)


@settings(max_examples=150, deadline=None)
@given(score_lists, score_lists, st.sampled_from(METHODS), st.integers(0, 10), st.integers(1, 10))
def test_sources_recompute_the_score_and_their_order_does_not_matter(
    first: dict[int, float], second: dict[int, float], method: str, w1: int, w2: int
) -> None:
    sources = {"lexical": hits(first), "dense": hits(second)}
    fused = fuse(sources, config(method, w1, w2))
    swapped = fuse(dict(reversed(sources.items())), config(method, w1, w2))
    assert fused.ordinals.tolist() == swapped.ordinals.tolist()
    assert fused.scores.tolist() == swapped.scores.tolist()
    assert set(fused.ordinals.tolist()) == set(first) | set(second)
    assert np.isfinite(fused.scores).all()
    for position, score in enumerate(fused.scores.tolist()):
        shares = fused.source_scores(position)
        assert sum(s.weight * s.normalised for s in shares) == pytest.approx(score, abs=1e-9)
        for share in shares:
            ranked = sources[share.name].ordinals.tolist()
            listed = int(fused.ordinals[position]) in ranked
            assert (share.raw is not None) == (share.rank is not None) == listed
            assert share.rank is None or ranked[share.rank - 1] == fused.ordinals[position]


@settings(max_examples=60, deadline=None)
@given(score_lists.filter(bool), st.sampled_from(METHODS))
def test_one_source_keeps_its_order(scores: dict[int, float], method: str) -> None:
    alone = hits(scores)
    fused = fuse({"lexical": alone}, FusionConfig.model_validate({"method": method}))
    assert fused.ordinals.tolist() == alone.ordinals.tolist()
