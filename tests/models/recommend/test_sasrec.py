"""SASRec: what a place may know, padding, raw histories, its stored form."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from facetrail.models.recommend.sasrec import Sasrec, SasrecConfig, SasrecScorer

CONFIG = SasrecConfig(n_items=30, dim=16, n_layers=2, n_heads=2, length=80)


def sasrec(config: SasrecConfig = CONFIG, seed: int = 0) -> Sasrec:
    """Weights large enough that every part has a say."""
    model = Sasrec(config, seed=seed).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.mul_(20)
    model.prior.copy_(torch.arange(config.n_items))
    return model


def ids(*shape: int) -> torch.Tensor:
    return torch.randint(1, CONFIG.n_items + 1, shape, generator=torch.Generator().manual_seed(1))


def test_later_events_never_change_a_state() -> None:
    model, before = sasrec(), ids(3, 12)
    states = model(before)
    for t in range(11):
        after = before.clone()
        after[:, t + 1 :] = after[:, t + 1 :] % CONFIG.n_items + 1
        changed = model(after)
        assert torch.equal(changed[:, : t + 1], states[:, : t + 1])
        assert not torch.equal(changed[:, t + 1], states[:, t + 1])


def test_earlier_events_and_their_order_change_a_state() -> None:
    model, before = sasrec(), torch.tensor([[1, 2, 3, 4]])
    last = model(before)[:, -1]
    assert (model(torch.tensor([[9, 2, 3, 4]]))[:, -1] - last).abs().max() > 1e-3
    assert (model(torch.tensor([[2, 1, 3, 4]]))[:, -1] - last).abs().max() > 1e-3


@pytest.mark.parametrize("left", [1, 50])
def test_padding_on_either_side_changes_nothing(left: int) -> None:
    model, real = sasrec(), ids(4, 20)
    states = model(real)
    padding = torch.zeros(4, left, dtype=torch.int64)
    before, after = model(torch.cat([padding, real], 1)), model(torch.cat([real, padding], 1))
    torch.testing.assert_close(before[:, left:], states, rtol=0, atol=1e-5)
    torch.testing.assert_close(after[:, :20], states, rtol=0, atol=1e-5)
    assert before.isfinite().all()
    assert after.isfinite().all()


def test_a_batch_scores_histories_as_each_alone() -> None:
    scorer = SasrecScorer(sasrec())
    histories = [np.arange(n, dtype=np.int64) % 30 for n in (5, 1, 0, 100, 17, 80)]
    scores = scorer.scores(histories)
    assert scores.shape == (6, 30)
    assert scores.dtype == np.float32
    for history, row in zip(histories, scores, strict=True):
        np.testing.assert_allclose(scorer.scores([history])[0], row, atol=1e-4)
    assert scorer.scores([]).shape == (0, 30)


def test_the_latest_items_are_read_and_nobody_gets_the_prior() -> None:
    scorer = SasrecScorer(sasrec())
    long = np.random.default_rng(0).integers(0, 30, 300)
    assert np.array_equal(scorer.scores([long]), scorer.scores([long[-80:]]))
    assert np.array_equal(scorer.scores([long[:0]])[0], np.arange(30))


def test_a_score_is_state_times_item() -> None:
    model = sasrec()
    state = model(torch.tensor([[3, 8]]))[0, -1]
    scores = SasrecScorer(model).scores([np.array([2, 7])])[0]
    assert scores[11] == pytest.approx((state @ model.items.weight[12]).item(), rel=1e-4)  # item 11 is id 12


def test_a_stored_model_scores_to_the_same_bits() -> None:
    scorer = SasrecScorer(sasrec())
    opened = SasrecScorer.restored(*scorer.stored())
    histories = [np.array([1, 2, 3]), np.array([], np.int64)]
    assert opened.model.config == scorer.model.config
    assert np.array_equal(opened.scores(histories), scorer.scores(histories))


def test_the_seed_makes_the_weights() -> None:
    one, same, other = (Sasrec(CONFIG, seed=seed).items.weight for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_width_that_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ValidationError, match="3 heads"):
        SasrecConfig(n_items=5, dim=16, n_heads=3)
