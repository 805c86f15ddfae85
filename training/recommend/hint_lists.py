"""`facetrail experiment hints-lists`: do hints help to choose what a user will like next among options?"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize  # type: ignore[import-untyped]

from facetrail.eval.experiments.hint_lists_plan import PLAN_FILE, HintListsExperiment, ListPart
from facetrail.eval.experiments.hint_lists_result import ListScores, write_lists_result
from facetrail.eval.recommend_options import KINDS, of_kind
from facetrail.indexing.index import Float64Array
from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.time_blocks import Ints
from facetrail.training.config import read_recipe
from facetrail.training.recommend.hint_lists_course import ListCourse
from facetrail.training.recommend.hint_lists_language import ListLanguage
from facetrail.training.recommend.hint_lists_material import ListMaterial, list_miniature, ml100k_material
from facetrail.training.recommend.hint_units import TINY, sources
from facetrail.training.run_folder import open_run
from facetrail.training.text.unifar import torch_device

COMMAND = "facetrail experiment hints-lists"
NAMED = "discovery, named"
"""The network whose hints a language model reads: those of the others could hardly be shown."""


def run(
    data: Path, out: Path, *, part: str | None = None, overrides: Sequence[str] = (), smoke: bool = False,
    seeds: int | None = None, resume: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Scores the arms of a part, or of every part, under every seed; → what the command prints.

    A smoke run makes its lists and reads no data. Raises InvalidInput (no such part, an override), NotFound (data, the
    language model) and Conflict (a run of another plan).
    """
    plan = read_recipe(PLAN_FILE, HintListsExperiment, overrides)
    plan = smaller(plan) if smoke else plan
    if part is not None and part not in plan.parts:
        raise InvalidInput(f"--part {part} is none; choose {' or '.join(plan.parts)}, or leave it out for all")
    chosen = plan.seeds[: 1 if smoke else seeds]
    material, place = (
        list_miniature(plan) if smoke else ml100k_material(data, plan),
        torch_device("cpu" if smoke else "auto"),
    )
    open_run(out, plan, material.hashes, resume=resume, accelerator=str(place))
    changes = "".join(f" --set {override}" for override in overrides)
    course, written = ListCourse(plan, material, out, device=place), []
    for name in plan.parts if part is None else [part]:
        arms, users = _scored(plan, plan.parts[name], material, course, chosen, place)
        path = write_lists_result(
            plan, name, users, arms, seeds=chosen, data=sources(material.hashes),
            command=f"{COMMAND} --part {name} --data DATA --out RUN --seeds {len(chosen)}{changes}",
            notes=_notes(plan, plan.parts[name], material), accelerator="" if place.type == "cpu" else str(place),
            folder=out if smoke else None,
        )  # fmt: skip
        written.append(str(path))
    return {"results": written, "seeds": len(chosen), "run": str(out)}


def smaller(plan: HintListsExperiment) -> HintListsExperiment:
    """Every arm in seconds, with a language model from random weights."""
    fit = {"steps": 2, "eval_every": 2, "checkpoint_every": 2}
    networks = ("fit.steps=2", "fit.eval_every=2", "network.dim=8", "network.n_similar=3")
    return plan.model_copy(
        update={
            "language_model": TINY,
            "n_lists": 6,
            "n_resamples": 20,
            "n_options": 10,
            "per_user": 6,
            "prompt": plan.prompt.model_copy(update={"n_liked": 3}),
            "discovery": (*networks, "batch=8", "n_negatives=5"),
            "pairs": (*networks, "batch=32"),
            "recommender": ("sasrec.epochs=1", "sasrec.dim=8", "lightgcn.epochs=1", "lightgcn.dim=8"),
            "tuning": {**plan.tuning, "n_shots": 4, "batch": 2, "fit": fit},
        }
    )


