"""`facetrail train recommender`: events in, a recommender as a model folder out, measured once.

Split, tune on validation, record what was tuned, evaluate on test, save. The saved model is the measured one: fitted on
train alone. Commands that must know the newest events take them in with `fit_partial`, or fit again.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from facetrail.eval.recommend import evaluate
from facetrail.eval.recommend_cleaning import Ties
from facetrail.eval.recommend_data import (
    RecommendationData,
    load_beauty,
    load_events,
    load_grocery,
    load_ml1m_sequences,
    load_ml100k,
)
from facetrail.eval.recommend_splits import Split, cut_times, leave_last, time_split
from facetrail.indexing.durable import write_durably
from facetrail.models.errors import InvalidInput, NotFound
from facetrail.models.recommend.blend import Blend
from facetrail.models.recommend.ease import Ease, EaseConfig
from facetrail.models.recommend.factorisation import FactorConfig, ImplicitFactors
from facetrail.models.recommend.interactions import Interactions, Scorer
from facetrail.models.recommend.knn import ItemKnn
from facetrail.models.recommend.lightgcn import LightGcn, LightGcnConfig
from facetrail.models.recommend.markov import Markov
from facetrail.models.recommend.popularity import Popularity, RecentPopularity
from facetrail.models.recommend.sasrec import SasrecScorer
from facetrail.models.recommend.saved import save_recommender
from facetrail.models.recommend.scored import ScoredRecommender
from facetrail.training.config import read_recipe
from facetrail.training.recommend.sasrec import (
    BEST,
    SasrecRecipe,
    Windows,
    fit_sasrec,
    sampled,
    validation_measures,
)
from facetrail.training.run_folder import data_hashes, open_run
from facetrail.training.tracking import Tracker

DEFAULTS = Path(__file__).with_suffix(".toml")
MODEL_FOLDER, TUNING_FILE, REPORT_FILE = "model", "tuning.json", "report.json"
SHOWN = ("R@1", "R@10", "NDCG@10", "MRR")


@dataclass(frozen=True)
class Collection:
    """A folder that is known by one of its files."""

    file: str
    load: Callable[[Path], RecommendationData]
    has_times: bool


COLLECTIONS = (
    Collection("ml-100k.inter.gz", load_ml100k, True),
    Collection("train_input.txt.gz", load_ml1m_sequences, False),
    Collection("Beauty.txt.gz", load_beauty, False),
    Collection("item_meta.csv.gz", load_grocery, True),
)


class RecommenderRecipe(BaseModel):
    """One recommender."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    algorithm: Literal["ease", "markov", "blend", "popularity", "knn", "ials", "lightgcn", "sasrec"]
    split: Literal["time", "leave_last"] = "time"
    train_share: float = Field(default=0.8, gt=0, lt=1)
    """Of all events, by time; the rest after `validation_share` is test."""
    validation_share: float = Field(default=0.1, gt=0, lt=1)
    ties: Literal["shuffle", "group", "file"] | None = None
    """Order among events of one user and time; None: `group` by time, `shuffle` for leave_last."""
    core: int = Field(default=0, ge=0)
    """k-core of train under the split by time; 0: none."""
    keep: tuple[str, ...] = ()
    """Of an event file: actions that count, such as `order` or `rating>=4`; none: all."""
    ignore: tuple[str, ...] = ()
    """Of an event file: actions that are known and do not count."""
    action: str | None = None
    """Of an event file: the action of rows that name none."""
    ridges: tuple[float, ...] = Field(default=(50.0, 100.0, 200.0, 500.0, 1000.0), min_length=1)
    """λ of EASE among which validation chooses."""
    n_validation: int = Field(default=5_000, ge=1)
    """Questions that choose λ, at most."""
    ials: FactorConfig = FactorConfig()
    lightgcn: LightGcnConfig = LightGcnConfig()
    sasrec: SasrecRecipe = SasrecRecipe()
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class Fitted:
    """A scorer, and what validation said of each choice."""

    scorer: Scorer
    tuning: dict[str, Any] = field(default_factory=dict)


