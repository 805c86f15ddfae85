"""Pictures of post-training: which points are drawn, and that empty ones are left out."""

from pathlib import Path

import numpy as np
import pytest

from facetrail.eval.experiments import language_pictures
from facetrail.eval.experiments.language_pictures import draw_over_meter, experiment_panels, points
from facetrail.eval.experiments.language_result import solved_by_one

ROWS = [
    {"step": 0, "eval/A/sampled": 0.5},
    {"step": 1, "train/A/foreign_kept": 0.7, "meter/rollout_tokens": 40.0},
    {"step": 2, "train/A/foreign_kept": None, "meter/rollout_tokens": 90.0},
    {"step": 2, "note": "something"},
    {"step": 2, "eval/A/sampled": 0.6},
]


def test_an_evaluation_stands_at_the_meter_of_its_step() -> None:
    assert points(ROWS, "eval/A/sampled", "rollout_tokens") == [(0.0, 0.5), (90.0, 0.6)]
    assert points(ROWS, "train/A/foreign_kept", "rollout_tokens") == [(40.0, 0.7)]
    assert points(ROWS, "eval/B/sampled", "rollout_tokens") == []


def test_panels_of_an_experiment_and_what_is_drawn_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    real = language_pictures._draw_line
    monkeypatch.setattr(
        language_pictures,
        "_draw_line",
        lambda axis, line, runs: (drawn.append((line, len(runs))), real(axis, line, runs)),
    )
    panels = experiment_panels({"GSPO": [ROWS[:1], ROWS[:1]], "HACPO": [ROWS, ROWS]}, ["A", "B"], "rollout_tokens")
    assert list(panels) == ["sampled accuracy of A", "sampled accuracy of B", "share of others' rows kept"]
    path = draw_over_meter(tmp_path / "new" / "accuracy.png", panels, meter="rollout_tokens")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert drawn == [("GSPO", 2), ("HACPO", 2), ("HACPO, A", 2)]


def test_the_band_is_one_deviation_of_the_seeds(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    axis = Figure().subplots()
    language_pictures._draw_line(axis, "arm", [[(0, 0.2), (10, 0.4), (20, 0.9)], [(0, 0.4), (12, 0.6)]])
    assert axis.lines[0].get_xydata() == pytest.approx(np.array([[0, 0.3], [11, 0.5]]))
    heights = axis.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((0.3 - 0.02**0.5, 0.5 + 0.02**0.5))


def test_items_that_exactly_one_agent_solves() -> None:
    a, b, c = (np.array(row, dtype=bool) for row in ([1, 1, 0, 0], [1, 0, 0, 1], [1, 0, 0, 1]))
    assert solved_by_one([a, b]) == 0.5
    assert solved_by_one([a, b, c]) == 0.25
