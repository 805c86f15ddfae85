from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facetrail.models.errors import InvalidInput
from facetrail.training.text import corpora, leaks
from facetrail.training.text.leaks import Guard, Protected, check_pairs
from facetrail.training.text.pairs import build_training_data
from facetrail.training.text.records import Pair, PairConfig

WORDS = [f"w{i}" for i in range(200)]
SECRET = " ".join(WORDS[:100])
GUARD = Guard([Protected("test:1", "The Secret of Ranking", SECRET), Protected("test:2", "", " ".join(WORDS[100:]))])


def pair_of(left: str, right: str) -> Pair:
    return Pair("dd", left, right, "a:left", "a:right", "citation")


def test_a_planted_title_is_found_whatever_its_case_and_punctuation():
    pairs = [
        pair_of("Harmless\none text", "Fine\nanother"),
        pair_of("the SECRET, of ranking!\nquite other words", "Fine\nx"),
    ]
    with pytest.raises(InvalidInput, match=r"pair 1 .*a:left and a:right.*test:1.*same title"):
        check_pairs(pairs, {}, GUARD)


def test_a_planted_text_is_found_by_its_8_grams():
    nearly = " ".join([*WORDS[:97], "some", "changed", "end"])
    with pytest.raises(InvalidInput, match=r"test:1 \(8-grams with Jaccard 0\.9"):
        check_pairs([pair_of("Harmless\ntext", f"{nearly}")], {}, GUARD)


def test_a_leak_in_a_negative_is_found():
    pair = replace(pair_of("Harmless\ntext", "Fine\ntext"), negatives=("a:other",))
    check_pairs([pair], {"a:other": "Fine as well\ntext"}, GUARD)
    with pytest.raises(InvalidInput, match="test:2"):
        check_pairs([pair], {"a:other": " ".join(WORDS[100:])}, GUARD)


@pytest.mark.parametrize(("kept", "is_leak"), [(91, True), (90, True), (89, True), (80, True), (70, False)])
def test_the_limit_is_the_jaccard_coefficient_solved_by_hand(kept: int, is_leak: bool):
    text = " ".join(WORDS[:kept])
    shared, whole = kept - 7, 93  # the runs of the shorter text are all runs of the longer one
    assert (shared / whole >= 0.8) == (is_leak and kept != 80)
    leak = GUARD.leak(text)
    assert (leak is not None) == (shared / whole >= 0.8)
    if leak is not None:
        assert leak.similarity == pytest.approx(shared / whole)


def test_shared_words_in_another_order_are_no_leak():
    assert GUARD.leak(" ".join(np.random.default_rng(0).permutation(WORDS[:100]))) is None


def test_short_texts_and_texts_without_words_are_compared_whole():
    guard = Guard([Protected("short", "", "only three words"), Protected("empty", "", "...")])
    assert guard.leak("Only three words") is not None
    assert guard.leak("only three other words") is None
    assert guard.leak("...") is None
    assert Guard([]).leak("anything at all") is None


def test_what_was_built_passes_and_a_planted_test_document_does_not(tiny_data: Path, own_cache: Path):
    config = PairConfig(
        n_citation=10, n_cocitation=0, n_shared_keywords=0, n_tldr=10, n_title=0, n_keywords=0, n_sentence=0
    )
    built = build_training_data(tiny_data, config, rng=np.random.default_rng(0))
    leaks.check(tiny_data, built)
    for collection, is_planted in (
        (corpora.SCIFACT, None),
        (corpora.CACM, lambda name: corpora.cacm_split(name) == "test"),
    ):
        planted = next(d for d in corpora.documents(tiny_data, collection) if is_planted is None or is_planted(d.id))
        bad = replace(built, train=[*built.train, pair_of(built.train[0].left, planted.text)])
        with pytest.raises(InvalidInput, match=planted.id):
            leaks.check(tiny_data, bad)
