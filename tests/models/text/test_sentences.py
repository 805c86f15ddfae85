"""Where sentences end, and that no text makes the rules slow."""

import time

import numpy as np
import pytest

from facetrail.models.text.sentences import split_sentences


def split(text: str) -> list[str]:
    return [text[start:end] for start, end in split_sentences(text)]


@pytest.mark.parametrize(
    "parts",
    [
        ("We measure it.", "It works!", "Does it?", "Yes."),
        ("See Fig. 3 and Eq. (2) of Smith et al. (2010) for p < .05 at 3.14 Hz.", "The end."),
        ("Some (e.g. Markov and i.e. Bayes) vs. Others, cf. Dr. J. R. Smith, approx. 5 of No. 7.", "We agree."),
        ("This follows Smith et al.", "We differ."),
        ("She lives in the U.S. Virgin Islands.", "Not in the U.S.", "The reason is open."),
        ("1. Introduction is first.", "2 items follow."),
        ('He asks "what is it?" and leaves.', '"It is here."', "(Nobody knows.)", "[3] disagrees."),
        ("The answer is no.", "We show why.", "Values (of p.) count."),
        ("It ends... then goes on.", "Then...", "Now."),
        ("这是第一句。", "这是“第二句。”", "第三句！", "最后"),
        ("هل هذا صحيح؟", "نعم."),
        ("यह पहला है।", "यह दूसरा है।"),
    ],
)
def test_sentences_come_back_whole(parts: tuple[str, ...]) -> None:
    joiner = "" if parts[0].endswith("。") else " "
    assert split(joiner.join(parts)) == list(parts)


def test_a_newline_always_ends_a_sentence() -> None:
    assert split("A title, e.g.\n  of two\r\n\n lines \u2028 more") == ["A title, e.g.", "of two", "lines", "more"]


@pytest.mark.parametrize("text", ["", " ", "\n \n\t", "\u2028"])
def test_nothing_but_space_has_no_sentence(text: str) -> None:
    assert split_sentences(text) == []


def test_spans_are_ordered_and_cover_all_but_space() -> None:
    rng = np.random.default_rng(0)
    alphabet = list("aB1.!?。\"')([ \n\t“”é中؟\ud800…")
    for _ in range(300):
        text = "".join(rng.choice(alphabet, 60))
        spans = split_sentences(text)
        assert all(start < end for start, end in spans)
        assert all(text[start:end].strip() == text[start:end] for start, end in spans)
        inside = [place for span in spans for place in range(*span)]
        assert inside == sorted(set(inside))
        assert {place for place, character in enumerate(text) if not character.isspace()} <= set(inside)


@pytest.mark.parametrize("unit", ["One here. Two e.g. this. ", ".", ". ", "x", '."', "。", " ", "\n", ")", "a.b."])
def test_time_grows_with_length_alone(unit: str) -> None:
    def seconds(characters: int) -> float:
        text = unit * (characters // len(unit))
        start = time.process_time()
        split_sentences(text)
        return time.process_time() - start

    # Eight times the text takes about eight times as long; a quadratic rule would take sixty-four.
    assert seconds(400_000) < 24 * seconds(50_000) + 0.1
