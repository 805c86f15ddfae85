"""The recipe from a data folder to a model that opens, on a folder of a few made-up documents and the real base."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facetrail.eval.evidence import Evidence
from facetrail.eval.experiments.unifar_plan import UNTRAINED, read_experiment
from facetrail.models.errors import Conflict, InvalidInput
from facetrail.models.text.encoder import load_encoder
from facetrail.models.text.facets import FacetEncoder
from facetrail.training.text import unifar, unifar_arm, unifar_experiment
from facetrail.training.text.unifar_experiment import SMOKE
from facetrail.training.tracking import read_curves

SHORT = (*SMOKE, "fit.steps=4", "fit.eval_every=2", "fit.checkpoint_every=2", "head_steps=0")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the module: states and graphs are made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def shared_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACETRAIL_CACHE", str(cache))


@pytest.fixture(scope="module")
def trained(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, dict[str, Any]]:
    """A run of a few steps with both stages, and what it reported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACETRAIL_CACHE", str(cache))
        out = tmp_path_factory.mktemp("run") / "run"
        # So few steps: faster scales and a heavier split loss would only stir.
        stages = ("head_steps=6", "lr_head=1e-2", "lr_scales=1e-2", "objective.split=1")
        return out, unifar.train(tiny_data, out, overrides=[*SHORT, *stages], device="cpu")


def test_the_model_opens_as_an_encoder_with_facets(trained: tuple[Path, dict[str, Any]]) -> None:
    out, summary = trained
    assert summary["steps"] == 4
    assert summary["skipped"] == 0
    encoder = load_encoder(str(out / "model"))
    assert isinstance(encoder, FacetEncoder)
    single, facets = encoder.encode_facets(["A title\nWe measure it. The result holds.", "One line."])
    assert np.allclose(np.linalg.norm(single, axis=1), 1, atol=1e-5)
    assert facets.vectors.shape == (2, 4, 384)
    base = load_encoder("base").encode_documents(["A title\nWe measure it. The result holds."])
    assert 1e-4 < float(np.abs(base[0] - single[0]).max()) < 0.2  # it learned, and did not forget


def test_a_run_keeps_its_recipe_curves_and_picture(trained: tuple[Path, dict[str, Any]]) -> None:
    out, _ = trained
    rows = read_curves(out / "curves.jsonl")
    assert [row["step"] for row in rows if "eval/dev" in row] == [0, 2, 4]
    taught = [row for row in rows if "train/loss" in row]
    assert all(row[f"train/{name}"] >= 0 for row in taught for name in ("pairs", "distillation", "facet", "diversity"))
    assert any("train/alignment" in row for row in taught)
    assert not any("train/alignment" in row for row in taught[:1])  # its target is uniform at the start
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "stage-0" / "curves.jsonl").is_file()
    manifest = json.loads((out / "model" / "manifest.json").read_text())
    assert set(manifest["trained_on"]["files"]) >= {"cacm/links.tsv", "scitldr/train.jsonl.gz"}
    assert "CC BY" in manifest["licence"]


def test_an_interrupted_run_goes_on_to_the_same_weights(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    unifar.train(tiny_data, whole, overrides=SHORT, device="cpu")

    class Stopping(unifar_arm.Batches):
        def __call__(self, step: int) -> Any:
            if step == 3:
                raise KeyboardInterrupt
            return super().__call__(step)

    with monkeypatch.context() as patch:
        patch.setattr(unifar_arm, "Batches", Stopping)
        with pytest.raises(KeyboardInterrupt):
            unifar.train(tiny_data, cut, overrides=SHORT, device="cpu")
    with pytest.raises(Conflict, match="resume"):
        unifar.train(tiny_data, cut, overrides=SHORT, device="cpu")
    with pytest.raises(Conflict, match="batch"):
        unifar.train(tiny_data, cut, overrides=[*SHORT, "batch=5"], resume=True, device="cpu")
    unifar.train(tiny_data, cut, overrides=SHORT, resume=True, device="cpu")
    names = ("model.safetensors", "manifest.json")
    assert [(cut / "model" / name).read_bytes() for name in names] == [
        (whole / "model" / name).read_bytes() for name in names
    ]


def test_gradient_caching_trains_the_same(tiny_data: Path, tmp_path: Path) -> None:
    plain = unifar.train(tiny_data, tmp_path / "plain", overrides=SHORT, device="cpu")
    cached = unifar.train(tiny_data, tmp_path / "cached", overrides=[*SHORT, "chunk=3"], device="cpu")
    assert cached["dev"] == pytest.approx(plain["dev"], abs=1e-3)
    rows = [read_curves(tmp_path / name / "curves.jsonl") for name in ("plain", "cached")]
    losses = [[row["train/loss"] for row in one if "train/loss" in row] for one in rows]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_an_unknown_key_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"fit\.steps"):
        unifar.train(tmp_path / "nowhere", tmp_path / "out", overrides=["fit.step=3"])


@pytest.mark.parametrize("part", ["claim", "controls"])
def test_every_arm_of_the_experiment_is_trained_and_judged(tiny_data: Path, tmp_path: Path, part: str) -> None:
    out, declared = tmp_path / "experiment", read_experiment()
    run = unifar_experiment.run if part == "claim" else unifar_experiment.run_controls
    summary = run(tiny_data, out, smoke=True)
    evidence = Evidence.model_validate_json(Path(summary["result"]).read_bytes())
    arms = declared.arms if part == "claim" else declared.controls.arms
    assert arms.keys() | set(UNTRAINED) <= evidence.arms.keys()
    steps = {
        name: arm.meters["optimiser steps"] for name, arm in evidence.arms.items() if "optimiser steps" in arm.meters
    }
    two_models = {"C": 2.0} if part == "controls" else {}  # 3 // 2 each
    assert steps == dict.fromkeys(steps, 3.0) | two_models
    assert steps.keys() == {name for name, arm in arms.items() if name not in UNTRAINED}
    drawn = {picture.name for picture in Path(summary["pictures"]).iterdir()}
    assert drawn >= {"quality-by-bytes.png", "wins-and-losses.png", "facet-probe.png", "dev-1.png"}
    assert ({"anchors-1.png", "gate-1.png"} <= drawn) == (part == "claim")
    judged = sorted((out / "scores").glob("*.json"))
    before = {path: path.stat().st_mtime_ns for path in judged}
    run(tiny_data, out, smoke=True, resume=True)
    assert {path: path.stat().st_mtime_ns for path in judged} == before  # nothing was trained twice
