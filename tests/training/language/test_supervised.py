"""Supervised fine-tuning: completions only, the exact loss, the window."""

from pathlib import Path

import pytest
import torch
from contracts.bigram_policy import BigramPolicy

from facetrail.models.errors import InvalidInput
from facetrail.models.language.modchain import ModChain
from facetrail.training.language.meters import Meters
from facetrail.training.language.supervised import Example, Window, examples_of, fit_supervised
from facetrail.training.loop import FitConfig
from facetrail.training.tracking import CURVES_FILE, Tracker, read_curves

CONFIG = FitConfig(steps=40, warmup=0, schedule="constant", ema=None, eval_every=1, weight_decay=0)


def test_examples_are_canonical_and_end() -> None:
    task = ModChain(n=2)
    policy = BigramPolicy(task.vocabulary)
    (item,) = task.prompts(1, seed=0)
    (example,) = examples_of(policy, task, [item])
    assert policy.tokenizer.decode(example.prompt_ids) == item.text
    assert policy.tokenizer.decode(example.completion_ids) == task.canonical(item)
    assert example.completion_ids[-1] == policy.tokenizer.eos_id


def test_loss_is_the_mean_over_completion_tokens(tmp_path: Path) -> None:
    policy = BigramPolicy(("a", "b", "c"))
    table = policy.table.detach().clone().log_softmax(-1)
    examples = [Example((1, 3), (4, 2)), Example((1, 5, 4), (3, 3, 2))]
    meters = Meters()
    with Tracker(tmp_path, total=1, quiet=True) as tracker:
        fit_supervised(
            policy, examples, config=CONFIG.model_copy(update={"steps": 1}), lr=0.1, batch=8, meters=meters,
            tracker=tracker,
        )  # fmt: skip
    pairs = [(3, 4), (4, 2), (4, 3), (3, 3), (3, 2)]
    expected = -sum(float(table[a, b]) for a, b in pairs) / 5
    (loss,) = [row["train/loss"] for row in read_curves(tmp_path / CURVES_FILE) if "train/loss" in row]
    assert loss == pytest.approx(expected, abs=1e-6)
    assert (meters.grad_tokens, meters.optimiser_steps) == (10, 1)
    # Rows of the table that only prompts visit have not moved.
    moved = (policy.table.detach().log_softmax(-1) - table).abs().sum(1) > 1e-6
    assert moved.nonzero().flatten().tolist() == [3, 4]


@pytest.mark.parametrize("micro_rows", [1, 2])
def test_rows_in_memory_change_the_gradient_by_rounding_alone(micro_rows: int, tmp_path: Path) -> None:
    examples = [Example((1, 3), (4, 2)), Example((1, 5, 4), (3, 3, 2)), Example((4,), (5, 2))]

    def fitted(at_once: int) -> tuple[BigramPolicy, list[float]]:
        policy, folder = BigramPolicy(("a", "b", "c")), tmp_path / str(at_once)
        folder.mkdir()
        with Tracker(folder, total=3, quiet=True) as tracker:
            fit_supervised(
                policy, examples, config=CONFIG.model_copy(update={"steps": 3}), lr=0.1, batch=3, micro_rows=at_once,
                meters=Meters(), tracker=tracker,
            )  # fmt: skip
        rows = [row for row in read_curves(folder / CURVES_FILE) if "train/loss" in row]
        return policy, [row[name] for row in rows for name in ("train/loss", "train/gradient_norm")]

    (whole, figures), (parts, same) = fitted(0), fitted(micro_rows)
    # Adam divides by the gradient's size: weights alone would not show a wrong denominator, losses and norms do.
    assert same == pytest.approx(figures, abs=1e-5)
    assert not torch.equal(whole.table, BigramPolicy(("a", "b", "c")).table)
    torch.testing.assert_close(parts.table.detach(), whole.table.detach(), rtol=0, atol=1e-5)


def test_stops_in_the_window_and_refuses_to_miss_it() -> None:
    def probability(policy: BigramPolicy) -> dict[str, float]:
        return {"p": float(policy.table.detach().softmax(-1)[3, 4])}

    def fit(window: Window, steps: int = 40) -> tuple[int, float]:
        policy = BigramPolicy(("a", "b", "c"))
        result = fit_supervised(
            policy,
            [Example((1, 3), (4,))],
            config=CONFIG.model_copy(update={"steps": steps}),
            lr=0.1,
            batch=1,
            meters=Meters(),
            evaluate=lambda: probability(policy),
            window=window,
        )
        return result.steps, result.measures["p"]

    start = probability(BigramPolicy(("a", "b", "c")))["p"]
    steps, reached = fit(Window("p", start + 0.2, start + 0.3))
    assert 0 < steps < 40
    assert start + 0.2 <= reached <= start + 0.3
    with pytest.raises(InvalidInput, match="went past the window"):
        fit(Window("p", start + 0.2, start + 0.2 + 1e-6))
    with pytest.raises(InvalidInput, match="train longer"):
        fit(Window("p", 0.999, 1.0), steps=2)
    with pytest.raises(InvalidInput, match="no measure 'q'"):
        fit(Window("q", 0.1, 1.0))


def test_no_examples() -> None:
    with pytest.raises(InvalidInput, match="no example"):
        fit_supervised(BigramPolicy(("a",)), [], config=CONFIG, lr=0.1, batch=1, meters=Meters())
