"""`facetrail experiment unifar` and `unifar-controls`: trains every arm on the same pairs for the same steps, and has
evaluation judge them.

An arm under a seed is one unit of work: fitted, encoded, judged, and its scores written to the run folder; a run that
was stopped goes on with the first unit that has no scores.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facetrail.eval.experiments import unifar as judging
from facetrail.eval.experiments import unifar_pictures as pictures
from facetrail.eval.experiments import unifar_probe as probing
from facetrail.eval.experiments.unifar import Judged
from facetrail.eval.experiments.unifar_collections import load_sets
from facetrail.eval.experiments.unifar_plan import UnifarExperiment, read_experiment
from facetrail.eval.experiments.unifar_probe import Probed
from facetrail.eval.experiments.unifar_result import write
from facetrail.eval.experiments.unifar_scores import Encoded, EncodedTexts
from facetrail.eval.experiments.unifar_sets import JudgedSet, all_texts, smoke
from facetrail.indexing.durable import write_durably
from facetrail.indexing.progress import progress_bar
from facetrail.models.text.unifar import UnifarHead
from facetrail.training.config import read_recipe
from facetrail.training.run_folder import open_run
from facetrail.training.text.dev_sets import DevSet
from facetrail.training.text.states import StateStore
from facetrail.training.text.unifar import DEFAULTS, save, torch_device
from facetrail.training.text.unifar_arm import ArmConfig, Trained, build_model, fit_arm
from facetrail.training.text.unifar_encode import encode_texts, with_merged, with_roles
from facetrail.training.text.unifar_model import UnifarModel, encode_all
from facetrail.training.text.unifar_prepare import Prepared
from facetrail.training.text.unifar_recipe import UnifarRecipe
from facetrail.training.text.unifar_units import CONTROLS, UNIFAR, UNITS, Unit
from facetrail.training.tracking import CURVES_FILE, Tracker, read_curves

SMOKE = (
    "fit.steps=3", "fit.eval_every=3", "head_steps=0", "batch=4", "n_role_texts=2", "n_split_documents=12",
    "document_tokens=48", "n_dev_others=20", "question_tokens=24", "averaging=[1.0]",
    *(f"pairs.n_{source}=12" for source in (
        "citation", "cocitation", "shared_keywords", "tldr", "title", "keywords", "sentence", "role", "expert")),
)  # fmt: skip


def run(
    data: Path, out: Path, *, smoke: bool = False, seeds: int | None = None, resume: bool = False
) -> dict[str, Any]:
    """UniFAR against its equal-budget controls; see `run_units`."""
    return run_units(data, out, read_experiment(), UNITS, smoke=smoke, seeds=seeds, resume=resume)


def run_controls(
    data: Path, out: Path, *, smoke: bool = False, seeds: int | None = None, resume: bool = False
) -> dict[str, Any]:
    """Ablations of the head, permuted pairs, two models; see `run_units`."""
    return run_units(data, out, read_experiment().of_controls(), CONTROLS, smoke=smoke, seeds=seeds, resume=resume)


def run_units(
    data: Path, out: Path, experiment: UnifarExperiment, units: Sequence[Unit], *,
    smoke: bool = False, seeds: int | None = None, resume: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Trains, judges and writes the result (a smoke run: into `out`); → what the command prints.

    seeds: how many of the declared ones; None is all.
    """
    chosen = experiment.seeds[: 1 if smoke else seeds]
    recipe = read_recipe(DEFAULTS, UnifarRecipe, SMOKE if smoke else ())
    with progress_bar() as progress:
        prepared = Prepared(data, recipe, device=torch_device("auto"), progress=progress)
    open_run(out, recipe, prepared.training.hashes, resume=resume)
    course = _Course(data, out, experiment, prepared, recipe, is_smoke=smoke, resume=resume)
    course.untrained()
    course.annotated()
    for seed in chosen:  # a run that is cut short has whole tables of few seeds
        for unit in units:
            if seed == chosen[0] or not unit.first_seed_only:
                course.unit(unit, seed)
    judged, probed = course.results()
    path = write(
        experiment, judged, probed, course.sets,
        command=f"facetrail experiment {experiment.name} --data DATA --out RUN --seeds {len(chosen)}",
        data=prepared.training.hashes, notes=_notes(recipe, units), folder=out if smoke else None,
        pictures=course.pictures,
    )  # fmt: skip
    course.draw_curves(units, chosen)
    return {
        "result": str(path), "arms": len({one.arm for one in judged}), "seeds": len(chosen), "run": str(out),
        "pictures": str(course.pictures),
    }  # fmt: skip


