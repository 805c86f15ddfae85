"""What one agent wrote in another's tokens: same text, other lengths, nothing lost and nothing computed anew."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from facetrail.models.errors import InvalidInput
from facetrail.models.language.hacpo import mean_log_prob
from facetrail.models.language.records import Finish, Prompt, Rollout
from facetrail.models.language.retokenise import LearnerView, learner_view

PIECES = ["<pad>", "<bos>", "<eos>", "</think>", "=", ";", "+", *"0123456789"]
MERGED = [*PIECES, *(f"{digit} ;" for digit in range(10))]
PROMPT = Prompt("p0", "4 + 9 =", answer="3")


class Words:
    """Greedy longest match over words and pairs of words; `order` permutes the ids."""

    def __init__(self, pieces: list[str], order: Sequence[int] | None = None) -> None:
        order = range(len(pieces)) if order is None else order
        self._ids = dict(zip(pieces, order, strict=True))
        self._pieces = {i: piece for piece, i in self._ids.items()}
        self.pad_id, self.bos_id, self.eos_id = (self._ids[name] for name in PIECES[:3])
        self.n_tokens, self.fingerprint = len(pieces), str(self._ids)

    def encode(self, text: str) -> list[int]:
        words, ids = text.split(), []
        while words:
            n = 2 if " ".join(words[:2]) in self._ids and len(words) > 1 else 1
            ids.append(self._ids[" ".join(words[:n])])
            words = words[n:]
        return ids

    def encode_prompt(self, text: str) -> list[int]:
        return [self.bos_id, *self.encode(text)]

    def decode(self, ids: "list[int] | tuple[int, ...]") -> str:
        return " ".join(self._pieces[i] for i in ids if i not in (self.pad_id, self.eos_id))


def permuted(pieces: list[str], seed: int) -> Words:
    return Words(pieces, torch.randperm(len(pieces), generator=torch.Generator().manual_seed(seed)).tolist())


A, B = Words(PIECES), permuted(MERGED, 1)


def written(
    tokenizer: Words, text: str, *, source_id: str, finish: Finish = "eos", reward: float | None = 1.0
) -> Rollout:
    ids = (*tokenizer.encode(text), *([tokenizer.eos_id] if finish == "eos" else []))
    return Rollout("p0", 0, ids, text, finish, source_id=source_id, reward=reward)


def view(rollout: Rollout, learner_id: str, learner: Words, source: Words, **options: object) -> LearnerView:
    limits: dict[str, object] = {"max_prompt_tokens": 20, "max_completion_tokens": 20, **options}
    return learner_view(
        PROMPT, rollout, learner_id=learner_id, learner=learner, source=source, source_mean_log_prob=-0.37, **limits
    )


@pytest.mark.parametrize("text", ["1 3 ; 3 ; </think> 3", "3 ; ; 4 ;", "</think>", "9 9 9 ;"])
@pytest.mark.parametrize(("source_id", "source", "learner_id", "learner"), [("a", A, "b", B), ("b", B, "a", A)])
def test_text_stays_and_lengths_differ(
    text: str, source_id: str, source: Words, learner_id: str, learner: Words
) -> None:
    rollout = written(source, text, source_id=source_id)
    found = view(rollout, learner_id, learner, source)
    assert learner.decode(found.completion_ids) == text
    assert found.completion_ids[-1] == learner.eos_id
    assert found.prompt_ids == tuple(learner.encode_prompt(PROMPT.text))
    difference = len(found.completion_ids) - len(rollout.completion_ids)
    n_merged = len(A.encode(text)) - len(B.encode(text))
    assert difference == (n_merged if learner is A else -n_merged)
    assert (found.reward, found.source_mean_log_prob, found.source_id) == (1.0, -0.37, source_id)
    assert (found.is_own, found.was_cut) == (False, False)


def test_own_ids_are_never_encoded_anew() -> None:
    """B may well sample `3` and `;` apart; encoding its text would merge them."""
    apart = (*(B.encode(piece)[0] for piece in ("3", ";", "</think>", "3")), B.eos_id)
    rollout = Rollout("p0", 0, apart, B.decode(apart), "eos", source_id="b", reward=None)
    found = view(rollout, "b", B, B)
    assert found.completion_ids == apart
    assert (found.is_own, found.reward) == (True, None)
    assert view(rollout, "a", B, B).completion_ids != apart  # as another agent with the same tokenizer reads it


@pytest.mark.parametrize("finish", ["length", "forced"])
def test_only_what_ended_gets_an_end_token(finish: Finish) -> None:
    rollout = written(A, "1 3 ; 3", source_id="a", finish=finish)
    assert view(rollout, "b", B, A).completion_ids == tuple(B.encode("1 3 ; 3"))


def test_padding_of_the_source_vanishes() -> None:
    rollout = Rollout("p0", 0, (*A.encode("3 ; </think> 3"), A.eos_id, A.pad_id), "", "eos", source_id="a")
    assert view(rollout, "b", B, A).completion_ids == (*B.encode("3 ; </think> 3"), B.eos_id)


def test_too_long_is_cut_from_the_outside() -> None:
    rollout = written(B, "1 ; 2 ; 3 ; </think> 3", source_id="b")
    whole = (*A.encode("1 ; 2 ; 3 ; </think> 3"), A.eos_id)
    found = view(rollout, "a", A, B, max_completion_tokens=6, max_prompt_tokens=3)
    assert found.completion_ids == whole[:6]
    assert found.prompt_ids == tuple(A.encode_prompt(PROMPT.text))[-3:]
    assert (found.n_prompt_cut, found.n_completion_cut, found.was_cut) == (2, 3, True)
    assert found.source_mean_log_prob == -0.37
    exact = view(rollout, "a", A, B, max_completion_tokens=len(whole), max_prompt_tokens=5, overflow="error")
    assert not exact.was_cut
    for limits in ({"max_completion_tokens": 8}, {"max_prompt_tokens": 4}):
        with pytest.raises(InvalidInput, match="raise the limits"):
            view(rollout, "a", A, B, overflow="error", **limits)


def test_an_empty_encoding_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no token"):
        view(written(A, "", source_id="a", finish="length"), "b", B, A)
    assert view(written(A, "", source_id="a"), "b", B, A).completion_ids == (B.eos_id,)


class Bigram:
    """A model over pieces, whatever their ids: the rows and columns of its table follow the tokenizer."""

    def __init__(self, tokenizer: Words, pieces: list[str], seed: int) -> None:
        n = len(pieces)
        canonical = torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        place = torch.empty(n, dtype=torch.long)
        for i, piece in enumerate(pieces):
            place[tokenizer._ids[piece]] = i
        self.table = canonical[place][:, place]

    def mean_log_prob(self, prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> Tensor:
        completion = torch.tensor(completion_ids)
        before = torch.cat([torch.tensor(prompt_ids[-1:]), completion[:-1]])
        log_probs = self.table.log_softmax(1)[before, completion].unsqueeze(0)
        return mean_log_prob(log_probs, torch.ones_like(log_probs, dtype=torch.bool))[0]


@pytest.mark.parametrize("text", ["1 3 ; 3 ; </think> 3", "</think> 4 ;"])
def test_log_ratios_know_nothing_of_the_order_of_either_vocabulary(text: str) -> None:
    def log_ratio(source: Words, learner: Words) -> float:
        rollout = written(source, text, source_id="a")
        theirs = Bigram(source, PIECES, seed=3).mean_log_prob(source.encode_prompt(PROMPT.text), rollout.completion_ids)
        seen = view(rollout, "b", learner, source)
        ours = Bigram(learner, MERGED, seed=4).mean_log_prob(seen.prompt_ids, seen.completion_ids)
        return float(ours - theirs)

    plain = log_ratio(A, Words(MERGED))
    assert abs(plain) > 0.01
    assert log_ratio(permuted(PIECES, 5), Words(MERGED)) == pytest.approx(plain, abs=1e-12)
    assert log_ratio(A, permuted(MERGED, 6)) == pytest.approx(plain, abs=1e-12)
