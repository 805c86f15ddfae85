"""The run folder of the experiment on hints, and its units: one arm under one seed.

Arms of one seed share rows to learn from, the language model's first weights and the discovery network.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facetrail.eval.experiments.hints_plan import CLOSED, HintsExperiment, LanguageArm
from facetrail.models.recommend.hint_answers import prefer
from facetrail.models.recommend.hint_model import SeenRows, log_odds
from facetrail.models.recommend.hint_prompts import NO, YES, Asked, HintPrompts, PairPrompt, TokenCounts
from facetrail.models.recommend.hint_statistics import Evidence
from facetrail.models.recommend.hints import HintNetwork
from facetrail.models.recommend.pairwise_baselines import fit_bias_logistic, item_and_user_mean, item_mean
from facetrail.models.recommend.time_blocks import EventLog, Floats, Ints, Ratings, frozen_cuts, rolling_cuts
from facetrail.training.config import read_recipe
from facetrail.training.recommend.hint_batches import HintsRecipe, Rows
from facetrail.training.recommend.hint_fit import build_network, fit_discovery
from facetrail.training.recommend.hint_material import HintMaterial, controlled, sample_by_user
from facetrail.training.recommend.hint_tuning import TuningConfig, shots, tune, tuning_config, written
from facetrail.training.recommend.hint_units import Units, fitted_once, fresh_policy, mean_tokens
from facetrail.training.recommend.hints import DEFAULTS

SAMPLE_SEED = 11
PARTS = ("validation", "frozen", "rolling")


@dataclass(frozen=True)
class Reading:
    """What one discovery network found: rows to learn from with their labels, and the rows of each part."""

    shots: list[Asked]
    labels: Floats
    parts: Mapping[str, list[Asked]]


class HintCourse:
    """What the units share."""

    def __init__(self, plan: HintsExperiment, material: HintMaterial, out: Path, *, device: torch.device) -> None:
        self._plan, self._material, self._out, self._device = plan, material, out, device
        self._units = Units(out)
        rows, self._config = material.rows, tuning_config(plan.tuning)
        self.test = sample_by_user(rows.test, plan.n_test, rng=np.random.default_rng(SAMPLE_SEED))
        self.validation = sample_by_user(rows.validation, plan.n_validation, rng=np.random.default_rng(SAMPLE_SEED))
        self._read: tuple[tuple[str, int], Reading] | None = None

    def closed(self) -> None:
        """The arms that no seed changes."""
        logistic = fit_bias_logistic(self._material.rows.log)
        scorers: dict[str, Callable[[EventLog, Ratings, Ints], Floats]] = {
            "item mean": item_mean,
            "item + user mean": item_and_user_mean,
            "bias logistic": lambda log, part, cuts: log_odds(logistic.probabilities(log, part, cuts)),
        }
        for name, scored in scorers.items():
            if not self._units.is_done(name, 0):
                self._units.keep(name, 0, self._everywhere(scored, self._material.rows))

    def network(self, name: str, seed: int) -> None:
        """A discovery network alone, unless it has been done."""
        if self._units.is_done(name, seed):
            return
        arm, start = self._plan.networks[name], time.process_time()
        material = controlled(self._material, arm, n_plain=self._plan.prompt.n_plain, seed=seed)
        is_plain = (arm.attributes, arm.fake, arm.labels) == ("all", 0, "true")
        network = self._network(arm.network, seed) if is_plain else self._fitted(material, arm.network, seed)
        fitted = time.process_time()

        def scored(log: EventLog, part: Ratings, cuts: Ints) -> Floats:
            seen = SeenRows(network, Evidence(log, material.attributes), part.users, part.items, cuts)
            return seen.logits if arm.scores_by == "network" else _signs(seen.asked(np.arange(len(part))))

        scores = self._everywhere(scored, material.rows)
        if arm.labels == "shuffled":
            scores["labels_all"] = material.rows.test.labels
        self._units.keep(
            name, seed, scores, fit_cpu_seconds=fitted - start, scoring_cpu_seconds=time.process_time() - fitted
        )

    def language(self, name: str, seed: int) -> None:
        """A language model tuned on an arm's prompts, unless it has been done."""
        if self._units.is_done(name, seed):
            return
        arm, reading = self._plan.arms[name], self._reading(self._plan.arms[name], seed)
        config = self._tuning(seed)

        def texts(counts: TokenCounts) -> dict[str, list[PairPrompt]]:
            prompts = HintPrompts(self._material.titles, self._material.attributes, counts, self._plan.prompt)
            found = {part: written(prompts, asked, arm.slot, seed=seed) for part, asked in reading.parts.items()}
            return {"shots": written(prompts, reading.shots, arm.slot, seed=seed, dropout=config.hint_dropout), **found}

        plan = self._plan
        policy, prompts = fresh_policy(
            plan.language_model, texts, answers=(YES, NO), adapter=plan.adapter, dtype=plan.dtype, device=self._device,
            seed=seed,
        )  # fmt: skip
        start = time.monotonic()
        meters = tune(policy, prompts["shots"], reading.labels, config)
        tuned = time.monotonic()
        scores = {part: np.array([prefer(policy, prompt.text) for prompt in prompts[part]]) for part in PARTS}
        n = sum(len(prompts[part]) for part in PARTS)
        self._units.keep(
            name, seed, scores,
            tokens_per_prompt=mean_tokens(prompts["frozen"]), optimiser_steps=meters.optimiser_steps,
            grad_tokens=meters.grad_tokens, tuning_seconds=tuned - start,
            seconds_per_100_prompts=100 * (time.monotonic() - tuned) / n,
        )  # fmt: skip

    def kept(self, name: str, seed: int) -> dict[str, Any]:
        """The scores of a unit: part → (n,), `<part>_all` where it scored every row, and meters."""
        return self._units.kept(name, 0 if name in CLOSED else seed)

    def strata(self, chosen: Ints) -> dict[str, np.ndarray]:
        """Of some rows of test, frozen: how many of the item's attributes the user met, and what is cold."""
        rows, attributes = self._material.rows, self._material.attributes
        part, log = rows.test.take(chosen), rows.log
        met: dict[int, set[int]] = {}
        for user in np.unique(part.users).tolist():
            seen = log.events.items[log.history(user, len(log))]
            met[user] = set(attributes.spread(seen)[1].tolist())
        overlap = np.array(
            [
                len(met[u].intersection(attributes.of(i).tolist()))
                for u, i in zip(part.users.tolist(), part.items.tolist(), strict=True)
            ]
        )
        cuts = np.full(len(part), len(log))
        unseen = log.of_users(part.users, cuts).counts == 0
        return {
            "overlap 0": overlap == 0,
            "overlap 1 to 3": (overlap > 0) & (overlap <= 3),
            "overlap above 3": overlap > 3,
            "users unseen in training": unseen,
            "users seen in training": ~unseen,
            "items with fewer than 5 events": log.of_items(part.items, cuts).counts < 5,
        }

    def _everywhere(self, scored: Callable[[EventLog, Ratings, Ints], Floats], rows: Rows) -> dict[str, Floats]:
        log, full = rows.log, rows.full_log
        every = {
            "validation": scored(log, rows.validation, frozen_cuts(rows.validation, log)),
            "frozen": scored(log, rows.test, frozen_cuts(rows.test, log)),
            "rolling": scored(full, rows.test, rolling_cuts(rows.test, full)),
        }
        chosen = {"validation": self.validation, "frozen": self.test, "rolling": self.test}
        sampled = {part: scores[chosen[part]] for part, scores in every.items()}
        return sampled | {f"{part}_all": scores for part, scores in every.items()}

    def _reading(self, arm: LanguageArm, seed: int) -> Reading:
        """Found once for the arms in a row that share it."""
        key = (json.dumps(arm.network, sort_keys=True), seed)
        if self._read is not None and self._read[0] == key:
            return self._read[1]
        network, rows, attributes = self._network(arm.network, seed), self._material.rows, self._material.attributes
        learnt, labels = shots(rows, attributes, network, self._tuning(seed))
        log, full = rows.log, rows.full_log
        validation, test = rows.validation.take(self.validation), rows.test.take(self.test)
        parts = {}
        for name, events, part, cuts in (
            ("validation", log, validation, frozen_cuts(validation, log)),
            ("frozen", log, test, frozen_cuts(test, log)),
            ("rolling", full, test, rolling_cuts(test, full)),
        ):
            seen = SeenRows(network, Evidence(events, attributes), part.users, part.items, cuts)
            parts[name] = seen.asked(np.arange(len(part)))
        self._read = (key, Reading(learnt, labels, parts))
        return self._read[1]

    def _network(self, changes: Mapping[str, Any], seed: int) -> HintNetwork:
        """A discovery network on the material itself, fitted once and kept: arms of both parts share it."""
        said = "-".join(f"{key}-{value}" for key, value in sorted(changes.items())).lower() or "full"
        file = self._out / "discovery" / f"{said}-{seed}.safetensors"
        rows, attributes, recipe = self._material.rows, self._material.attributes, self._recipe(changes, seed)
        return fitted_once(
            file,
            lambda: build_network(rows, attributes, recipe, seed=seed, device=self._device),
            lambda: self._fitted(self._material, changes, seed),
        )

    def _fitted(self, material: HintMaterial, changes: Mapping[str, Any], seed: int) -> HintNetwork:
        recipe = self._recipe(changes, seed)
        return fit_discovery(material.rows, material.attributes, recipe, seed=seed, device=self._device)[0]

    def _recipe(self, changes: Mapping[str, Any], seed: int) -> HintsRecipe:
        recipe = read_recipe(DEFAULTS, HintsRecipe, self._plan.discovery)
        network = recipe.network.model_copy(update=dict(changes))
        return recipe.model_copy(update={"network": network, "fit": recipe.fit.model_copy(update={"seed": seed})})

    def _tuning(self, seed: int) -> TuningConfig:
        config = self._config
        return config.model_copy(update={"fit": config.fit.model_copy(update={"seed": seed})})


def _signs(asked: Sequence[Asked]) -> Floats:
    """(r,) likes less dislikes among the hints of a row."""
    hints = [(*one.hints.item, *one.hints.user) for one in asked]
    return np.array([sum(1.0 if hint.polarity == "likes" else -1.0 for hint in row) for row in hints])
