"""What every head between token states and `FacetState` promises; and texts made of random states to ask it with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from facetrail.models.text.unifar import FacetState, Layout, pair_scores

DTYPES = {torch.float32: 1e-5, torch.float64: 1e-12}


@dataclass(frozen=True)
class Text:
    """States of one text, and where its tokens belong. states: (t, d) · sentence, paragraph: (t,), -1 for none."""

    states: Tensor
    sentence: tuple[int, ...]
    paragraph: tuple[int, ...]
    is_question: bool

    def permuted(self, order: Sequence[int]) -> "Text":
        """The same sentences in another order; what belongs to none stays where it is."""
        outside = [t for t, s in enumerate(self.sentence) if s < 0]
        rows = [t for old in order for t, s in enumerate(self.sentence) if s == old]
        moved = iter(rows)
        where = [t if t in outside else next(moved) for t in range(len(self.sentence))]
        new = {old: at for at, old in enumerate(order)} | {-1: -1}
        return replace(self, states=self.states[where], sentence=tuple(new[self.sentence[t]] for t in where))


def draw_text(lengths: Sequence[int], *, dim: int, generator: torch.Generator, is_question: bool = False) -> Text:
    """One sentence per length between two special tokens; every second sentence begins a paragraph."""
    sentence = (-1, *(s for s, n in enumerate(lengths) for _ in range(n)), -1)
    states = torch.randn(len(sentence), dim, generator=generator, dtype=torch.float64) + 0.5
    return Text(states, sentence, tuple(s // 2 if s >= 0 else -1 for s in sentence), is_question)


def draw_texts(n: int, *, dim: int, seed: int = 0) -> list[Text]:
    """n texts of 1 to 5 sentences of 1 to 6 tokens, every third a question."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [1 + int(x) for x in torch.randint(5, (n,), generator=generator)]
    return [
        draw_text(
            [1 + int(x) for x in torch.randint(6, (size,), generator=generator)],
            dim=dim,
            generator=generator,
            is_question=i % 3 == 0,
        )
        for i, size in enumerate(sizes)
    ]


def batched(texts: Sequence[Text], *, dtype: torch.dtype = torch.float64, extra: int = 0) -> tuple[Tensor, Layout]:
    """The texts as one batch, `extra` columns wider than it must be; padded states are not numbers."""
    shape = len(texts), max(len(text.states) for text in texts) + extra
    states = torch.full((*shape, texts[0].states.shape[1]), float("nan"), dtype=dtype)
    mask = torch.zeros(shape, dtype=torch.bool)
    sentence, paragraph = torch.full(shape, -1), torch.full(shape, -1)
    for row, text in enumerate(texts):
        t = len(text.states)
        states[row, :t], mask[row, :t] = text.states.to(dtype), True
        sentence[row, :t], paragraph[row, :t] = torch.tensor(text.sentence), torch.tensor(text.paragraph)
    counts = [group.max(1).values + 1 for group in (sentence, paragraph)]
    return states, Layout(mask, sentence, paragraph, *counts, torch.tensor([text.is_question for text in texts]))


def degenerate_texts(dim: int) -> dict[str, Text]:
    """One token, no sentence at all, one sentence, one paragraph, an empty sentence in the middle."""
    generator = torch.Generator().manual_seed(5)
    short = draw_text([3, 2], dim=dim, generator=generator)
    return {
        "one token": Text(short.states[:1], (0,), (0,), False),
        "special tokens only": Text(short.states[:2], (-1, -1), (-1, -1), False),
        "question of special tokens": Text(short.states[:2], (-1, -1), (-1, -1), True),
        "one sentence": draw_text([4], dim=dim, generator=generator),
        "one paragraph": short,
        "sentence without tokens": Text(short.states[:4], (-1, 0, 2, -1), (-1, 0, 1, -1), False),
        "zeros": replace(short, states=torch.cat([short.states[:1], torch.zeros(6, dim)])),
    }


def base_vectors(texts: Sequence[Text]) -> Tensor:
    """Mean-pooled unit vectors, text by text. (n, d)."""
    return normalize(torch.stack([text.states.mean(0) for text in texts]), dim=1)


