"""`facetrail train hint-language`: a language model learns to answer prompts with hints of a fitted discovery.

The discovery stays as it is. Beside the tuned adapter stand the weights with which its answers are blended with the
bias logistic, fitted on validation. A copy of the discovery stands there too: the run folder is all that serving needs.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from facetrail.eval.recommend_knowledge import load_pairs
from facetrail.models.errors import InvalidInput
from facetrail.models.language.causal import LocalPolicy
from facetrail.models.language.huggingface import AdapterConfig
from facetrail.models.language.smollm2 import NAME
from facetrail.models.recommend.hint_answers import prefer
from facetrail.models.recommend.hint_model import SeenRows, fit_blend, log_odds, open_hint_model
from facetrail.models.recommend.hint_prompts import HintPrompts, PromptConfig, Slot, TokenCounts
from facetrail.models.recommend.hint_reasoner import base_folder, save_reasoner
from facetrail.models.recommend.hint_statistics import Evidence
from facetrail.models.recommend.time_blocks import frozen_cuts
from facetrail.training.config import read_recipe
from facetrail.training.recommend.hint_batches import Rows
from facetrail.training.recommend.hint_tuning import TuningConfig, pair_measures, shots, tune, written
from facetrail.training.run_folder import data_hashes, open_run
from facetrail.training.text.unifar import torch_device
from facetrail.training.tracking import Tracker

DEFAULTS = Path(__file__).with_suffix(".toml")
MODEL_FOLDER, REASONER_FOLDER = "model", "reasoner"
FILES = tuple(f"ml-1m-pairs/{name}.csv.gz" for name in ("train", "valid", "test"))


class HintLanguageRecipe(BaseModel):
    """One tuning of a language model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    discovery: str
    """The model folder of `facetrail train hints`."""
    language_model: str = NAME
    """`smollm2`, or a folder of transformers."""
    slot: Slot = "pidlr"
    """What stands in the prompt's hint slot."""
    n_validation: int = Field(default=500, ge=2)
    """Rows of validation, drawn by the seed, that measure and that weigh the blend."""
    tuning: TuningConfig
    adapter: AdapterConfig = AdapterConfig()
    prompt: PromptConfig = PromptConfig()


def train(
    data: Path, out: Path, *, overrides: Sequence[str] = (), resume: bool = False, seed: int | None = None,
    device: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """Tunes and writes `out/model` and `out/reasoner`; → what the command prints.

    Raises InvalidInput (recipe, a discovery of other items), NotFound (data, models), Conflict (another run).
    """
    recipe = _seeded(read_recipe(DEFAULTS, HintLanguageRecipe, overrides), seed)
    seed, place = recipe.tuning.fit.seed, torch_device(device)
    hashes = data_hashes({name: data / name for name in FILES})
    model, pairs = open_hint_model(Path(recipe.discovery)), load_pairs(data / "ml-1m-pairs")
    if (model.users, model.items) != (pairs.users, pairs.items):
        raise InvalidInput(f"{recipe.discovery} was fitted on other users or items than those of {data}; train it anew")
    rows = Rows(pairs.train, pairs.validation, pairs.test, len(pairs.users), len(pairs.items))
    open_run(out, recipe, hashes, resume=resume, accelerator=str(place))
    policy = LocalPolicy.open(
        base_folder(recipe.language_model), adapter=recipe.adapter, device=str(place), name=recipe.language_model
    )
    prompts = HintPrompts(model.titles, model.attributes, TokenCounts.of(policy), recipe.prompt)
    asked, labels = shots(rows, model.attributes, model.network, recipe.tuning)
    texts = written(prompts, asked, recipe.slot, seed=seed, dropout=recipe.tuning.hint_dropout)
    with Tracker(out, total=recipe.tuning.fit.steps) as tracker:
        meters = tune(policy, texts, labels, recipe.tuning, tracker=tracker, folder=out, resume=resume)
    n = min(recipe.n_validation, len(rows.validation))
    chosen = np.sort(np.random.default_rng([seed, 4]).choice(len(rows.validation), n, replace=False))
    part = rows.validation.take(chosen)
    cuts = frozen_cuts(part, rows.log)
    seen = SeenRows(model.network, Evidence(rows.log, model.attributes), part.users, part.items, cuts)
    held_out = written(prompts, seen.asked(np.arange(n)), recipe.slot, seed=seed)
    scores = np.array([prefer(policy, prompt.text) for prompt in held_out])
    blend = fit_blend(log_odds(model.logistic.probabilities(rows.log, part, cuts)), scores, part.labels)
    shutil.rmtree(out / MODEL_FOLDER, ignore_errors=True)  # of a sitting that ended before its reasoner
    shutil.copytree(recipe.discovery, out / MODEL_FOLDER)
    save_reasoner(
        out / REASONER_FOLDER,
        policy,
        language_model=recipe.language_model,
        slot=recipe.slot,
        prompt=recipe.prompt,
        blend=blend,
    )
    return {
        "model": str(out / MODEL_FOLDER),
        "reasoner": str(out / REASONER_FOLDER),
        "language_model": {"kind": policy.kind, "name": policy.name, "pretrained": True},
        "shots": len(texts),
        "tokens_per_prompt": round(float(np.mean([prompt.n_tokens for prompt in held_out])), 1),
        "grad_tokens": meters.grad_tokens,
        "validation": pair_measures(part.users, scores, part.labels),
        "blend": {"bias": blend.bias, "reasoner": blend.reasoner, "intercept": blend.intercept},
    }


def _seeded(recipe: HintLanguageRecipe, seed: int | None) -> HintLanguageRecipe:
    if seed is None:
        return recipe
    fit = recipe.tuning.fit.model_copy(update={"seed": seed})
    adapter = recipe.adapter.model_copy(update={"seed": seed})
    return recipe.model_copy(update={"tuning": recipe.tuning.model_copy(update={"fit": fit}), "adapter": adapter})
