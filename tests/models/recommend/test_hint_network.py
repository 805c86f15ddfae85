"""The dual attention and the network around it: reductions, exact counts, gradients, the null slot, what is shown."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from contracts.planted_hints import attributes_of, random_ratings

from facetrail.models.recommend.hint_attention import _SIZES, DualAttention
from facetrail.models.recommend.hint_reading import HintReader
from facetrail.models.recommend.hint_rows import HintBatch, HintTable, SimilarUsers, contexts_of
from facetrail.models.recommend.hint_statistics import N_FEATURES, Evidence
from facetrail.models.recommend.hints import HintConfig, HintNetwork, translation_loss
from facetrail.models.recommend.knowledge import Attributes
from facetrail.models.recommend.similar_users import similar_users
from facetrail.models.recommend.time_blocks import EventLog

N_USERS, N_ITEMS, N_ATTRIBUTES, DIM = 8, 20, 12, 6


def _attributes(*, empty: bool = False) -> Attributes:
    rng = np.random.default_rng(3)
    items = [[] if empty else rng.choice(N_ATTRIBUTES, 8, replace=False).tolist() for _ in range(N_ITEMS)]
    return attributes_of(items, 0 if empty else N_ATTRIBUTES)


def _network(attributes: Attributes, **config: object) -> HintNetwork:
    options = HintConfig.model_validate({"dim": DIM, "n_hints": 3, **config})
    return HintNetwork(options, attributes, N_USERS, N_ITEMS, generator=torch.Generator().manual_seed(0)).eval()


def _scored(network: HintNetwork, attributes: Attributes) -> tuple[Evidence, HintTable, SimilarUsers, HintBatch]:
    events = random_ratings(N_USERS - 1, N_ITEMS, 60, np.random.default_rng(4))  # the last user does nothing
    evidence = Evidence(EventLog(events, N_USERS, N_ITEMS), attributes)
    users, items = np.array([0, 1, 7, 2, 0]), np.array([3, 4, 5, 6, 7])
    contexts, context = contexts_of(evidence, users, np.full(5, 60))
    similar = similar_users(evidence, contexts, network.user_vectors, network.config.n_similar)
    table = HintTable(evidence, users, items, contexts, context, similar)
    return evidence, table, similar, table.batch(np.arange(5))


def _side(n_hints: int = 3, *, hard: bool = True, soft: bool = True, null: bool = True) -> DualAttention:
    torch.manual_seed(1)
    return DualAttention(DIM, n_hints, hard=hard, soft=soft, null=null)


def _looked(n_rows: int, n_candidates: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(2)
    return {
        "user": torch.randn(n_rows, DIM, generator=draw),
        "item": torch.randn(n_rows, DIM, generator=draw),
        "table": torch.randn(N_ATTRIBUTES, DIM, generator=draw),
        "numbers": torch.arange(n_candidates).repeat(n_rows, 1),
        "features": torch.randn(n_rows, n_candidates, N_FEATURES, generator=draw),
    }


def test_exactly_m_are_selected_or_all_if_there_are_fewer():
    looked = _looked(4, 7)
    looked["numbers"][1, 2:] = -1
    looked["numbers"][2, :] = -1
    found = _side()(**looked)
    assert found.selected.sum(dim=-1).tolist() == [3, 2, 0, 3]
    assert not found.credibility[~found.selected].any()
    torch.testing.assert_close(found.credibility.sum(dim=-1) + found.null, torch.ones(4))
    assert found.null[2] == 1
    assert not found.vector[2].any()
    top = found.logits[0].topk(3).indices.sort().values
    assert torch.equal(found.selected[0].nonzero().squeeze(-1), top)


def test_unselected_attributes_learn_and_noise_is_for_training_alone():
    side, looked = _side(), _looked(2, 7)
    assert torch.equal(side(**looked).credibility, side(**looked).credibility)
    noisy = [side(**looked, generator=torch.Generator().manual_seed(seed)).selected for seed in range(20)]
    assert any(not torch.equal(one, noisy[0]) for one in noisy)
    found = side(**looked)
    gradients = torch.autograd.grad(found.vector.square().sum(), found.logits)[0]
    assert (gradients[~found.selected] != 0).all()


def test_all_selected_and_weighed_alike_is_the_plain_mean():
    looked = _looked(2, 5)
    side = _side(5, soft=False, null=False)
    found = side(**looked)
    sizes = torch.tensor([1.0] * DIM + list(_SIZES))
    told = torch.cat([looked["table"][looked["numbers"]], looked["features"]], dim=-1)
    torch.testing.assert_close(found.vector, side.value(told.mean(dim=1) * sizes))
    unselective = _side(1, hard=False, soft=False, null=False)
    torch.testing.assert_close(unselective(**looked).credibility, torch.full((2, 5), 0.2))


def test_without_the_null_slot_a_lone_attribute_is_always_fully_credible():
    looked = _looked(3, 1)
    assert torch.equal(_side(null=False)(**looked).credibility, torch.ones(3, 1))
    weak = {**looked, "features": looked["features"] * 0.01}
    assert (_side()(**weak).credibility < 0.1).all()


def test_no_value_leaves_a_network_on_ids():
    attributes = _attributes()
    network, plain = _network(attributes), _network(attributes, item_side=False, user_side=False)
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if k in plain.state_dict()})
    batch = _scored(network, attributes)[3]
    assert not torch.equal(network(batch).logits, plain(batch).logits)
    for side in (network.item_attention, network.user_attention):
        torch.nn.init.zeros_(side.value.weight)
    found = network(batch)
    chosen = found.item.selected / found.item.selected.sum(dim=1, keepdim=True).clamp(min=1)
    tastes = (chosen.unsqueeze(-1) * batch.item_features[..., :2]).sum(dim=1)
    torch.testing.assert_close(found.logits, plain(batch).logits + tastes @ network.taste_slopes)
    assert tastes.abs().sum() > 0
    torch.nn.init.zeros_(network.taste_slopes)
    assert torch.equal(network(batch).logits, plain(batch).logits)


def test_an_empty_graph_is_the_same_network_without_hint_terms():
    attributes = _attributes(empty=True)
    network, plain = _network(attributes), _network(attributes, item_side=False, user_side=False)
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if k in plain.state_dict()})
    evidence, table, similar, batch = _scored(network, attributes)
    found = network(batch)
    assert torch.equal(found.logits, plain(batch).logits)
    assert torch.isfinite(found.logits).all()
    read = HintReader(evidence, table, similar).read(np.arange(5), found)
    assert [one.item + one.user for one in read] == [()] * 5
    assert all("cold_attributes" in one.flags for one in read)


def test_without_similar_users_only_own_evidence_counts():
    attributes = _attributes()
    network = _network(attributes, n_similar=0)
    _, _, _, batch = _scored(network, attributes)
    assert not batch.item_features[..., 1].any()
    assert not batch.user_features[..., [1, 3]].any()
    assert (batch.item_side[2] == -1).all()  # the user who did nothing
    assert batch.item_features[..., 0].any()


def test_a_user_without_events_stays_finite_and_is_flagged():
    attributes = _attributes()
    network = _network(attributes)
    evidence, table, similar, batch = _scored(network, attributes)
    found = network(batch)
    loss = found.logits.sum() + translation_loss(network, *torch.tensor([[0, 1], [2, 3], [4, 5]]))
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
    read = HintReader(evidence, table, similar).read(np.arange(5), found)
    assert [one.flags for one in read] == [(), (), ("cold_user",), (), ()]
    assert read[2].item == ()
    assert read[2].null_item == 1


def test_hints_say_what_the_statistics_say():
    attributes = _attributes()
    network = _network(attributes)
    evidence, table, similar, batch = _scored(network, attributes)
    read = HintReader(evidence, table, similar).read(np.arange(5), network(batch))
    hints = [(row, hint) for row, one in enumerate(read) for hint in one.item + one.user]
    assert hints
    for row, hint in hints:
        context = int(table.context[row])
        taste = evidence.taste(int(table.users[row]), 60, *similar.of(context))
        own, near = taste.plain[hint.attribute], taste.similar_plain[hint.attribute]
        assert hint.polarity == ("likes" if own + near > 0 else "dislikes")
        assert abs(own + near) >= 0.02
        assert (hint.provenance == "own") == (taste.count[hint.attribute] > 0 and abs(own) >= abs(near))
        assert len(hint.own_items) <= taste.count[hint.attribute]
        assert hint.n_liked == len({*hint.own_items} & {*evidence.liked(int(table.users[row]), 60).tolist()})
        assert bool(hint.own_items) == (taste.count[hint.attribute] > 0)
        assert (hint.n_similar > 0) == (taste.similar_count[hint.attribute] > 0)
        assert hint.value == f"a{hint.attribute}"
    for one in read:
        credible = [hint.credibility for hint in one.item]
        assert credible == sorted(credible, reverse=True)
        assert sum(credible) + one.null_item <= 1 + 1e-5


def test_attributes_without_a_name_work_but_are_never_shown():
    attributes = replace(_attributes(), tail_names=(None,) * N_ATTRIBUTES)
    network = _network(attributes)
    evidence, table, similar, batch = _scored(network, attributes)
    found = network(batch)
    assert found.item is not None
    assert found.item.credibility.any()
    read = HintReader(evidence, table, similar).read(np.arange(5), found)
    assert all(one.item == one.user == () for one in read)


def test_weights_are_drawn_from_the_generator():
    one, other = _network(_attributes()), _network(_attributes())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("width", [1, 2])
def test_a_row_of_fewer_candidates_than_hints_selects_all(width):
    found = _side(5)(**_looked(2, width))
    assert found.selected.all()
