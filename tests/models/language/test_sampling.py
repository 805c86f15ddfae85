"""Keyed draws: right frequencies, impossible tokens, truncation, and rows that know nothing of each other."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from facetrail.models.errors import InvalidInput
from facetrail.models.language.records import DrawKey, Sampling
from facetrail.models.language.sampling import Row, check_sampling, draw, left_padded, nucleus, row_of, write

P = torch.tensor([0.05, 0.0, 0.4, 0.25, 0.3, 0.0], dtype=torch.float64)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def drawn(probabilities: Tensor, uniforms: list[float], **options: float) -> list[int]:
    logits = probabilities.log().expand(len(uniforms), -1)
    tokens, _ = draw(logits, torch.tensor(uniforms, dtype=torch.float64), **{"temperature": 1.0} | options)
    return tokens.tolist()


def test_the_token_is_the_first_whose_cumulative_probability_exceeds_u() -> None:
    p = torch.tensor([0.25, 0.0, 0.25, 0.5], dtype=torch.float64)
    assert drawn(p, [0.0, 0.24, 0.26, 0.49, 0.51, 0.99]) == [0, 0, 2, 2, 3, 3]


def test_impossible_tokens_never_come_even_at_the_ends_of_the_interval() -> None:
    first_and_last = torch.tensor([0.0, 0.5, 0.5, 0.0], dtype=torch.float64)
    assert drawn(first_and_last, [0.0, 1 - 2**-53]) == [1, 2]


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.3])
def test_frequencies_pass_a_chi_square_test(temperature: float) -> None:
    key = DrawKey(11)
    uniforms = torch.tensor([key.generator("p", sample).random() for sample in range(20_000)], dtype=torch.float64)
    tokens, log_probs = draw(P.log().expand(20_000, -1), uniforms, temperature=temperature)
    wanted = (P ** (1 / temperature)) / (P ** (1 / temperature)).sum()
    counts = np.bincount(tokens.numpy(), minlength=6)
    assert counts[[1, 5]].tolist() == [0, 0]
    possible = [0, 2, 3, 4]
    assert chisquare(counts[possible], 20_000 * wanted[possible].numpy()).pvalue > 0.001
    assert torch.allclose(log_probs, wanted.log()[tokens])


def test_temperature_zero_takes_the_likeliest_and_of_equals_the_lowest() -> None:
    logits = torch.tensor([[0.0, 2.0, 2.0], [1.0, 1.0, 1.0], [0.0, 1.0, 3.0]])
    tokens, _ = draw(logits, torch.full((3,), 0.99, dtype=torch.float64), temperature=0)
    assert tokens.tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.39, [2]), (0.41, [2, 4]), (0.71, [2, 3, 4]), (0.96, [0, 2, 3, 4]), (1.0, [0, 2, 3, 4])]
)
def test_top_p_keeps_the_smallest_set_that_holds_the_mass(top_p: float, kept: list[int]) -> None:
    found = nucleus(P.unsqueeze(0), top_p)[0]
    assert found.nonzero().squeeze(1).tolist() == kept
    assert torch.equal(found[kept], P[kept])


def test_top_p_draws_within_the_set_and_in_proportion() -> None:
    # 0.4 and 0.3 are left: token 2 below u = 4/7.
    assert drawn(P, [0.0, 0.57, 0.58, 0.999], top_p=0.6) == [2, 2, 4, 4]
    even = torch.full((4,), 0.25, dtype=torch.float64)
    assert drawn(even, [0.0, 0.999], top_p=0.5) == [0, 1]


def test_fewer_uniforms_are_the_beginning_of_more() -> None:
    key = DrawKey(5, step=2)
    short, long = (row_of(key, "p", 3, prompt=0, limit=limit).uniforms for limit in (4, 9))
    assert np.array_equal(short, long[:4])
    assert not np.array_equal(short, row_of(key, "p", 2, prompt=0, limit=4).uniforms)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_are_refused(bad: float, temperature: float) -> None:
    with pytest.raises(InvalidInput, match="logits are no numbers"):
        draw(torch.tensor([[0.0, bad]]), torch.zeros(1, dtype=torch.float64), temperature=temperature)


@pytest.mark.parametrize(
    ("sampling", "field"),
    [
        (Sampling(temperature=-0.1), "/temperature"),
        (Sampling(temperature=math.nan), "/temperature"),
        (Sampling(top_p=0.0), "/top_p"),
        (Sampling(top_p=1.1), "/top_p"),
        (Sampling(max_new_tokens=0), "/max_new_tokens"),
    ],
)
def test_senseless_sampling_is_refused(sampling: Sampling, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_sampling(sampling)
    assert caught.value.pointer == field


class Countdown:
    """A model that knows its next token: one less than the last, and 0, the end, after 1."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def start(self, ids: Tensor, mask: Tensor) -> Tensor:
        assert mask[:, -1].all()
        self.rows = len(ids)
        return self._after(ids[:, -1])

    def step(self, tokens: Tensor) -> Tensor:
        assert len(tokens) == self.rows
        self.sizes.append(len(tokens))
        return self._after(tokens)

    def take(self, rows: Tensor) -> None:
        self.rows = len(rows)

    def _after(self, tokens: Tensor) -> Tensor:
        return torch.nn.functional.one_hot((tokens - 1).clamp_min(0), 10).float().log()


def counted(
    prompts: list[list[int]], rows: list[tuple[int, int]]
) -> tuple[list[tuple[tuple[int, ...], str]], Countdown]:
    model = Countdown()
    wanted = [Row(prompt=prompt, uniforms=np.full(limit, 0.5), limit=limit) for prompt, limit in rows]
    found = write(
        model, prompts, wanted, sampling=Sampling(), eos_id=0, pad_id=9, device=torch.device("cpu")
    )  # fmt: skip
    assert all(one.log_probs == (0.0,) * len(one.ids) for one in found)
    return [(one.ids, one.finish) for one in found], model


def test_rows_end_at_their_end_token_or_their_own_limit() -> None:
    found, _ = counted([[3], [7, 2], [6]], [(0, 8), (1, 8), (2, 3), (2, 6), (2, 5)])
    assert found == [
        ((2, 1, 0), "eos"),
        ((1, 0), "eos"),
        ((5, 4, 3), "length"),
        ((5, 4, 3, 2, 1, 0), "eos"),
        ((5, 4, 3, 2, 1), "length"),
    ]


def test_ended_rows_leave_the_batch() -> None:
    _, model = counted([[2], [8]], [(0, 9), (0, 9), (0, 9), (1, 9)])
    assert model.sizes == [4, 1, 1, 1, 1, 1, 1]


def test_prompts_are_padded_in_front() -> None:
    ids, mask = left_padded([[5], [1, 2, 3]], 9)
    assert ids.tolist() == [[9, 9, 5], [1, 2, 3]]
    assert mask.tolist() == [[False, False, True], [True, True, True]]
