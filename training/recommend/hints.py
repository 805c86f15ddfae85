"""`facetrail train hints`: which attributes speak for an item, learnt on the pair-wise split of MovieLens 1M.

Prints what it beats and what not: beside the network stand the two averages, under the same rule of what is known
(`frozen`: training alone; `rolling`: every event strictly before the row). A rolling figure is never set against a
frozen one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facetrail.eval.recommend_knowledge import LinkedGraph, PairsData, load_pairs, pairs_graph
from facetrail.eval.recommend_metrics import auc, user_auc
from facetrail.models.recommend.hint_model import (
    HintModel,
    fit_blend,
    log_odds,
    save_hint_model,
    with_guest,
)
from facetrail.models.recommend.hints import HintNetwork
from facetrail.models.recommend.knowledge import Attributes, build_attributes
from facetrail.models.recommend.pairwise_baselines import (
    fit_bias_logistic,
    item_and_user_mean,
    item_mean,
)
from facetrail.models.recommend.time_blocks import Floats, frozen_cuts, rolling_cuts
from facetrail.training.config import read_recipe
from facetrail.training.recommend.hint_batches import HintsRecipe, Rows
from facetrail.training.recommend.hint_fit import fit_discovery, frozen, rolling
from facetrail.training.run_folder import data_hashes, open_run
from facetrail.training.text.unifar import torch_device
from facetrail.training.tracking import Tracker

DEFAULTS = Path(__file__).with_suffix(".toml")
MODEL_FOLDER = "model"
LICENCE = (
    "Trained on MovieLens 1M, DBpedia and Freebase through MovieLens 100k; the MovieLens data is for research use."
)
FILES = (
    *(f"ml-1m-pairs/{name}.csv.gz" for name in ("train", "valid", "test")),
    *(f"ml-1m-sequences/{name}.gz" for name in ("ml1m_items.dat", "dbpedia_features.tsv", "dbpedia_map.tsv")),
    *(f"ml-100k/ml-100k.{name}.gz" for name in ("kg", "link", "item")),
)
"""What the recipe reads below its data folder."""


def train(
    data: Path, out: Path, *, overrides: Sequence[str] = (), resume: bool = False, seed: int | None = None,
    device: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """Fits the discovery network and writes `out/model`; → what the command prints.

    Raises InvalidInput (recipe), NotFound (data), Conflict (a run of another recipe).
    """
    recipe = read_recipe(DEFAULTS, HintsRecipe, overrides)
    seed = recipe.fit.seed if seed is None else seed
    recipe = recipe.model_copy(update={"fit": recipe.fit.model_copy(update={"seed": seed})})
    place = torch_device(device)
    hashes = data_hashes({name: data / name for name in FILES})
    pairs = load_pairs(data / "ml-1m-pairs")
    linked = pairs_graph(pairs, data)
    attributes = build_attributes(linked.graph, recipe.attributes)
    rows = Rows(pairs.train, pairs.validation, pairs.test, len(pairs.users), len(pairs.items))
    open_run(out, recipe, hashes, resume=resume, accelerator=str(place))
    with Tracker(out, total=recipe.fit.steps) as tracker:
        network, result = fit_discovery(
            rows, attributes, recipe, seed=seed, device=place, tracker=tracker, folder=out, resume=resume
        )
    figures = {"validation": dict(result.measures)}
    for name, scoring in (("frozen", frozen), ("rolling", rolling)):
        figures[f"test_{name}"] = scoring(rows, attributes, rows.test).measures(network)
    save_hint_model(
        out / MODEL_FOLDER,
        served(pairs, rows, attributes, network),
        trained_on=hashes,
        figures={f"{part} {name}": value for part, found in figures.items() for name, value in found.items()},
        licence=LICENCE,
    )
    return {
        "model": str(out / MODEL_FOLDER),
        "steps": result.steps,
        "best_step": result.best_step,
        "seconds": round(result.seconds, 1),
        **figures,
        "averages_frozen": baselines(rows, is_rolling=False),
        "averages_rolling": baselines(rows, is_rolling=True),
        "graph": describe(pairs, linked, attributes),
    }


def served(pairs: PairsData, rows: Rows, attributes: Attributes, network: HintNetwork) -> HintModel:
    """The fitted network with all that serving needs; its blend is fitted on validation."""
    logistic, log = fit_bias_logistic(rows.log), rows.log
    validation = rows.validation
    biases = log_odds(logistic.probabilities(log, validation, frozen_cuts(validation, log)))
    logits = frozen(rows, attributes, validation)(network).logits
    blend = fit_blend(biases, logits, validation.labels)
    return HintModel(
        with_guest(network, attributes), attributes, pairs.users, pairs.items, pairs.titles, rows.train, logistic, blend
    )


def baselines(rows: Rows, *, is_rolling: bool) -> dict[str, dict[str, float]]:
    """AUC and UAUC on test of the two averages and their logistic, which is fitted on training alone."""
    log = rows.full_log if is_rolling else rows.log
    cuts = rolling_cuts(rows.test, log) if is_rolling else frozen_cuts(rows.test, log)
    logistic = fit_bias_logistic(rows.log)
    scored = {
        "item mean": item_mean(log, rows.test, cuts),
        "item + user mean": item_and_user_mean(log, rows.test, cuts),
        "bias logistic": logistic.probabilities(log, rows.test, cuts),
    }
    return {name: _measures(rows, scores) for name, scores in scored.items()}


def describe(pairs: PairsData, linked: LinkedGraph, attributes: Attributes) -> dict[str, Any]:
    """What the graph reaches, and what it does not."""
    sizes = np.diff(attributes.starts)
    return {
        "attributes": len(attributes),
        "attributes_per_item": round(float(sizes.mean()), 1),
        "attributes_with_a_name": sum(name is not None for name in attributes.tail_names),
        "items_without_attributes": round(float((sizes == 0).mean()), 4),
        "unmatched": {source: round(1 - share, 4) for source, share in linked.linked.items()},
        "dbpedia_years_agree": f"{linked.years_agree} of {linked.years_checked}",
        "items": len(pairs.items),
    }


def _measures(rows: Rows, scores: Floats) -> dict[str, float]:
    users = user_auc(rows.test.users, scores, rows.test.labels)
    return {"AUC": auc(scores, rows.test.labels), "UAUC": users.mean, "users": float(users.n_users)}
