"""Every sentence appears on a run made up for it, once in fifty steps, and none on a healthy one."""

import json
from dataclasses import replace
from typing import Any

import pytest

from facetrail.training.language.diagnostics import Diagnostics, Signals

HEALTHY = Signals(
    zero_variance_rate=0.3,
    loss=-0.02,
    gradient_norm=0.4,
    ratio_error=2e-6,
    clipped_rate=0.05,
    clips_rows=False,
    entropy=1.0,
    cut_rate=0.02,
)


def test_healthy_run_is_silent() -> None:
    diagnostics = Diagnostics()
    for i in range(120):
        # A single odd step now and then is no news.
        odd = replace(HEALTHY, zero_variance_rate=0.9, cut_rate=0.5) if i % 5 == 0 else HEALTHY
        assert diagnostics.observe(odd) == []
        assert diagnostics.observe_evaluation(proxy=i / 100, gold=i / 200) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"zero_variance_rate": 0.62},
            "62% of groups have equal rewards and teach nothing: the task is too easy or too hard; change difficulty, "
            "group size or temperature.",
        ),
        (
            {"loss": 0.0},
            "A loss of 0 is normal at ratio 1 with centred advantages; watch reward and gradient norm.",
        ),
        (
            {"ratio_error": 1e-3},
            "Sampler and trainer disagree on log-probs; check temperature, truncation, padding.",
        ),
        (
            {"clipped_rate": 0.31},
            "31% of tokens are clipped: lower the learning rate or widen the clip.",
        ),
        (
            {"clipped_rate": 0.31, "clips_rows": True},
            "31% of rows are clipped: lower the learning rate or widen the clip.",
        ),
        ({"entropy": 0.19}, "The policy has almost stopped exploring."),
        (
            {"cut_rate": 0.14},
            "14% of completions hit the limit; their reward is about the limit, not the reasoning.",
        ),
    ],
)
def test_each_sentence(change: dict[str, Any], sentence: str) -> None:
    diagnostics = Diagnostics()
    said = [diagnostics.observe(HEALTHY)]
    said += [diagnostics.observe(replace(HEALTHY, **change)) for _ in range(60)]
    spoken = {step: lines for step, lines in enumerate(said) if lines}
    # Five in a row from step 1 on, then a silence of fifty; the loss is judged in the first twenty steps only.
    places = [5] if "loss" in change else [5, 55]
    assert spoken == {place: [sentence] for place in places}


def test_zero_loss_without_gradient_and_inexact_ratios_say_nothing() -> None:
    diagnostics = Diagnostics()
    for _ in range(20):
        assert diagnostics.observe(replace(HEALTHY, loss=0.0, gradient_norm=0.0, ratio_error=None)) == []


def test_exploited_reward_model() -> None:
    diagnostics = Diagnostics()
    said = [diagnostics.observe_evaluation(0.1 + 0.4 * i / 9, 0.5 - 0.1 * i / 9) for i in range(10)]
    assert said[:9] == [[]] * 9
    assert said[9] == ["The reward model is being exploited: proxy +0.4, verified -0.1 over 10 evaluations."]
    assert diagnostics.observe_evaluation(0.6, 0.3) == []


def test_state_goes_on_where_it_stopped() -> None:
    whole, first, second = Diagnostics(), Diagnostics(), Diagnostics()
    bad = [replace(HEALTHY, cut_rate=0.5)] * 60
    expected = [whole.observe(signals) for signals in bad]
    found = [first.observe(signals) for signals in bad[:8]]
    second.load(json.loads(json.dumps(first.state())))
    assert found + [second.observe(signals) for signals in bad[8:]] == expected
