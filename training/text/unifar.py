"""`facetrail train unifar`: pairs, negatives and roles from the data folder, the stages of training, a model folder.

Roles first (the anchors and their maps, from labelled sentences over the frozen base), then stage 0 (the head alone
over the base's last states), then stage 1 (the top layers and the head), then the average of trained and starting
weights that is best on dev. Training all layers is the same recipe with `unifar.trained_layers = 6`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facetrail.indexing.progress import progress_bar
from facetrail.models.text.unifar_checkpoint import save_unifar
from facetrail.training.config import read_recipe
from facetrail.training.loop import Diverged
from facetrail.training.run_folder import open_run
from facetrail.training.text.unifar_arm import ArmConfig, Trained, build_model, fit_arm, loses_nothing
from facetrail.training.text.unifar_dev import dev_measures
from facetrail.training.text.unifar_prepare import Prepared
from facetrail.training.text.unifar_recipe import UnifarRecipe
from facetrail.training.tracking import CURVES_FILE, Tracker, read_curves

DEFAULTS = Path(__file__).with_suffix(".toml")
MODEL_FOLDER, HEAD_FOLDER = "model", "stage-0"
LICENCE = (
    "Base: all-MiniLM-L6-v2, Apache-2.0. Trained on CACM (free for research), ACM-CR (records of the ACM, repository "
    "under the Unlicense), the ACL Anthology (CC BY 4.0 from 2016 on), SciTLDR (Apache-2.0), PubMedQA (MIT) and "
    "CSAbstruct (Apache-2.0). No text of them is part of the model."
)


def train(
    data: Path, out: Path, *, overrides: Sequence[str] = (), resume: bool = False, seed: int | None = None,
    device: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """Trains UniFAR and writes `out/model`; → what the command prints.

    Raises InvalidInput (recipe, a leak between training and test), NotFound (data), Conflict (a run of another recipe).
    """
    recipe = read_recipe(DEFAULTS, UnifarRecipe, overrides)
    seed = recipe.fit.seed if seed is None else seed
    recipe = recipe.model_copy(update={"fit": recipe.fit.model_copy(update={"seed": seed})})
    place = torch_device(device)
    with progress_bar() as progress:
        prepared = Prepared(data, recipe, device=place, progress=progress)
    open_run(out, recipe, prepared.training.hashes, resume=resume, accelerator=str(place))
    untrained = build_model(prepared, ArmConfig(), recipe.unifar, seed=seed).to(place)
    start = dev_measures(untrained, prepared.dev(final=False))
    head = fit_head(prepared, recipe, out / HEAD_FOLDER, seed=seed, device=place, resume=resume)
    with Tracker(out, total=recipe.fit.steps) as tracker:
        trained = fit_arm(
            prepared,
            recipe,
            ArmConfig(),
            seed=seed,
            device=place,
            tracker=tracker,
            folder=out,
            resume=resume,
            head=head,
        )
    save(out / MODEL_FOLDER, prepared, trained, start)
    return {
        "model": str(out / MODEL_FOLDER),
        "averaging": trained.averaging,
        "steps": trained.result.steps,
        "skipped": trained.result.n_skipped,
        "seconds": round(trained.result.seconds, 1),
        "dev": dict(trained.measures),
        "dev_at_start": start,
        "at_least_the_base": loses_nothing(trained.measures, start),
        "pairs": dict(prepared.training.counts),
        "role_accuracy_dev": prepared.roles.dev_accuracy,
    }


def fit_head(
    prepared: Prepared, recipe: UnifarRecipe, folder: Path, *, seed: int, device: torch.device, resume: bool
) -> dict[str, Tensor] | None:
    """Stage 0; None where the recipe leaves it out. Raises Diverged where the loss does not fall."""
    if not recipe.head_steps:
        return None
    fit = recipe.fit.model_copy(update={"steps": recipe.head_steps, "eval_every": recipe.head_steps})
    with Tracker(folder, total=fit.steps) as tracker:
        trained = fit_arm(
            prepared,
            recipe.model_copy(update={"fit": fit, "averaging": (1.0,)}),
            ArmConfig(layers=False),
            seed=seed,
            device=device,
            tracker=tracker,
            folder=folder,
            resume=resume,
        )
    losses = [row["train/loss"] for row in read_curves(folder / CURVES_FILE) if row.get("train/loss") is not None]
    tenth = max(1, len(losses) // 10)
    first, last = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
    if not last < first:
        raise Diverged(
            f"stage 0 ended with a loss of {last:.4f}, having begun with {first:.4f}: the layers would "
            "learn no better; lower lr_head, or look at the pairs"
        )
    return dict(trained.model.head.state_dict())


def save(folder: Path, prepared: Prepared, trained: Trained, start: dict[str, float]) -> None:
    """Writes the model folder of a fitted UniFAR."""
    top = trained.model.top
    save_unifar(
        folder,
        trained.model.head.config,
        head=trained.model.head.state_dict(),
        differences=top.differences(prepared.base_tensors) if top is not None else {},
        base=prepared.source,
        averaging=trained.averaging,
        trained_on={"files": prepared.training.hashes, "pairs": dict(prepared.training.counts)},
        figures={
            **{f"{name} nDCG@10": value for name, value in trained.measures.items()},
            **{f"{name} nDCG@10 of the base": value for name, value in start.items() if name.endswith("/s")},
        },
        licence=LICENCE,
    )


def torch_device(name: str) -> torch.device:
    """`auto` takes a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)
