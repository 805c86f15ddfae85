"""The units of the experiment on lists: an arm under a seed gives every option of every list a score."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facetrail.eval.experiments.hint_lists_plan import SEEDED, HintListsExperiment, ScorerName
from facetrail.eval.recommend_options import OptionLists
from facetrail.indexing.index import Float64Array
from facetrail.models.recommend.hints import HintNetwork
from facetrail.models.recommend.interactions import Scorer
from facetrail.models.recommend.knowledge import Attributes
from facetrail.models.recommend.pairwise_baselines import item_mean
from facetrail.models.recommend.time_blocks import Ratings
from facetrail.training.config import read_recipe
from facetrail.training.recommend.hint_batches import HintsRecipe
from facetrail.training.recommend.hint_fit import build_network, fit_discovery
from facetrail.training.recommend.hint_list_fit import HintListsRecipe, fit_lists, list_cuts, option_scores
from facetrail.training.recommend.hint_lists_material import ListMaterial
from facetrail.training.recommend.hint_material import elsewhere
from facetrail.training.recommend.hint_units import Units, fitted_once
from facetrail.training.recommend.hints import DEFAULTS as PAIRS
from facetrail.training.recommend.recommender import DEFAULTS as RECOMMENDER
from facetrail.training.recommend.recommender import RecommenderRecipe, fit_recipe

LISTS = Path(__file__).with_name("hint_lists.toml")
ALGORITHMS: dict[ScorerName, str] = {
    "popularity": "popularity",
    "item-knn": "knn",
    "ease": "ease",
    "ease+markov": "blend",
    "lightgcn": "lightgcn",
    "sasrec": "sasrec",
}
HISTORIES_AT_ONCE = 256


class ListCourse:
    """What the units share."""

    def __init__(self, plan: HintListsExperiment, material: ListMaterial, out: Path, *, device: torch.device) -> None:
        self._plan, self._material, self._out, self._device = plan, material, out, device
        self.units = Units(out)

    def scorer(self, name: ScorerName, seed: int) -> None:
        """A scorer that knows no attributes, unless it has been done."""
        seed = seed if name in SEEDED else 0
        if self.units.is_done(name, seed):
            return
        lists = {"validation": self._material.validation, "test": self._material.test}
        start = time.process_time()
        if name == "constant":
            scores = {part: np.zeros(one.every_option.shape) for part, one in lists.items()}
        elif name == "item mean":
            scores = {part: self._item_means(one) for part, one in lists.items()}
        else:
            changes = (*self._plan.recommender, f"algorithm={ALGORITHMS[name]}", f"seed={seed}")
            recipe = read_recipe(RECOMMENDER, RecommenderRecipe, changes)
            recipe = recipe.model_copy(update={"sasrec": recipe.sasrec.model_copy(update={"seed": seed})})
            folder = self._out / "recommenders" / f"{ALGORITHMS[name]}-{seed}"
            folder.mkdir(parents=True, exist_ok=True)
            scorer = fit_recipe(recipe, self._material.split, folder, resume=True, device=self._device.type).scorer
            scores = {part: scored(scorer, one) for part, one in lists.items()}
        self.units.keep(name, seed, scores, cpu_seconds=time.process_time() - start)

    def network(self, name: str, seed: int) -> None:
        """A discovery network alone, unless it has been done."""
        if self.units.is_done(name, seed):
            return
        start, arm, material = time.process_time(), self._plan.networks[name], self._material
        network, attributes = self.fitted(name, seed), self.attributes(name, seed)
        scores = {
            part: option_scores(network, material.rows, attributes, lists, prior=arm.fitted == "lists")
            for part, lists in (("validation", material.validation), ("test", material.test))
        }
        self.units.keep(name, seed, scores, cpu_seconds=time.process_time() - start)

    def kept(self, name: str, seed: int) -> dict[str, Any]:
        """The scores of a unit, (n, every option) by part, or (n, o) by kind of a language model, and meters."""
        is_alike = name in self._plan.scorers and name not in SEEDED
        return self.units.kept(name, 0 if is_alike else seed)

    def _item_means(self, lists: OptionLists) -> Float64Array:
        log, options = self._material.rows.full_log, lists.every_option
        n = options.shape[1]
        users, times = np.repeat(lists.users, n), np.repeat(lists.times, n)
        rows = Ratings(users, options.reshape(-1), np.zeros(options.size), times)
        return item_mean(log, rows, np.repeat(list_cuts(log, lists), n)).reshape(options.shape)

    def attributes(self, name: str, seed: int) -> Attributes:
        """What a network is told of the items."""
        arm, attributes = self._plan.networks[name], self._material.attributes
        if arm.attributes == "all":
            return attributes
        if arm.attributes == "named":
            names = zip(attributes.relation_names, attributes.tail_names, strict=True)
            return attributes.only(np.array([None not in pair for pair in names], np.bool_))
        others = elsewhere(attributes.n_items, np.random.default_rng([seed, 7]))
        return attributes.regrouped([attributes.of(other) for other in others])

    def fitted(self, name: str, seed: int) -> HintNetwork:
        """A network in evaluation mode, fitted once and kept."""
        arm, rows = self._plan.networks[name], self._material.rows
        attributes = self.attributes(name, seed)
        of_pairs = arm.fitted == "pairs"
        recipe: HintsRecipe | HintListsRecipe = (
            read_recipe(PAIRS, HintsRecipe, self._plan.pairs)
            if of_pairs
            else read_recipe(LISTS, HintListsRecipe, self._plan.discovery)
        )
        changes = {"network": recipe.network.model_copy(update=dict(arm.network))}
        recipe = recipe.model_copy(update=changes | {"fit": recipe.fit.model_copy(update={"seed": seed})})
        file = self._out / "discovery" / f"{'-'.join(name.lower().replace(',', '').split())}-{seed}.safetensors"

        def fit() -> HintNetwork:
            if isinstance(recipe, HintListsRecipe):
                return fit_lists(rows, attributes, self._material.validation, recipe, seed=seed, device=self._device)
            return fit_discovery(rows, attributes, recipe, seed=seed, device=self._device)[0]

        return fitted_once(file, lambda: build_network(rows, attributes, recipe, seed=seed, device=self._device), fit)


def scored(scorer: Scorer, lists: OptionLists) -> Float64Array:
    """(n, every option) by a scorer that knows the items of train."""
    options, found = lists.every_option, []
    for start in range(0, len(lists), HISTORIES_AT_ONCE):
        part = range(start, min(start + HISTORIES_AT_ONCE, len(lists)))
        histories = [lists.history(number) for number in part]
        rows = scorer.scores([history[history < scorer.n_items] for history in histories])
        found.append(np.take_along_axis(rows, options[part.start : part.stop], axis=1))
    return np.concatenate(found).astype(np.float64)
