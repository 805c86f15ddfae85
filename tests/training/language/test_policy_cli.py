"""`facetrail train policy`: every algorithm runs, the model opens again, resuming and refusing."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from contracts.bigram_policy import BigramPolicy
from contracts.policy_server import PolicyServer, serving

from facetrail.app.cli import main
from facetrail.models.errors import Conflict, InvalidInput
from facetrail.models.language.opening import open_policy
from facetrail.models.language.records import DrawKey, Rollout, Sampling
from facetrail.models.language.tasks import open_task
from facetrail.training.config import as_toml, read_recipe
from facetrail.training.language import run as run_module
from facetrail.training.language import start as start_module
from facetrail.training.language.policy import DEFAULTS, train
from facetrail.training.language.policy_recipe import ALGORITHMS, PolicyRecipe
from facetrail.training.run_folder import RECIPE_FILE
from facetrail.training.tracking import CURVES_FILE, read_curves

SMALL = [
    "task_options.n=1", "n_items=64", "n_dev=16", "n_test=16", "pass_k=2", "tiny.dim=16", "tiny.n_layers=1",
    "warm_start.steps=20", "warm_start.low=none", "warm_start.batch=32", "loop.steps=2", "loop.prompts=4",
    "loop.group=4", "loop.max_new_tokens=6", "loop.eval_every=1", "loop.checkpoint_every=1",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm(algorithm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = [part for value in SMALL for part in ("--set", value)]
    with pytest.raises(SystemExit) as left:
        main(
            ["train", "policy", "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--recipe", algorithm,
             "--seed", "3", "--device", "cpu", "--json", *sets]
        )  # fmt: skip
    output = capsys.readouterr()
    assert left.value.code == 0, output.err
    said = json.loads(output.out)
    report = json.loads(Path(said["report"]).read_bytes())
    assert report["algorithm"] == algorithm
    assert 0 <= report["test"]["sampled"] <= report["test"]["pass@2"] <= 1
    assert [point["rollout_tokens"] > 0 for point in report["curve"]] == [False, True, True]
    assert report["meters"]["n_rollouts"] == 2 * 16
    assert report["warm_start"]["steps"] == 20
    assert (tmp_path / "run" / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    rows = [row for row in read_curves(tmp_path / "run" / CURVES_FILE) if "train/loss" in row]
    assert all(row["train/ratio_error"] < 1e-5 for row in rows)  # cached sampling equals the full pass
    task = open_task("modchain", n=1)
    items = task.prompts(3, seed=1, split="dev")
    policy = open_policy(said["model"])
    assert len(policy.generate(items, 2, sampling=Sampling(max_new_tokens=6), key=DrawKey(0))) == 6


def test_resuming_a_finished_run_changes_nothing_and_another_recipe_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "run"
    overrides = [*SMALL, "loop.kl_weight=0.1"]
    first = train(tmp_path, out, overrides=overrides, device="cpu")
    fingerprint = open_policy(first["model"]).fingerprint
    again = train(tmp_path, out, overrides=overrides, resume=True, device="cpu")
    assert again == first
    assert open_policy(again["model"]).fingerprint == fingerprint
    with pytest.raises(Conflict, match="go on with --resume"):
        train(tmp_path, out, overrides=overrides, device="cpu")
    with pytest.raises(Conflict, match=r"loop\.lr: 0\.0003 → 0\.1"):
        train(tmp_path, out, overrides=[*overrides, "loop.lr=0.1"], resume=True, device="cpu")


def test_interrupted_run_ends_as_the_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        """Stands for a process that was killed."""

    whole = train(tmp_path, tmp_path / "whole", overrides=SMALL, device="cpu")
    real, calls = start_module.measures_of, []

    def measures(*given: Any) -> dict[str, float]:
        calls.append(given)
        if len(calls) == 4:  # twice in the warm start, once before the first step, then after it
            raise Killed
        return real(*given)

    for module in (start_module, run_module):
        monkeypatch.setattr(module, "measures_of", measures)
    with pytest.raises(Killed):
        train(tmp_path, tmp_path / "run", overrides=SMALL, device="cpu")
    monkeypatch.undo()
    resumed = train(tmp_path, tmp_path / "run", overrides=SMALL, resume=True, device="cpu")
    assert open_policy(resumed["model"]).fingerprint == open_policy(whole["model"]).fingerprint


def test_an_algorithm_brings_its_clip_and_aggregation_unless_they_are_set(tmp_path: Path) -> None:
    recipe = read_recipe(DEFAULTS, PolicyRecipe, ["algorithm=gspo", "clip.hi=0.5"])
    assert (recipe.clip.lo, recipe.clip.hi, recipe.loop.aggregation) == (0.02, 0.5, "row_mean")
    recipe = read_recipe(DEFAULTS, PolicyRecipe, ["algorithm=dr_grpo"])
    assert (recipe.clip.lo, recipe.clip.hi, recipe.loop.aggregation) == (0.2, 0.28, "fixed_length")
    (tmp_path / RECIPE_FILE).write_text(as_toml(recipe))
    assert read_recipe(tmp_path / RECIPE_FILE, PolicyRecipe) == recipe


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["algorithm=ppo"], "algorithm"),
        (["loop.groups=3"], "loop.group"),
        (["task=word-problem"], "word-problems"),
        (["adapter_rank=4"], "tiny model trains whole"),
        (["warm_start.steps=0", "loop.kl_weight=0.1"], "random weights"),
    ],
)
def test_wrong_recipes(overrides: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=message):
        train(tmp_path, tmp_path / "run", overrides=[*SMALL, *overrides], device="cpu")


def test_rollouts_from_a_server_of_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OfStart(PolicyServer):
        """Serves the warm-started policy, which the run leaves in its folder before it asks."""

        def _written(self, asked: str | list[int], body: dict[str, Any]) -> Rollout:
            self.policy = open_policy(str(tmp_path / "run" / "start"))
            return super()._written(asked, body)

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(OfStart(BigramPolicy([str(one) for one in range(10)]))) as server:
        served = [f"endpoint.url={server.url}", "endpoint.model=start"]
        moving = ["loop.lr=0.01", "loop.weight_decay=1.0"]  # by decay, should no chain be solved
        said = train(tmp_path, tmp_path / "run", overrides=[*SMALL, *moving, *served], device="cpu")
    report = json.loads(Path(said["report"]).read_bytes())
    assert server.n_asked == report["meters"]["n_rollouts"] == 2 * 16
    rows = [row for row in read_curves(tmp_path / "run" / CURVES_FILE) if "train/loss" in row]
    assert [row["train/endpoint/recomputed"] for row in rows] == [0.0, 0.0]
    assert rows[0]["train/ratio_error"] < 1e-5 < rows[1]["train/ratio_error"], "the server's weights were to stay"
    with pytest.raises(InvalidInput, match="which model"):
        train(tmp_path, tmp_path / "other", overrides=[*SMALL, f"endpoint.url={server.url}"], device="cpu")
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_grpo_learns_chains(tmp_path: Path) -> None:
    overrides = ["task_options.n=2", "loop.max_new_tokens=8", "loop.steps=40", "n_test=400", "n_dev=400"]
    said = train(tmp_path, tmp_path / "run", overrides=overrides, device="cpu")
    report = json.loads(Path(said["report"]).read_bytes())
    assert report["curve"][-1]["sampled"] - report["curve"][0]["sampled"] >= 0.05