class _Course:
    """The run folder of an experiment and everything its units share."""

    def __init__(
        self, data: Path, out: Path, experiment: UnifarExperiment, prepared: Prepared, recipe: UnifarRecipe, *,
        is_smoke: bool, resume: bool,
    ) -> None:  # fmt: skip
        self.out, self.experiment, self.prepared, self.recipe = out, experiment, prepared, recipe
        self.data, self.resume, self.pictures = data, resume, out / "pictures"
        sets = load_sets(data, experiment.sets, distractors=experiment.distractors)
        self.sets = [smoke(one) for one in sets] if is_smoke else sets
        dev = [as_judged(one) for one in prepared.dev_sets]
        self.bench = judging.prepare(experiment, self.sets, [smoke(one) for one in dev] if is_smoke else dev)
        abstracts = probing.read_abstracts(data)
        self.abstracts = abstracts[:20] if is_smoke else abstracts
        self.probe_sets = probing.probe_sets(self.abstracts)
        everything = [*self.bench.sets, *self.bench.dev, *self.probe_sets]
        self.documents, self.questions = all_texts(everything)

    def untrained(self) -> None:
        """BM25, the base, and the base with predicted roles."""
        if self._done("untrained", None):
            return
        model = build_model(self.prepared, ArmConfig(head="mean"), self.recipe.unifar, seed=0)
        base = self._encode(model, final=False, with_sentences=True)
        by_role = with_roles(base, model, self._stores(final=False), self.prepared.roles.head)
        found = judging.judge(self.experiment, ["A0"], None, self.bench, seed=None)
        found += judging.judge(self.experiment, ["A1"], base.of, self.bench, seed=None)
        found += judging.judge(self.experiment, ["B0"], by_role.of, self.bench, seed=None)
        self._keep("untrained", None, found, [])

    def annotated(self) -> None:
        """The facet probe by the annotators' own roles, over the base."""
        if self._done("annotated", None):
            return
        vectors = probing.by_annotation(
            self.abstracts,
            self.probe_sets,
            lambda texts: self.prepared.store("probe sentences", texts, is_question=False, final=False).base,
        )
        probed = probing.probe(probing.ANNOTATED, vectors, self.probe_sets, seed=None, margin=float("inf"))
        self._keep("annotated", None, [], [probed])

    def unit(self, unit: Unit, seed: int) -> None:
        """One training under one seed, encoded and judged."""
        if self._done(unit.name, seed):
            return
        final = not unit.configs[0].layers
        trained = [self._fit(unit, config, seed) for config in unit.configs]
        encoded = [self._encode(one.model, final=final, with_sentences=unit.most_sentences > 0) for one in trained]
        if unit.most_sentences:
            encoded = [with_merged(one, unit.most_sentences) for one in encoded]

        def vectors(judged: JudgedSet) -> tuple[Encoded, Encoded]:
            return encoded[-1 if judged.task == "question" else 0].of(judged)

        meters = {
            "optimiser steps": float(sum(one.result.steps for one in trained)),
            "seen pairs": float(sum(one.result.steps for one in trained) * self.recipe.batch),
            "trained parameters": float(sum(p.numel() for one in trained for p in one.model.parameters())),
            "seconds": sum(one.result.seconds for one in trained),
            "averaging": float(np.mean([one.averaging for one in trained])),
        }
        found = judging.judge(self.experiment, unit.arms, vectors, self.bench, seed=seed, meters=meters)
        probed = [self._probe(unit.arms[-1], trained[0], vectors, seed, final=final)] if unit.probed else []
        if unit.arms == UNIFAR:
            self._save(trained[0], seed, self._fit_folder(unit, unit.configs[0], seed))
        self._keep(unit.name, seed, found, probed)

    def _save(self, trained: Trained, seed: int, fit: Path) -> None:
        """The model folder of a trained UniFAR, so that the weights that were judged can be used."""
        folder = self.out / "models" / f"unifar-{seed}"
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped before it kept the scores
        start = next(row for row in read_curves(fit / CURVES_FILE) if "eval/dev" in row)
        save(folder, self.prepared, trained, {k.removeprefix("eval/"): v for k, v in start.items() if "eval/" in k})
        head = trained.model.head
        assert isinstance(head, UnifarHead)
        pictures.anchor_similarity(self.pictures / f"anchors-{seed}.png", head.anchors.detach().cpu().numpy())
        store = self._stores(final=False)[0]
        gate = encode_all(trained.model, store, is_question=False).gate
        pictures.gate_by_length(self.pictures / f"gate-{seed}.png", store.lengths, gate)

    def draw_curves(self, units: Sequence[Unit], seeds: Sequence[int]) -> None:
        """Development sets over the steps, for every training whose curves are in the folder."""
        for seed in seeds:
            curves = {}
            for unit in units:
                for config in unit.configs:
                    file = self._fit_folder(unit, config, seed) / CURVES_FILE
                    if file.is_file():
                        rows = [row for row in read_curves(file) if "eval/dev" in row]
                        curves[file.parent.name] = [(int(row["step"]), row["eval/dev"]) for row in rows]
            if curves:
                pictures.dev_curves(self.pictures / f"dev-{seed}.png", curves, measure="nDCG@10")

    def _fit_folder(self, unit: Unit, config: ArmConfig, seed: int) -> Path:
        return self.out / "fits" / f"{_slug(unit.name)}-{'-'.join(config.kinds)}-{seed}"

    def _fit(self, unit: Unit, config: ArmConfig, seed: int) -> Trained:
        overrides = {"steps": self.recipe.fit.steps // len(unit.configs)}
        recipe = self.recipe.model_copy(update={"fit": self.recipe.fit.model_copy(update=overrides)})
        folder = self._fit_folder(unit, config, seed)
        prepared = self.prepared.permuted() if unit.permuted else self.prepared
        with Tracker(folder, total=recipe.fit.steps) as tracker:
            return fit_arm(
                prepared, recipe, config, seed=seed, device=torch_device("auto"), tracker=tracker, folder=folder,
                resume=self.resume,
            )  # fmt: skip

    def _encode(self, model: UnifarModel, *, final: bool, with_sentences: bool = False) -> EncodedTexts:
        stores = self._stores(final=final)
        return encode_texts(
            model, (self.documents, stores[0]), (self.questions, stores[1]), with_sentences=with_sentences
        )

    def _stores(self, *, final: bool) -> tuple[StateStore, StateStore]:
        return (
            self.prepared.store("judged documents", self.documents, is_question=False, final=final),
            self.prepared.store("judged questions", self.questions, is_question=True, final=final),
        )

    def _probe(self, arm: str, trained: Trained, vectors: judging.Vectors, seed: int, *, final: bool) -> Probed:
        predicted, labels = self.prepared.told_roles(trained.model, "test", final=final)
        return probing.probe(
            arm, [vectors(one) for one in self.probe_sets], self.probe_sets, seed=seed,
            margin=float("inf"),  # the facet is given: only the same facet of a document answers
            roles=probing.role_scores(predicted, labels),
        )  # fmt: skip

    # -- the run folder ----------------------------------------------------------------------------------------------

    def _path(self, name: str, seed: int | None) -> Path:
        return self.out / "scores" / f"{_slug(name)}{'' if seed is None else f'-{seed}'}.json"

    def _done(self, name: str, seed: int | None) -> bool:
        return self._path(name, seed).is_file()

    def _keep(self, name: str, seed: int | None, judged: Sequence[Judged], probed: Sequence[Probed]) -> None:
        path = self._path(name, seed)
        path.parent.mkdir(exist_ok=True)
        content = {
            "judged": [one.model_dump(mode="json") for one in judged],
            "probed": [one.model_dump(mode="json") for one in probed],
        }
        write_durably(path, json.dumps(content).encode())

    def results(self) -> tuple[list[Judged], list[Probed]]:
        """Everything that was judged, from the run folder."""
        contents = [json.loads(path.read_bytes()) for path in sorted((self.out / "scores").glob("*.json"))]
        judged = [Judged.model_validate(one) for content in contents for one in content["judged"]]
        probed = [Probed.model_validate(one) for content in contents for one in content["probed"]]
        known = {*self.experiment.arms, probing.ANNOTATED}  # both experiments may share a folder
        return [one for one in judged if one.arm in known], [one for one in probed if one.arm in known]


def as_judged(dev: DevSet) -> JudgedSet:
    """A development set in the form that evaluation takes."""
    is_question = dev.kind == "qd"
    return JudgedSet(
        dev.name, "question" if is_question else "document", {query.id: query.text for query in dev.queries},
        dev.documents, dev.qrels, exclude_self=not is_question,
    )  # fmt: skip


def _slug(name: str) -> str:
    return name.replace("/", "-").replace(" ", "-")


def _notes(recipe: UnifarRecipe, units: Sequence[Unit]) -> str:
    two = [unit.name for unit in units if len(unit.configs) > 1]
    halves = f" {', '.join(two)} has half of the steps for each of its two models." if two else ""
    return (
        f"Every trained arm: {recipe.fit.steps} steps of {recipe.batch} pairs with one hard negative each, the top "
        f"{recipe.unifar.trained_layers} layers (arms named U/head: the head alone, over frozen layers); texts cut at "
        f"{recipe.document_tokens} tokens (documents) and {recipe.question_tokens} (questions) in training and in "
        "evaluation alike; weights averaged with the start by the share that is best on development sets."
        f"{halves}"
    )
