"""The head against its equations written out text by text, its reductions, and scores solved by hand."""

import pytest
import torch
from contracts.facet_head import FacetHeadContract, Text, batched, degenerate_texts, disturbed, draw_text, draw_texts
from pydantic import ValidationError
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, normalize

from facetrail.models.text.unifar import (
    N_PLACES,
    FacetState,
    Layout,
    UnifarConfig,
    UnifarHead,
    attention_pool,
    facet_scores,
    pair_scores,
)

DIM = 12


def head_of(*, seed: int = 0, facets: int = 4, **options: object) -> UnifarHead:
    config = UnifarConfig(dim=DIM, facets=tuple("abcdef"[:facets]), gate_width=8, **options)
    return UnifarHead(config, generator=torch.Generator().manual_seed(seed)).double()


def by_the_book(head: UnifarHead, text: Text) -> dict[str, Tensor]:
    """One text, one head and one group at a time, as the equations stand. Leading dimension 1."""
    X, sentence, paragraph = text.states, torch.tensor(text.sentence), torch.tensor(text.paragraph)
    n_sentences, n_paragraphs = int(sentence.max()) + 1, int(paragraph.max()) + 1
    g_D = X.mean(0)
    g_T = torch.tanh(X @ head.token_map.T).matmul(head.token_query).softmax(0) @ X
    groups = []
    for where, count in ((sentence, n_sentences), (paragraph, n_paragraphs)):
        rows = [X[where == i].mean(0) for i in range(count) if (where == i).any()]
        groups.append(torch.stack(rows) if rows else g_D.new_zeros(1, DIM))
    g_S, g_P = (
        (g @ q).softmax(0) @ g for g, q in zip(groups, (head.sentence_query, head.paragraph_query), strict=True)
    )
    sizes = torch.tensor([len(X), n_sentences, n_paragraphs]).log1p()
    phi = torch.cat([sizes, torch.tensor([float(text.is_question)]), layer_norm(g_D, (DIM,))])
    logits = head.gate_out @ gelu(head.gate_in @ phi + head.gate_in_bias)
    a = torch.zeros(4, dtype=torch.float64)
    there = [0, 1, *([2] if n_sentences > 1 else []), *([3] if n_paragraphs > 1 else [])]
    a[there] = logits[there].softmax(0)
    z_0 = g_D + head.gate_scale * sum(a[g] * (pool - g_D) for g, pool in ((1, g_T), (2, g_S), (3, g_P)))

    U = X if text.is_question or n_sentences < 2 else groups[0]
    queries, keys = (head.anchors @ head.query_map).chunk(4, 1), (U @ head.key_map).chunk(4, 1)
    e = torch.stack([q @ u.T / (DIM / 4) ** 0.5 for q, u in zip(queries, keys, strict=True)]).mean(0)  # (k, u)
    if U is not X:
        title = (
            len({s for s, p in zip(text.sentence, text.paragraph, strict=True) if p == 0}) if n_paragraphs > 1 else 0
        )
        for u in range(n_sentences):
            place = min(max((u - title + 0.5) / max(1, n_sentences - title), 0), 1) * (N_PLACES - 1)
            for knot in range(N_PLACES):
                e[:, u] = e[:, u] + max(0.0, 1 - abs(place - knot)) * head.place_map[:, knot]
    beta = (e / head.config.attention_temperature).softmax(1)
    z = []
    for k in range(len(e)):
        f = layer_norm((beta[k].unsqueeze(1) * (U @ head.value_map)).sum(0), (DIM,))
        z.append(normalize(z_0 + head.facet_scale[k] * (head.output_map @ f), dim=0))
    pi = (e.exp().mean(1).log() + head.prior_map @ g_D).softmax(0)
    v = normalize(normalize(z_0, dim=0) + sum(pi[k] * z[k] for k in range(len(z))), dim=0)
    facts = {"pooled": z_0, "single": v, "facets": torch.stack(z), "prior": pi, "gate": a, "attention": beta}
    return {name: value.unsqueeze(0) for name, value in (facts | {"roles": e.softmax(0).log().T}).items()}


