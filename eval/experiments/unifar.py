"""Judges the arms of UniFAR's experiment from their vectors; training them is none of its business.

What is compared, by which measure and with which demands stands in `unifar.toml`. Development sets choose the mixing
weights, with as many trials for every arm; test sets choose nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from facetrail.eval.experiments import unifar_scores as scores
from facetrail.eval.experiments.unifar_plan import Closed, UnifarExperiment
from facetrail.eval.experiments.unifar_scores import Encoded, Prior, Ranked
from facetrail.eval.experiments.unifar_sets import JudgedSet
from facetrail.eval.metrics import QueryScores
from facetrail.indexing.index import Float64Array, Int64Array
from facetrail.models.errors import InvalidInput

Vectors = Callable[[JudgedSet], tuple[Encoded, Encoded]]
"""Queries and documents of a set, in its order, as one arm encodes them; `EncodedTexts.of` is one."""


class Judged(Closed):
    """One arm under one seed: what it scored on every query of every set. Survives as JSON in the run folder."""

    arm: str
    seed: int | None
    """None where no seed plays a part."""
    query_ids: dict[str, tuple[str, ...]]
    values: dict[str, dict[str, tuple[float, ...]]]
    """Set → measure → a value a query."""
    chosen: dict[str, float | str] = Field(default_factory=dict)
    """Mixing weights, and what they reached on development sets."""
    meters: dict[str, float] = Field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """The sets that are reported, with what all arms share. lexical: BM25's ranking of every set, test and dev."""

    sets: Sequence[JudgedSet]
    dev: Sequence[JudgedSet]
    lexical: Mapping[str, Ranked]


def prepare(experiment: UnifarExperiment, sets: Sequence[JudgedSet], dev: Sequence[JudgedSet]) -> Bench:
    """BM25 once for all arms. Refuses (InvalidInput) development sets that are missing or share a judged pair of texts
    with a test set."""
    names = {judged.name for judged in dev}
    if missing := [name for name in (*experiment.mixing_dev, *experiment.fusion_dev) if name not in names]:
        raise InvalidInput(f"development set {missing[0]!r} is not among {sorted(names)}; give it")
    for judged in dev:
        for tested in sets:
            shared = _pairs(judged) & _pairs(tested)
            if shared or judged.name == tested.name:
                raise InvalidInput(
                    f"{len(shared)} judged pairs of {judged.name} are also in {tested.name}: weights would be "
                    "chosen on test judgements; take them out"
                )
    lexical = {s.name: scores.lexical_ranking(s, depth=experiment.depth) for s in (*sets, *dev)}
    return Bench(sets, dev, lexical)


def judge(
    experiment: UnifarExperiment,
    arms: Sequence[str],
    vectors: Vectors | None,
    test: Bench,
    *,
    seed: int | None,
    meters: Mapping[str, float] | None = None,
) -> list[Judged]:
    """Scores arms that share vectors (`["U1", "UK"]`), and those that fuse them with BM25. Only A0 needs no vectors."""
    found = []
    for name in arms:
        if name not in experiment.arms:
            raise InvalidInput(f"arm {name!r} was not declared; add it to unifar.toml and say why")
        ranker = _Ranker(experiment, name, vectors, test)
        found.append(ranker.judged(seed, meters or {}))
        for hybrid, plan in experiment.arms.items():
            if plan.scorer == "fused" and plan.of == name:
                found.append(ranker.fused(hybrid, seed, meters or {}))
    return found


