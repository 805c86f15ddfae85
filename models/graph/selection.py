"""Which weights of a fit to use, decided without a single target label.

`final` and `ema` are the last epoch's weights and their moving average; `infomax` and `entropy` look at what the
stored epochs predicted for the target. Letters: n nodes, C classes.
"""

import math
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facetrail.models.errors import InvalidInput

Selection = Literal["final", "ema", "infomax", "entropy"]
Probabilities = NDArray[np.float32]
FIRST_EPOCH = 30
"""Earlier epochs have learnt too little to be chosen by what they predict."""
_BALANCED = 0.7


def information(probabilities: Probabilities) -> float:
    """H(mean of rows) - mean H(row), in nats: log C for balanced one-hot rows, 0 for equal rows. (n, C)."""
    return float(_entropy(probabilities.mean(axis=0, dtype=np.float64)) - mean_entropy(probabilities))


def mean_entropy(probabilities: Probabilities) -> float:
    """Mean of the rows' entropies, in nats. (n, C)."""
    return float(_entropy(probabilities.astype(np.float64)).mean())


def choose_epoch(rule: Selection, trace: Mapping[int, Probabilities]) -> int:
    """The stored epoch of largest information (`infomax`) or smallest entropy (`entropy`); ties go to the earliest.

    trace: epoch → predicted probabilities of the target's nodes. Raises InvalidInput where no epoch is late enough.
    """
    stored = [epoch for epoch in sorted(trace) if epoch >= FIRST_EPOCH]
    if not stored:
        raise InvalidInput(
            f"the selection {rule!r} looks at epochs from {FIRST_EPOCH} on, and none is stored; "
            "train for longer, or select 'ema' or 'final'"
        )
    if rule == "infomax":
        return max(stored, key=lambda epoch: information(trace[epoch]))
    if rule == "entropy":
        return min(stored, key=lambda epoch: mean_entropy(trace[epoch]))
    raise InvalidInput(f"the selection {rule!r} is not one by epochs; those are 'infomax' and 'entropy'")


def warn_if_unbalanced(labels: NDArray[Any], n_classes: int) -> None:
    """InfoMax favours balanced classes, which a source of few large ones makes a poor guess. labels: (n,), -1: none."""
    counts = np.bincount(labels[labels >= 0], minlength=n_classes)
    share = float(_entropy(counts / counts.sum())) / math.log(n_classes)
    if share < _BALANCED:
        warnings.warn(
            f"the source's classes have {share:.2f} of the entropy of balanced ones, and infomax favours balanced "
            "predictions; prefer the selection 'ema'",
            stacklevel=2,
        )


def _entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Along the last axis; 0 log 0 = 0."""
    logs = np.log(p, where=p > 0, out=np.zeros_like(p))
    entropy: NDArray[np.float64] = -(p * logs).sum(axis=-1)
    return entropy
