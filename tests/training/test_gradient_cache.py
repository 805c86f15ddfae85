"""Cached gradients are the full batch's, for the head and the losses that are really trained."""

from collections.abc import Callable

import pytest
import torch
from contracts.facet_head import batched, disturbed, draw_texts
from torch import Tensor, nn

from facetrail.models.errors import InvalidInput
from facetrail.models.text.losses import (
    alignment,
    contrastive,
    distillation,
    diversity,
    false_negatives,
    role_divergence,
    split_distance,
)
from facetrail.models.text.unifar import FacetState, Layout, UnifarConfig, UnifarHead, pair_scores
from facetrail.training.gradient_cache import cached_backward

DIM, PAIRS, UNITS = 16, 9, 60
Outputs = dict[str, Tensor]
Chunk = tuple[Tensor, Layout]


class Encoder(nn.Module):
    """A layer below the head, so that gradients pass through it, and the question vector where it belongs."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.layer = nn.Parameter(torch.eye(DIM) + 0.1 * torch.randn(DIM, DIM, generator=generator))
        self.head = disturbed(UnifarHead(UnifarConfig(dim=DIM), generator=generator), size=0.2)
        self.to(dtype)

    def forward(self, chunk: Chunk) -> Outputs:
        states, layout = chunk
        states = states.masked_fill(~layout.mask.unsqueeze(-1), 0) @ self.layer
        state = self.head(states + layout.is_question.view(-1, 1, 1) * self.head.question, layout)
        wide = UNITS - state.roles.shape[1]
        outputs = {name: getattr(state, name) for name in ("pooled", "single", "facets", "prior", "gate")}
        outputs["attention"] = nn.functional.pad(state.attention, (0, wide))
        outputs["roles"] = nn.functional.pad(state.roles, (0, 0, 0, wide))
        outputs["unit_mask"] = nn.functional.pad(state.unit_mask, (0, wide))
        return outputs

    def loss(self, outputs: Outputs) -> Tensor:
        """All losses over n left texts, n right ones and 3 hard negatives."""
        state = FacetState(**outputs)
        left, right = (
            FacetState(*(getattr(state, name)[part] for name in FacetState.__dataclass_fields__))
            for part in (slice(PAIRS), slice(PAIRS, None))
        )
        scores = pair_scores(left, right, self.head.mixing, 0.05)
        base = torch.sin(torch.arange(scores.numel())).view_as(scores).to(scores)
        roles = torch.eye(4).to(scores)[torch.arange(UNITS) % 4].expand(len(right.roles), -1, -1)
        return (
            contrastive(scores, scores[:, :PAIRS].T, false_negatives(base, base > 0.9))
            + 0.2 * role_divergence(roles, right.roles, right.unit_mask)
            + 0.1 * alignment(left.facets, right.facets[:PAIRS], left.prior)
            + split_distance(right.facets, right.facets.detach().roll(1, 1), right.prior > 0.2)
            + diversity(self.head.anchors, right.prior.mean(0), torch.full((4,), 0.25).to(scores), above=-0.5)
            + 0.2 * distillation(base, scores)
        )


def chunks_of(size: int, dtype: torch.dtype) -> list[Chunk]:
    texts = draw_texts(2 * PAIRS + 3, dim=DIM)
    return [batched(texts[i : i + size], dtype=dtype) for i in range(0, len(texts), size)]


def gradients(encoder: nn.Module) -> Outputs:
    return {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-4), (torch.float64, 1e-8)])
@pytest.mark.parametrize("size", [1, 4, 21])
def test_they_equal_the_full_batchs(dtype: torch.dtype, near: float, size: int) -> None:
    encoder = Encoder(dtype)
    full = encoder.loss(encoder(chunks_of(21, dtype)[0]))
    full.backward()
    expected = gradients(encoder)
    assert set(expected) == {name for name, _ in encoder.named_parameters()}
    encoder.zero_grad()
    loss = cached_backward(encoder, chunks_of(size, dtype), encoder.loss)
    assert not loss.requires_grad
    assert loss.item() == pytest.approx(full.item(), rel=near)
    for name, gradient in gradients(encoder).items():
        assert (gradient - expected[name]).abs().max() <= near * expected[name].abs().max(), name


def test_gradients_add_up_over_calls() -> None:
    encoder = Encoder(torch.float64)
    for _ in range(2):
        cached_backward(encoder, chunks_of(4, torch.float64), encoder.loss)
    twice = gradients(encoder)
    encoder.zero_grad()
    cached_backward(encoder, chunks_of(7, torch.float64), encoder.loss)
    assert all(torch.allclose(twice[name], 2 * once) for name, once in gradients(encoder).items())


def test_no_graph_is_kept_for_more_than_one_chunk() -> None:
    alive: list[bool] = []
    weight = nn.Parameter(torch.ones(3))

    def encode(chunk: Tensor) -> Outputs:
        alive.append(torch.is_grad_enabled())
        return {"rows": chunk * weight}

    cached_backward(encode, [torch.ones(2, 3), torch.ones(1, 3)], lambda out: out["rows"].square().sum())
    assert alive == [False, False, True, True]
    assert weight.grad is not None
    assert weight.grad.tolist() == [6, 6, 6]


LOSSES: dict[str, Callable[[Outputs], Tensor]] = {
    "of one output": lambda out: out["rows"].sum(),
    "of none": lambda out: torch.zeros((), requires_grad=True) * 2,
    "without a graph": lambda out: out["rows"].detach().sum(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_may_leave_outputs_out(name: str) -> None:
    weight = nn.Parameter(torch.ones(3))

    def encode(chunk: Tensor) -> Outputs:
        return {"rows": chunk * weight, "constant": chunk, "ids": torch.arange(len(chunk))}

    cached_backward(encode, [torch.ones(2, 3), torch.ones(2, 3)], LOSSES[name])
    reached = weight.grad is not None and bool(weight.grad.any())
    assert reached == (name == "of one output")


def test_no_chunk_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at least one"):
        cached_backward(lambda chunk: {}, [], lambda out: torch.zeros(()))
