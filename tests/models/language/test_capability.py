"""The capability window, its ratios, and its way through a checkpoint."""

import json

import pytest

from facetrail.models.errors import Conflict, InvalidInput
from facetrail.models.language.capability import CapabilityTracker
from facetrail.models.language.hacpo import HacpoConfig


def tracker(**fields: object) -> CapabilityTracker:
    return CapabilityTracker(["a", "b"], HacpoConfig.model_validate(fields))


def rewards(n_right: int, n: int = 10) -> list[float | None]:
    return [1.0] * n_right + [0.0] * (n - n_right)


def test_capability_is_the_mean_of_the_last_five() -> None:
    found = tracker()
    for step in range(1, 8):
        found.update({"a": rewards(step), "b": rewards(10)})
    assert found.capability("a") == pytest.approx((0.3 + 0.4 + 0.5 + 0.6 + 0.7) / 5)
    assert found.ratio("a", "b") == pytest.approx(0.5)
    assert found.ratios().tolist() == [[1, pytest.approx(0.5)], [pytest.approx(2), 1]]
    assert found.ratio_at_clamp_rate == 0


def test_ratios_are_clamped() -> None:
    found = tracker()
    found.update({"a": rewards(0), "b": rewards(5)})
    assert found.capability("a") == 1e-8
    assert (found.ratio("a", "b"), found.ratio("b", "a"), found.ratio("a", "a")) == (0.1, 10, 1)
    assert found.ratio_at_clamp_rate == 1


def test_two_agents_without_a_right_answer_are_equals() -> None:
    found = tracker()
    found.update({"a": rewards(0), "b": rewards(0)})
    assert found.ratios().tolist() == [[1, 1], [1, 1]]


def test_ratios_are_one_during_warm_up() -> None:
    found = tracker(warmup_steps=2)
    for expected in (1, 1, 0.5):
        found.update({"a": rewards(3), "b": rewards(6)})
        assert found.ratio("a", "b") == pytest.approx(expected)


def test_what_counts() -> None:
    partly: list[float | None] = [0.5, 0.2, 0.0, None]
    by_rate, by_mean = tracker(), tracker(capability="reward_mean")
    for found in (by_rate, by_mean):
        found.update({"a": partly, "b": rewards(5)})
    assert by_rate.capability("a") == pytest.approx(2 / 3)
    assert by_mean.capability("a") == pytest.approx(0.7 / 3)
    assert by_rate.capability("b") == by_mean.capability("b") == 0.5


def test_negative_rewards_need_the_mean() -> None:
    with pytest.raises(InvalidInput, match="reward_mean"):
        tracker().update({"a": [1.0, -1.0], "b": [1.0]})
    found = tracker(capability="reward_mean")
    found.update({"a": [-1.0, 0.5], "b": [1.0]})
    assert found.capability("a") == 1e-8


@pytest.mark.parametrize(
    "bad", [{"a": [1.0]}, {"a": [1.0], "b": []}, {"a": [1.0], "b": [None]}, {"a": [1.0], "c": [1.0]}]
)
def test_a_step_without_an_agents_rollouts_is_refused_and_changes_nothing(bad: dict[str, list[float | None]]) -> None:
    found = tracker()
    found.update({"a": rewards(3), "b": rewards(6)})
    before = found.state()
    with pytest.raises(InvalidInput, match="every agent must answer"):
        found.update(bad)
    assert found.state() == before


def test_capability_is_unknown_before_the_first_step() -> None:
    with pytest.raises(InvalidInput, match="first step"):
        tracker().ratios()


def test_agents_have_names_of_their_own() -> None:
    with pytest.raises(InvalidInput, match="names of their own"):
        CapabilityTracker(["a", "a"], HacpoConfig())


def test_state_round_trips_through_json() -> None:
    straight, resumed = tracker(warmup_steps=1), tracker(warmup_steps=1)
    steps = [{"a": rewards(k % 4), "b": rewards(10 - k)} for k in range(9)]
    for step in steps:
        straight.update(step)
    first = tracker(warmup_steps=1)
    for step in steps[:6]:
        first.update(step)
    resumed.load(json.loads(json.dumps(first.state())))
    assert resumed.state() == first.state()
    for step in steps[6:]:
        resumed.update(step)
    assert resumed.state() == straight.state()
    assert resumed.ratios().equal(straight.ratios())


def test_a_checkpoint_of_others_is_refused() -> None:
    found = tracker()
    found.update({"a": rewards(3), "b": rewards(6)})
    with pytest.raises(Conflict, match="agents"):
        CapabilityTracker(["a", "c"], HacpoConfig()).load(found.state())
    with pytest.raises(Conflict, match="agents"):
        CapabilityTracker(["b", "a"], HacpoConfig()).load(found.state())
    found.update({"a": rewards(3), "b": rewards(6)})
    with pytest.raises(Conflict, match="window"):
        tracker(window=1).load(found.state())