def disturbed(head: nn.Module, *, seed: int = 3, but: Sequence[str] = (), size: float = 0.3) -> nn.Module:
    """The head after a random step of every parameter but those named; in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            if name not in but:
                parameter += size * torch.randn(parameter.shape, generator=generator).to(parameter)
    return head


class FacetHeadContract:
    """Subclass, set `make(dim)`, and the head is held to what search and training build on."""

    make: Callable[[int], nn.Module]
    dim = 12

    def head(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        return type(self).make(self.dim).to(dtype)

    def state(self, head: nn.Module, texts: Sequence[Text], *, extra: int = 0) -> FacetState:
        result = head(*batched(texts, dtype=next(head.parameters()).dtype, extra=extra))
        assert isinstance(result, FacetState)
        return result

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_an_untrained_head_is_the_base(self, dtype: torch.dtype) -> None:
        texts, near = draw_texts(100, dim=self.dim), DTYPES[dtype]
        base, head = base_vectors(texts).to(dtype), self.head(dtype)
        state = self.state(head, texts)
        assert torch.allclose(state.single, base, atol=near, rtol=0)
        assert torch.allclose(state.facets, base.unsqueeze(1).expand_as(state.facets), atol=near, rtol=0)
        drawn = torch.rand(100, state.prior.shape[1], generator=torch.Generator().manual_seed(1), dtype=dtype)
        for weights in (None, drawn / drawn.sum(1, keepdim=True)):
            scores = pair_scores(state, state, head.mixing, head.config.margin, weights)
            assert torch.allclose(scores, base @ base.T, atol=near, rtol=0)

    def test_the_question_vector_starts_at_zero(self) -> None:
        assert torch.equal(self.head().question, torch.zeros(self.dim, dtype=torch.float64))

    def test_vectors_have_length_one_and_shares_add_up_to_one(self) -> None:
        state = self.state(disturbed(self.head()), draw_texts(40, dim=self.dim))
        for unit in (state.single.norm(dim=1), state.facets.norm(dim=2)):
            assert torch.allclose(unit, torch.ones_like(unit))
        for share in (state.prior.sum(1), state.gate.sum(1), state.attention.sum(2), state.roles.exp().sum(2)):
            assert torch.allclose(share, torch.ones_like(share))
        hidden = ~state.unit_mask.unsqueeze(1).expand_as(state.attention)
        assert hidden.any()
        assert (state.attention[hidden] == 0).all()

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_neighbours_and_padding_change_nothing(self, dtype: torch.dtype) -> None:
        head, texts = disturbed(self.head(dtype)), draw_texts(30, dim=self.dim)
        order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
        state = self.state(head, texts)
        shuffled = self.state(head, [texts[i] for i in order], extra=7)
        alone = [self.state(head, [text]) for text in texts]
        for name in ("pooled", "single", "facets", "prior", "gate"):
            whole = getattr(state, name)
            assert torch.allclose(getattr(shuffled, name), whole[order], atol=DTYPES[dtype], rtol=0)
            assert torch.allclose(torch.cat([getattr(a, name) for a in alone]), whole, atol=DTYPES[dtype], rtol=0)

    def test_a_documents_sentences_may_change_places(self) -> None:
        """Up to what their places say, which is left out here."""
        head, generator = disturbed(self.head(), but=["place_map"]), torch.Generator().manual_seed(0)
        text = replace(draw_text([3, 1, 4, 2], dim=self.dim, generator=generator), paragraph=(-1, *[0] * 10, -1))
        state, moved = self.state(head, [text]), self.state(head, [text.permuted([2, 0, 3, 1])])
        for name in ("pooled", "single", "facets", "prior"):
            assert torch.allclose(getattr(moved, name), getattr(state, name), atol=1e-12)
        assert torch.allclose(moved.attention, state.attention[:, :, [2, 0, 3, 1]], atol=1e-12)

    def test_degenerate_texts_get_finite_unit_vectors_and_gradients(self) -> None:
        head, texts = disturbed(self.head()), degenerate_texts(self.dim)
        for chosen in [list(texts.values()), *([text] for text in texts.values())]:
            state = self.state(head, chosen)
            for rows in (state.single, state.facets.flatten(0, 1)):
                assert torch.allclose(rows.norm(dim=1), torch.ones(len(rows), dtype=rows.dtype))
            states, layout = batched(chosen)
            states.requires_grad_()
            state, parameters = head(states, layout), [p for p in head.parameters() if p.requires_grad]
            total = state.single.sum() + state.facets.sum() + state.prior[:, 0].log().sum() + state.gate[:, 0].sum()
            for gradient in torch.autograd.grad(total, [states, *parameters], allow_unused=True):
                assert gradient is None or bool(gradient.isfinite().all())