class TestUnifarHead(FacetHeadContract):
    make = staticmethod(lambda dim: UnifarHead(UnifarConfig(dim=dim), generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("options", [{}, {"facets": 1}, {"attention_temperature": 0.5}])
def test_it_computes_the_written_equations(options: dict[str, float]) -> None:
    head = disturbed(head_of(**options))
    assert isinstance(head, UnifarHead)
    texts = [*draw_texts(20, dim=DIM), *(t for n, t in degenerate_texts(DIM).items() if n != "sentence without tokens")]
    whole = head(*batched(texts))
    for row, text in enumerate(texts):
        alone = head(*batched([text]))
        for name, expected in by_the_book(head, text).items():
            assert torch.allclose(getattr(alone, name), expected, atol=1e-10), name
            if name not in ("attention", "roles"):
                assert torch.allclose(getattr(whole, name)[row], expected[0], atol=1e-10), name


def test_folded_anchors_are_the_mean_over_heads() -> None:
    head = disturbed(head_of())
    units = torch.randn(7, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    queries, keys = (head.anchors @ head.query_map).view(4, 4, 3), (units @ head.key_map).view(7, 4, 3)
    scores = sum(keys[:, h] @ queries[:, h].T / 3**0.5 for h in range(4)) / 4
    assert torch.allclose(units @ head.folded_anchors().T, scores)


def test_heads_that_do_not_divide_the_dimension_are_refused() -> None:
    with pytest.raises(ValidationError, match="heads"):
        UnifarConfig(dim=10, heads=4)


def test_questions_look_at_tokens_and_documents_at_sentences() -> None:
    generator = torch.Generator().manual_seed(0)
    texts = [draw_text([2, 3], dim=DIM, generator=generator, is_question=asks) for asks in (True, False)]
    state = head_of()(*batched(texts))
    assert state.unit_mask.tolist() == [[True] * 7, [True, True] + [False] * 5]


def test_granularities_that_a_text_lacks_get_exactly_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    texts = [draw_text(lengths, dim=DIM, generator=generator) for lengths in ([3], [2, 2], [1, 1, 1])]
    gate = disturbed(head_of())(*batched(texts)).gate
    assert (gate == 0).tolist() == [[False, False, True, True], [False, False, False, True], [False] * 4]


def test_without_the_gate_pooling_is_the_mean() -> None:
    texts = draw_texts(10, dim=DIM)
    state = disturbed(head_of(gated=False))(*batched(texts))
    assert torch.allclose(state.pooled, torch.stack([text.states.mean(0) for text in texts]))
    assert state.gate.tolist() == [[1, 0, 0, 0]] * 10


def trained_state(*but: str, **options: object) -> tuple[UnifarHead, FacetState]:
    head = disturbed(head_of(**options), but=but)
    return head, head(*batched(draw_texts(60, dim=DIM)))


def test_no_share_for_facets_leaves_the_single_score() -> None:
    head, state = trained_state()
    assert torch.equal(pair_scores(state, state, 0.0, head.config.margin), state.single @ state.single.T)


def test_no_facet_shift_leaves_the_cosine_of_the_pooled_vector() -> None:
    head, state = trained_state("facet_scale")
    unit = normalize(state.pooled, dim=1)
    assert not torch.allclose(unit, normalize(trained_state("facet_scale", "gate_scale")[1].pooled, dim=1))
    assert torch.allclose(facet_scores(state.facets, state.prior, state.facets, head.config.margin), unit @ unit.T)


def test_one_facet_is_one_attention_pool() -> None:
    head, state = trained_state(facets=1)
    assert torch.equal(state.prior, torch.ones(60, 1, dtype=torch.float64))
    assert torch.allclose(
        facet_scores(state.facets, state.prior, state.facets, head.config.margin),
        state.facets[:, 0] @ state.facets[:, 0].T,
    )


def test_no_gate_and_no_shift_rank_as_the_mean_whatever_else_was_learned() -> None:
    head, state = trained_state("facet_scale", "gate_scale")
    means = normalize(torch.stack([text.states.mean(0) for text in draw_texts(60, dim=DIM)]), dim=1)
    scores = pair_scores(state, state, head.mixing, head.config.margin)
    assert torch.equal(scores.argsort(descending=True), (means @ means.T).argsort(descending=True))


def test_a_long_text_is_no_surer_of_its_facets() -> None:
    """Repeating every sentence changes neither shares nor vectors."""
    generator = torch.Generator().manual_seed(0)
    text = draw_text([2, 3], dim=DIM, generator=generator)
    inner, n = text.states[1:-1], 5
    longer = Text(
        torch.cat([text.states[:1], inner, inner, text.states[-1:]]),
        (-1, *text.sentence[1:-1], *(s + 2 for s in text.sentence[1:-1]), -1),
        (-1, *[0] * (2 * n), -1),
        is_question=False,
    )
    head = disturbed(head_of(gated=False), but=["prior_map", "place_map"])
    assert torch.allclose(head(*batched([text])).prior, head(*batched([longer])).prior)


def test_frozen_anchors_get_no_gradient() -> None:
    head = disturbed(head_of(anchors="frozen"))
    head(*batched(draw_texts(3, dim=DIM))).facets.sum().backward()
    assert head.anchors.grad is None
    assert head.value_map.grad is not None


def test_every_parameter_but_the_callers_is_reached() -> None:
    head = disturbed(head_of())
    state = head(*batched(draw_texts(9, dim=DIM)))
    pair_scores(state, state, head.mixing, 0.05).square().sum().backward()
    unreached = {name for name, p in head.named_parameters() if p.grad is None or not bool(p.grad.any())}
    assert unreached == {"question"}


def test_facet_scores_solved_by_hand() -> None:
    query = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    documents = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.6, 0.8]]])
    # Cosines, query facet by document facet: first document [[1, 1], [0, 0]], second [[0, .6], [1, .8]].
    # First: facet 0 max(1, 1 - .3) = 1, facet 1 max(0, -.3) = 0. Second: max(0, .6 - .3) = .3, max(.8, 1 - .3) = .8.
    scores = facet_scores(query, torch.tensor([[0.25, 0.75]]), documents, 0.3)
    assert torch.allclose(scores, torch.tensor([[0.25, 0.25 * 0.3 + 0.75 * 0.8]]))


