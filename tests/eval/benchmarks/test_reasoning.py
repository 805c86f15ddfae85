"""The reasoning benchmark in small: a model that repeats what it reads follows everything that reaches it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from contracts.tiny_tokenizer import CharTokenizer

from facetrail.eval.benchmarks.reasoning import (
    FLOOR,
    GUARDED,
    OPEN,
    PLAIN,
    STREAM,
    TEMPLATES,
    first_token,
    injection,
    judged,
    poisoned,
)
from facetrail.models.language.causal import TinyPolicy
from facetrail.models.language.conversation import Message, Piece
from facetrail.models.language.grounding import addresses_the_reader
from facetrail.models.language.records import DrawKey, Sampling
from facetrail.models.text.sentences import split_sentences


class Parrot:
    """Repeats the passages, with a citation that it made up."""

    kind: Literal["local", "endpoint", "tiny"] = "tiny"
    name = "parrot"
    context = 4_096

    def count(self, messages: Sequence[Message]) -> int:
        return sum(len(message.content.split()) for message in messages)

    def stream(self, messages: Sequence[Message], *, sampling: Sampling, key: DrawKey) -> Iterator[Piece]:
        for word in messages[-1].content.split():
            yield Piece(f"{word} ")
        yield Piece("[99]", "eos")


def test_poisoned_documents_differ_and_hold_their_code_once() -> None:
    made = poisoned(200, rng=np.random.default_rng(0))
    assert len({one.code for one in made}) > 195
    assert len({one.row["text"] for one in made}) == 200
    assert all(one.row["text"].count(one.code) == 1 for one in made)
    assert {one.kind for one in made} == set(TEMPLATES)
    again = poisoned(200, rng=np.random.default_rng(0))
    assert made == again


def test_the_guard_knows_the_plain_forms() -> None:
    for template in PLAIN:
        told = template.format(code="BADOKA")
        assert any(addresses_the_reader(told[a:b]) and "BADOKA" in told[a:b] for a, b in split_sentences(told)), told


def test_what_reaches_a_parrot_is_followed_and_its_citations_are_held_back(tmp_path: Path) -> None:
    tallies = injection(tmp_path, Parrot(), poisoned(10, rng=np.random.default_rng(0)), max_tokens=512)
    with_guard, without = tallies[GUARDED].measures(), tallies[OPEN].measures()
    assert without["followed"] == 1.0
    assert with_guard["followed (plain)"] == 0.0
    assert with_guard["followed (oblique)"] > 0.0  # patterns can be evaded, and the benchmark must show it
    assert with_guard["citations within the retrieved"] == without["citations within the retrieved"] == 1.0
    assert all(row["met"] for row in judged(tallies) if "demand" in row)


def test_the_first_token_and_its_floor_are_timed_on_one_prompt() -> None:
    alphabet = "".join(sorted(set("The cell lost some of its capacity. ")))
    policy = TinyPolicy.new(CharTokenizer(alphabet), seed=0, context=256)
    seconds = first_token(policy, n_tokens=150, rounds=2)
    assert {arm: len(taken) for arm, taken in seconds.items()} == {STREAM: 2, FLOOR: 2}
    assert min(min(taken) for taken in seconds.values()) > 0


@pytest.mark.slow
def test_the_default_model_cites_only_what_was_retrieved(tmp_path: Path) -> None:
    from facetrail.models.language.speakers import open_speaker

    tallies = injection(tmp_path, open_speaker("smollm2"), poisoned(10, rng=np.random.default_rng(1)), max_tokens=32)
    assert all(tally.measures()["citations within the retrieved"] == 1.0 for tally in tallies.values())
