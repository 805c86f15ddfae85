"""The tiny decoder: its size, its start, and that what it reads with a cache is what it reads in full."""

import pytest
import torch
from torch import Tensor

from facetrail.models.language.decoder import CachedDecoder, Decoder, DecoderConfig, attention_mask, positions_of


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def made(*, n_tokens: int = 19, seed: int = 0, **shape: object) -> Decoder:
    decoder = Decoder(DecoderConfig(n_tokens=n_tokens, **shape), seed=seed)
    with torch.no_grad():  # far from the nearly uniform start, where every mistake would be small
        for parameter in decoder.parameters():
            parameter.mul_(6)
    return decoder


def drawn_ids(n: int, t: int) -> Tensor:
    return torch.randint(0, 19, (n, t), generator=torch.Generator().manual_seed(1))


def in_full(decoder: Decoder, ids: Tensor, mask: Tensor) -> Tensor:
    states = decoder(ids, positions_of(mask, decoder.config.context), attention_mask(mask))
    return decoder.logits(states)


def padding(lengths: list[int], t: int) -> Tensor:
    return torch.arange(t) >= t - torch.tensor(lengths).unsqueeze(1)


def test_size_and_start_are_those_of_the_config() -> None:
    decoder = Decoder(DecoderConfig(n_tokens=19), seed=3)
    assert sum(p.numel() for p in decoder.parameters()) == 109_504
    again, other = Decoder(DecoderConfig(n_tokens=19), seed=3), Decoder(DecoderConfig(n_tokens=19), seed=4)
    assert torch.equal(decoder.blocks[1].out.weight, again.blocks[1].out.weight)
    assert not torch.equal(decoder.tokens.weight, other.tokens.weight)
    assert decoder.tokens.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert decoder.blocks[0].down.weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_both_dtypes_begin_with_the_same_numbers() -> None:
    double = Decoder(DecoderConfig(n_tokens=19, dtype="float64"), seed=3)
    assert double.tokens.weight.dtype == torch.float64
    assert torch.equal(double.tokens.weight.float(), Decoder(DecoderConfig(n_tokens=19), seed=3).tokens.weight)


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="dim 64 cannot be shared by 5 heads"):
        DecoderConfig(n_tokens=19, n_heads=5)


@pytest.mark.parametrize("lengths", [[6, 6, 6], [6, 2, 4]])
def test_a_cached_pass_is_the_full_pass(lengths: list[int]) -> None:
    decoder = made(dtype="float64")
    ids, n_new = drawn_ids(3, 10), 4
    mask = padding([n + n_new for n in lengths], 10)
    expected = in_full(decoder, ids, mask)
    with torch.inference_mode():
        cached = CachedDecoder(decoder, room=n_new)
        found = [cached.start(ids[:, :6], mask[:, :6])]
        found += [cached.step(ids[:, t]) for t in range(6, 9)]
    assert torch.allclose(torch.stack(found, 1), expected[:, 5:9], atol=1e-12)


def test_rows_taken_out_of_a_cache_go_on_as_before() -> None:
    decoder = made(dtype="float64")
    ids, mask = drawn_ids(3, 8), padding([8, 5, 7], 8)
    rows = torch.tensor([2, 1, 1])
    expected = in_full(decoder, ids[rows], mask[rows])
    with torch.inference_mode():
        cached = CachedDecoder(decoder, room=2)
        cached.start(ids[:, :6], mask[:, :6])
        cached.take(rows)
        found = [cached.step(ids[rows, 6]), cached.step(ids[rows, 7])]
    assert torch.allclose(torch.stack(found, 1), expected[:, 6:], atol=1e-12)


def test_nothing_looks_ahead() -> None:
    decoder, ids = made(), drawn_ids(2, 8)
    changed = ids.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 19
    mask = torch.ones_like(ids) > 0
    before, after = in_full(decoder, ids, mask), in_full(decoder, changed, mask)
    assert torch.equal(before[:, :5], after[:, :5])
    assert (before[:, 5:] != after[:, 5:]).any(-1).all()


def test_positions_count_real_tokens_only() -> None:
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]]) > 0
    assert positions_of(mask, 9)[0, 2:].tolist() == [0, 1, 2]
    assert positions_of(mask, 3)[1].tolist() == [0, 1, 2, 2, 2]
    assert (positions_of(mask, 9) >= 0).all()
