"""`facetrail train hacpo`: two models of different size and tokenizer, saved apart; resuming and refusing."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from facetrail.models.errors import Conflict, InvalidInput
from facetrail.models.language.opening import open_policy
from facetrail.models.language.records import DrawKey, Sampling
from facetrail.models.language.tasks import open_task
from facetrail.training.config import read_recipe
from facetrail.training.language.hacpo_train import DEFAULTS, HacpoRecipe, train
from facetrail.training.tracking import CURVES_FILE, read_curves

SMALL = [
    "task_options.n=1", "n_items=64", "n_dev=8", "n_test=8", "pass_k=2", "loop.steps=2", "loop.prompts=4",
    "loop.group=2", "loop.max_new_tokens=6", "loop.eval_every=1", "loop.checkpoint_every=1",
    *(f"agents.{name}.{rest}" for name in "AB" for rest in (
        "tiny.dim=16", "tiny.n_layers=1", "warm_start={ steps = 5, batch = 8 }")),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_two_models_learn_together_and_are_saved_apart(tmp_path: Path) -> None:
    said = train(tmp_path, tmp_path / "run", overrides=SMALL, device="cpu")
    assert set(said) == {"A", "B"}
    item = open_task("modchain", n=1).prompts(1, seed=1, split="dev")
    tables = set()
    for name, found in said.items():
        policy = open_policy(found["model"])
        tables.add(policy.tokenizer.fingerprint)
        assert len(policy.generate(item, 2, sampling=Sampling(max_new_tokens=6), key=DrawKey(0))) == 2
        report = json.loads((tmp_path / "run" / name / "report.json").read_bytes())
        assert [point["rollout_tokens"] > 0 for point in report["curve"]] == [False, True, True]
        assert report["warm_start"]["steps"] == 5
    assert len(tables) == 2, "the agents were to read by different tokenizers"
    rows = [row for row in read_curves(tmp_path / "run" / CURVES_FILE) if "train/A/foreign_kept" in row]
    assert len(rows) == 2


def test_a_run_goes_on_to_the_same_models(tmp_path: Path) -> None:
    train(tmp_path, tmp_path / "whole", overrides=SMALL, device="cpu")
    train(tmp_path, tmp_path / "again", overrides=SMALL, device="cpu")
    newest = max((tmp_path / "again" / "checkpoints").iterdir())
    for path in newest.iterdir():
        path.unlink()
    newest.rmdir()  # as if the last step had never been
    train(tmp_path, tmp_path / "again", overrides=SMALL, device="cpu", resume=True)
    for name in ("A", "B"):
        prints = [open_policy(str(tmp_path / run / name / "model")).fingerprint for run in ("whole", "again")]
        assert prints[0] == prints[1]


def test_another_recipe_is_refused_and_the_checkpoints_stay(tmp_path: Path) -> None:
    train(tmp_path, tmp_path / "run", overrides=SMALL, device="cpu")
    before = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    with pytest.raises(Conflict, match=r"hacpo\.alpha"):
        train(tmp_path, tmp_path / "run", overrides=[*SMALL, "hacpo.alpha=3.0"], device="cpu", resume=True)
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == before


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("hacpo.delta=2", "hacpo.delta"),
        ("hacpo.gamma=1", "no key 'hacpo.gamma'"),
        ("agents.A.modle=tiny", "agents.A.modle"),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_sentence(override: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        read_recipe(DEFAULTS, HacpoRecipe, [override])