def test_a_users_weights_replace_the_prior() -> None:
    head, state = trained_state()
    for k, chosen in enumerate(torch.eye(4, dtype=torch.float64)):
        asked = chosen.expand(60, -1)
        one = facet_scores(state.facets[:, [k]], asked[:, :1] * 0 + 1, state.facets[:, [k]], 9.0)
        assert torch.allclose(pair_scores(state, state, 1.0, 0.05, asked), one)
    # Given weights leave no match across facets, as if its price were higher than any cosine.
    given = pair_scores(state, state, head.mixing, 0.05, state.prior)
    assert torch.equal(given, pair_scores(state, state, head.mixing, 9.0))
    assert not torch.equal(given, pair_scores(state, state, head.mixing, 0.05))


def test_a_pool_of_nothing_is_zero_with_finite_gradients() -> None:
    rows = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    logits = torch.zeros(2, 3, requires_grad=True)
    pooled = attention_pool(rows, logits, torch.tensor([[True, False, True], [False] * 3]))
    assert torch.allclose(pooled, torch.stack([(rows[0, 0] + rows[0, 2]) / 2, torch.zeros(4)]))
    assert all(bool(g.isfinite().all()) for g in torch.autograd.grad(pooled.sum(), [rows, logits]))


def test_a_layout_moves_whole() -> None:
    layout = batched(draw_texts(2, dim=DIM))[1]
    moved = layout.to(torch.device("meta"))
    assert {getattr(moved, name).device.type for name in Layout.__dataclass_fields__} == {"meta"}