def _scored(
    plan: HintListsExperiment, part: ListPart, material: ListMaterial, course: ListCourse, seeds: Sequence[int],
    device: torch.device,
) -> tuple[dict[str, ListScores], Ints]:  # fmt: skip
    """The arms of a part, and whose the lists are that it compares them on."""
    n_options = part.n_options or plan.n_options
    language = ListLanguage(plan, material, course, network=NAMED, n_options=n_options, device=device)
    for seed in seeds:
        for scorer in part.scorers:
            course.scorer(scorer, seed)
        for network in part.networks:
            course.network(network, seed)
        for arm in part.arms:
            language.unit(arm, seed)
    sample = language.sample if part.arms else np.arange(len(material.test))
    units = {name: [course.kept(name, seed) for seed in seeds] for name in (*part.scorers, *part.networks, *part.arms)}
    for name, pair in part.blends.items():
        units[name] = [_blended(units[pair[0]][place], units[pair[1]][place]) for place in range(len(seeds))]
    found = {name: _of_units(of, sample, n_options) for name, of in units.items()}
    return found, material.test.users[sample]


def _of_units(units: Sequence[Mapping[str, Any]], sample: Ints, n_options: int) -> ListScores:
    if KINDS[0] in units[0]:
        options = {kind: np.array([unit[kind] for unit in units], np.float64) for kind in KINDS}
    else:
        every = np.array([unit["test"] for unit in units], np.float64)[:, sample]
        options = {kind: of_kind(every, kind, n_options) for kind in KINDS}
    names = sorted(units[0]["meters"])
    return ListScores(options, {name: float(np.mean([unit["meters"][name] for unit in units])) for name in names})


def _blended(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Standardised over a list's options and summed, weighed for the best likelihood of validation's choices."""
    parts = {
        name: np.stack([_standardised(np.array(unit[name])) for unit in (a, b)], axis=-1)
        for name in ("validation", "test")
    }
    weights = choice_weights(np.concatenate([_kind_of(parts["validation"], kind) for kind in KINDS]))
    told = {"weight of the first": float(weights[0]), "weight of the second": float(weights[1])}
    return {"test": parts["test"] @ weights, "meters": {**b["meters"], **told}}


def choice_weights(features: Float64Array) -> Float64Array:
    """(f,) of a conditional logit: what chose the first of the options. features: (n, o, f)."""

    def loss(weights: Float64Array) -> tuple[float, Float64Array]:
        logits = features @ weights
        logits = logits - logits.max(axis=1, keepdims=True)
        shares = np.exp(logits)
        shares /= shares.sum(axis=1, keepdims=True)
        expected = np.einsum("no,nof->nf", shares, features)
        return float(-np.log(shares[:, 0]).mean()), (expected - features[:, 0]).mean(axis=0)

    found: Float64Array = minimize(loss, np.ones(features.shape[-1]), jac=True, method="BFGS").x
    return found


def _kind_of(features: Float64Array, kind: Any) -> Float64Array:
    n_options = (features.shape[1] - 1) // len(KINDS) + 1
    return np.stack([of_kind(features[..., place], kind, n_options) for place in range(features.shape[-1])], axis=-1)


def _standardised(scores: Float64Array) -> Float64Array:
    """Over the options of each list. (n, o)."""
    apart = scores - scores.mean(axis=1, keepdims=True)
    spread: Float64Array = apart / (apart.std(axis=1, keepdims=True) + 1e-9)
    return spread


def _notes(plan: HintListsExperiment, part: ListPart, material: ListMaterial) -> str:
    asked = material.split.test
    liked = asked.source.values[asked.events] >= plan.least
    n_new = int((liked & (asked.targets >= material.split.train.n_items)).sum())
    lists = (
        f"At most {plan.per_user} lists of a user; {n_new} liked events of films without an event in training are "
        "left out. Negatives are films that the user never rates, drawn at random, or from those about as popular. "
        "Every arm knows the events strictly before the target's time; parameters are of training."
    )
    if not part.arms:
        return lists
    known = (
        "made here from random weights, not pretrained" if plan.language_model == TINY else "pretrained, adapter tuned"
    )
    tuning = plan.tuning
    return (
        f"{lists} Language model {plan.language_model} ({known}), {tuning['n_shots']} lists of validation, "
        f"{tuning['fit']['steps']} steps of {tuning['batch']}, the same for every arm; an option's score is a mean "
        f"over {plan.n_shuffles} orders. Hints name genres and decades, for the graph's persons have no names."
    )
