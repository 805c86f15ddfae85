"""Selections on predictions whose information is known by hand."""

import math
import warnings

import numpy as np
import pytest

from facetrail.models.errors import InvalidInput
from facetrail.models.graph.selection import choose_epoch, information, mean_entropy, warn_if_unbalanced

BALANCED = np.tile(np.eye(4, dtype=np.float32), (5, 1))
CONSTANT = np.tile(np.array([[0.7, 0.1, 0.1, 0.1]], np.float32), (20, 1))
COLLAPSED = np.tile(np.array([[1, 0, 0, 0]], np.float32), (20, 1))


def test_information_of_balanced_and_of_constant_predictions():
    assert information(BALANCED) == pytest.approx(math.log(4))
    assert information(CONSTANT) == pytest.approx(0, abs=1e-6)
    assert mean_entropy(BALANCED) == 0
    assert mean_entropy(np.full((3, 4), 0.25, np.float32)) == pytest.approx(math.log(4))


def test_infomax_wants_variety_where_entropy_is_content_with_collapse():
    half = (BALANCED + 0.25) / 2
    trace = {20: BALANCED, 30: half, 40: COLLAPSED, 50: CONSTANT}
    assert choose_epoch("infomax", trace) == 30
    assert choose_epoch("entropy", trace) == 40


def test_ties_go_to_the_earliest_epoch_and_early_epochs_do_not_count():
    assert choose_epoch("infomax", {60: BALANCED, 40: BALANCED, 10: BALANCED}) == 40
    with pytest.raises(InvalidInput, match="from 30 on"):
        choose_epoch("entropy", {10: BALANCED, 20: BALANCED})


def test_unbalanced_sources_warn():
    with pytest.warns(UserWarning, match="prefer the selection 'ema'"):
        warn_if_unbalanced(np.array([0] * 95 + [1] * 5 + [-1] * 50), 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_unbalanced(np.array([0, 1, 0, 1, 1]), 2)