class _Ranker:
    """One arm: rankings of development sets under every trial, the choice, and the test rankings under it."""

    def __init__(self, experiment: UnifarExperiment, arm: str, vectors: Vectors | None, test: Bench) -> None:
        self.experiment, self.arm, self.test = experiment, arm, test
        self.scorer = experiment.arms[arm].scorer
        if self.scorer == "fused" or (vectors is None and self.scorer != "lexical"):
            raise InvalidInput(f"arm {arm!r} cannot be judged by itself; give vectors, and the arm that is fused")
        self.vectors = vectors
        dev = [judged for judged in test.dev if judged.name in experiment.mixing_dev]
        self.trials = self._trials()
        self.curve: dict[tuple[float, Prior], float] = {}
        if len(self.trials) > 1:
            for judged in dev:
                for trial, ranked in self._ranked(judged, self.trials).items():
                    value = ranked.measured(judged, [experiment.choose_by], depth=100).mean(experiment.choose_by)
                    self.curve[trial] = self.curve.get(trial, 0.0) + value / len(dev)
        self.share, self.prior = best_trial(self.curve) if self.curve else self.trials[0]
        self.rankings: dict[str, Ranked] = {}
        self.n_bytes = 0.0

    def _trials(self) -> list[tuple[float, Prior]]:
        if self.scorer == "facets":
            return [(share, prior) for share in self.experiment.facet_shares for prior in ("own", "uniform")]
        return [(s, "own") for s in (self.experiment.sentence_shares if self.scorer == "sentences" else (0.0,))]

    def _ranked(self, judged: JudgedSet, trials: Sequence[tuple[float, Prior]]) -> dict[tuple[float, Prior], Ranked]:
        """The ranking under every trial."""
        if self.scorer == "lexical" or self.vectors is None:
            return dict.fromkeys(trials, self.test.lexical[judged.name])
        queries, documents = self.vectors(judged)
        self.n_bytes = scores.bytes_per_document(
            documents, facets=self.scorer == "facets", sentences=self.scorer == "sentences"
        )
        ranked = scores.single_ranking(queries, documents, scores.hidden_rows(judged), depth=self.experiment.depth)
        if self.scorer == "single":
            return dict.fromkeys(trials, ranked)
        rows = ranked.rows[:, : self.experiment.rescore_depth]
        second = self._second(queries, documents, rows, {prior for _, prior in trials})
        return {(share, prior): scores.mixed(ranked, second[prior], share) for share, prior in trials}

    def _second(
        self, queries: Encoded, documents: Encoded, rows: Int64Array, priors: set[Prior]
    ) -> dict[Prior, Float64Array]:
        if self.scorer == "sentences":
            return {"own": scores.sentence_matches(queries, documents, rows)}
        matches = scores.facet_matches(queries, documents, rows, margin=self.experiment.margin)
        return {prior: scores.weighted_matches(matches, queries, prior) for prior in sorted(priors)}

    def ranking(self, judged: JudgedSet) -> Ranked:
        """Under the chosen weights; kept."""
        if judged.name not in self.rankings:
            trial = (self.share, self.prior)
            self.rankings[judged.name] = self._ranked(judged, [trial])[trial]
        return self.rankings[judged.name]

    def judged(self, seed: int | None, meters: Mapping[str, float]) -> Judged:
        """The arm itself."""
        measured = {s.name: self.ranking(s).measured(s, self.experiment.measures) for s in self.test.sets}
        chosen: dict[str, float | str] = {}
        if self.curve:
            chosen = {"share": self.share, "prior": self.prior, "dev": self.curve[self.share, self.prior]}
        return _judged(self.arm, seed, measured, chosen, self._meters(meters, len(self.curve)))

    def fused(self, name: str, seed: int | None, meters: Mapping[str, float]) -> Judged:
        """The arm and BM25, with the weight that development sets choose."""
        dev = [judged for judged in self.test.dev if judged.name in self.experiment.fusion_dev]
        curve: dict[tuple[float, Prior], float] = {}
        for weight in self.experiment.fusion_weights:
            values = [
                self._fused(s, weight)
                .measured(s, [self.experiment.choose_by], depth=100)
                .mean(self.experiment.choose_by)
                for s in dev
            ]
            curve[weight, "own"] = float(np.mean(values))
        best, _ = best_trial(curve, near=0.5)
        measured = {s.name: self._fused(s, best).measured(s, self.experiment.measures) for s in self.test.sets}
        chosen: dict[str, float | str] = {"weight": best, "dev": curve[best, "own"]}
        return _judged(name, seed, measured, chosen, self._meters(meters, len(self.curve) + len(curve)))

    def _fused(self, judged: JudgedSet, weight: float) -> Ranked:
        depth = self.experiment.depth
        return scores.fused(self.test.lexical[judged.name], self.ranking(judged), weight, depth=depth)

    def _meters(self, meters: Mapping[str, float], n_trials: int) -> dict[str, float]:
        own = {"tuning trials": float(n_trials)}
        if self.n_bytes:
            own["bytes per document"] = self.n_bytes
        return {**meters, **own}


def best_trial(curve: Mapping[tuple[float, Prior], float], *, near: float = 0.0) -> tuple[float, Prior]:
    """The trial with the highest value; among equals the weight nearest to `near`, then the text's own prior."""
    return min(curve, key=lambda trial: (-round(curve[trial], 12), abs(trial[0] - near), trial))


def _judged(
    arm: str,
    seed: int | None,
    measured: Mapping[str, QueryScores],
    chosen: dict[str, float | str],
    meters: dict[str, float],
) -> Judged:
    return Judged(
        arm=arm,
        seed=seed,
        query_ids={name: table.query_ids for name, table in measured.items()},
        values={
            name: {measure: tuple(column.tolist()) for measure, column in table.values.items()}
            for name, table in measured.items()
        },
        chosen=chosen,
        meters=meters,
    )


def _pairs(judged: JudgedSet) -> set[tuple[str, str]]:
    """Relevant pairs of texts, whichever of the two asks: links have no direction."""
    texts = (
        (judged.queries[query], judged.documents[document])
        for query, grades in judged.qrels.items()
        for document, grade in grades.items()
        if grade
    )
    return {(left, right) if left < right else (right, left) for left, right in texts}