def train(
    data: Path, out: Path, *, overrides: Sequence[str] = (), resume: bool = False, seed: int | None = None,
    device: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """Fits a recommender and writes `out/model`, `out/tuning.json` and `out/report.json`; → what the command prints.

    data: an event file, or the folder of a known collection. Raises InvalidInput (recipe, events), NotFound (data),
    Conflict (a run of another recipe).
    """
    recipe = read_recipe(DEFAULTS, RecommenderRecipe, overrides)
    if seed is not None:
        recipe = recipe.model_copy(update={"seed": seed})
    recipe = recipe.model_copy(update={"sasrec": recipe.sasrec.model_copy(update={"seed": recipe.seed})})
    hashes = data_hashes(files_of(data))
    open_run(out, recipe, hashes, resume=resume, accelerator=device)
    if not (out / REPORT_FILE).is_file():
        split, has_times = split_of(data, recipe)
        fitted = fit_recipe(recipe, split, out, resume=resume, device=device)
        _write(out / TUNING_FILE, fitted.tuning)  # before the test is looked at
        report = evaluate(fitted.scorer, split).summary()
        figures = {name: report["seen_hidden"]["per_prediction"][name] for name in SHOWN}
        shutil.rmtree(out / MODEL_FOLDER, ignore_errors=True)  # of a sitting that ended before its report
        save_recommender(
            out / MODEL_FOLDER,
            ScoredRecommender(split.train.vocabulary, [fitted.scorer], popular=popular_of(split.train, has_times)),
            trained_on={"files": hashes, "split": split.name, "split_hash": split.hash, "train": split.train_hash},
            figures=figures,
        )
        _write(out / REPORT_FILE, report)
    return summary_of(out)


def files_of(data: Path) -> dict[str, Path]:
    """The file that holds the events. Raises NotFound and InvalidInput where there is none that is known."""
    if data.is_file():
        return {data.name: data}
    if not data.is_dir():
        raise NotFound(f"{data} does not exist; give an event file or the folder of a collection")
    return {_collection(data).file: data / _collection(data).file}


def split_of(data: Path, recipe: RecommenderRecipe) -> tuple[Split, bool]:
    """The split that the recipe asks for, and whether the events have times."""
    known = _collection(data) if data.is_dir() else None
    if known is None:
        loaded = load_events(data, keep=recipe.keep, ignore=recipe.ignore, action=recipe.action)
    else:
        loaded = known.load(data)
    has_times = known is None or known.has_times
    events = loaded.interactions
    ties = Ties(recipe.ties, recipe.seed) if recipe.ties is not None else None
    if recipe.split == "leave_last":
        return leave_last(events, ties=ties or Ties("shuffle", recipe.seed)), has_times
    if not has_times:
        raise InvalidInput(f"{loaded.name} has no times to split by; use --set split=leave_last", pointer="/split")
    cuts = cut_times(events, train=recipe.train_share, validation=recipe.validation_share)
    return time_split(events, cuts, ties=ties, core=recipe.core), has_times


def fit_recipe(recipe: RecommenderRecipe, split: Split, folder: Path, *, resume: bool, device: str) -> Fitted:
    """The scorer of the recipe's algorithm, tuned on validation and fitted on train."""
    events, rng = split.train, np.random.default_rng(recipe.seed)
    match recipe.algorithm:
        case "popularity":
            return Fitted(Popularity.fit(events))
        case "knn":
            return Fitted(ItemKnn.fit(events))
        case "markov":
            return Fitted(Markov.fit(events))
        case "ials":
            return Fitted(ImplicitFactors.fit(events, recipe.ials, rng=rng))
        case "lightgcn":
            return Fitted(LightGcn.fit(events, recipe.lightgcn, seed=recipe.seed))
        case "ease":
            return tuned(recipe, split, lambda ridge: Ease.fit(events, EaseConfig(ridge=ridge)))
        case "blend":
            markov = Markov.fit(events)
            return tuned(recipe, split, lambda ridge: Blend([Ease.fit(events, EaseConfig(ridge=ridge)), markov]))
        case "sasrec":
            return _fit_sasrec(recipe, split, folder, resume=resume, device=device)


def tuned(recipe: RecommenderRecipe, split: Split, fit: Callable[[float], Scorer]) -> Fitted:
    """The scorer whose λ has the largest NDCG@10 on validation; of equal ones, the smallest λ."""
    asked = sampled(split.validation, recipe.n_validation, rng=np.random.default_rng(recipe.seed))
    best: tuple[float, float, Scorer] | None = None
    trials: dict[str, float] = {}
    for ridge in sorted(recipe.ridges):
        scorer = fit(ridge)
        measured = validation_measures(scorer, asked)[BEST]
        trials[f"{ridge:g}"] = measured
        if best is None or measured > best[0]:
            best = measured, ridge, scorer
    assert best is not None
    return Fitted(best[2], {"ridge": best[1], "validation_NDCG@10": best[0], "trials": trials})


def popular_of(events: Interactions, has_times: bool) -> Scorer:
    """Who answers for a history of which nothing is known."""
    return RecentPopularity.fit(events) if has_times else Popularity.fit(events)


def summary_of(out: Path) -> dict[str, Any]:
    """What the command prints of a finished run."""
    report = json.loads((out / REPORT_FILE).read_bytes())
    measured = report["seen_hidden"]["per_prediction"]
    return {
        "model": str(out / MODEL_FOLDER),
        "report": str(out / REPORT_FILE),
        "split": report["split"],
        "warnings": report["warnings"],
        "tuning": json.loads((out / TUNING_FILE).read_bytes()),
        "n_predictions": report["n_predictions"],
        **{name: measured[name] for name in SHOWN},
    }


def _fit_sasrec(recipe: RecommenderRecipe, split: Split, folder: Path, *, resume: bool, device: str) -> Fitted:
    place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    steps = Windows(split.train, recipe.sasrec).steps_per_epoch * recipe.sasrec.epochs
    with Tracker(folder, total=steps) as tracker:
        model, result = fit_sasrec(
            split.train, split.validation, recipe.sasrec, folder=folder, tracker=tracker, resume=resume, device=place
        )
    return Fitted(
        SasrecScorer(model.cpu()), {"steps": result.steps, "best_step": result.best_step, "validation": result.measures}
    )


def _collection(folder: Path) -> Collection:
    for known in COLLECTIONS:
        if (folder / known.file).is_file():
            return known
    files = ", ".join(known.file for known in COLLECTIONS)
    raise InvalidInput(f"{folder} holds no collection that is known ({files}); give an event file", pointer="/data")


def _write(path: Path, values: dict[str, Any]) -> None:
    write_durably(path, (json.dumps(values, indent=1) + "\n").encode())
