"""Language models on lists: tuned on lists of validation, then asked which option of a list of test comes next.

No network was fitted to validation (it only chose when to stop), so hints are as right in the lessons as in test.
"""

import time
from collections.abc import Mapping

import numpy as np
import torch

from facetrail.eval.experiments.hint_lists_plan import HintListsExperiment
from facetrail.eval.recommend_options import KINDS, Kind, OptionLists
from facetrail.indexing.index import Float64Array
from facetrail.models.language.causal_policy import CausalPolicy
from facetrail.models.recommend.hint_answers import prefer_option
from facetrail.models.recommend.hint_model import SeenRows
from facetrail.models.recommend.hint_prompts import Asked, HintPrompts, PairPrompt, Slot, TokenCounts, safe_title
from facetrail.models.recommend.hint_statistics import Evidence
from facetrail.models.recommend.hints import HintNetwork
from facetrail.models.recommend.time_blocks import Ints
from facetrail.training.language.meters import Meters
from facetrail.training.language.supervised import Example, fit_supervised
from facetrail.training.recommend.hint_list_fit import list_cuts
from facetrail.training.recommend.hint_lists_course import ListCourse
from facetrail.training.recommend.hint_lists_material import ListMaterial
from facetrail.training.recommend.hint_tuning import TuningConfig, tuning_config
from facetrail.training.recommend.hint_units import Units, fresh_policy, mean_tokens

SAMPLE_SEED = 11
SHOTS = "shots"
Lists = Mapping[str, list[list[Asked]]]
"""`shots`, and each kind: lists of options, the target first."""


class ListLanguage:
    """The units of a language model."""

    def __init__(
        self, plan: HintListsExperiment, material: ListMaterial, course: ListCourse, *, network: str, n_options: int,
        device: torch.device,
    ) -> None:  # fmt: skip
        """network: the arm whose hints are read · n_options: of the lists, the target among them."""
        self._plan, self._material, self._course, self._device = plan, material, course, device
        self._network, self._n_options = network, n_options
        self._config: TuningConfig = tuning_config(plan.tuning)
        self.sample = _evenly(material.test.users, plan.n_lists)
        self._lists: tuple[int, Lists] | None = None

    def unit(self, name: str, seed: int) -> None:
        """An arm under a seed, unless it has been done."""
        units: Units = self._course.units
        if units.is_done(name, seed):
            return
        plan, lists, slot = self._plan, self._read_once(seed), self._plan.arms[name].slot
        answers = sorted({self._title(one) for part in lists.values() for options in part for one in options})
        policy, prompts = fresh_policy(
            plan.language_model, lambda counts: self._texts(counts, lists, slot, seed), answers=answers,
            adapter=plan.adapter, dtype=plan.dtype, device=self._device, seed=seed,
        )  # fmt: skip
        start = time.monotonic()
        meters = self._tune(policy, prompts[SHOTS], lists[SHOTS], seed)
        tuned, writer = time.monotonic(), self._writer(TokenCounts.of(policy))
        scores: dict[str, Float64Array] = {
            kind: np.stack(
                [
                    prefer_option(policy, writer, options, slot, seed=number, n_shuffles=plan.n_shuffles)
                    for number, options in enumerate(lists[kind])
                ]
            )
            for kind in KINDS
        }
        units.keep(
            name, seed, scores,
            tokens_per_prompt=mean_tokens(prompts["test"]), optimiser_steps=meters.optimiser_steps,
            grad_tokens=meters.grad_tokens, tuning_seconds=tuned - start,
            seconds_per_100_lists=100 * (time.monotonic() - tuned) / (len(KINDS) * len(self.sample)),
        )  # fmt: skip

    def _texts(self, counts: TokenCounts, lists: Lists, slot: Slot, seed: int) -> dict[str, list[PairPrompt]]:
        """Lessons, each in an order of its own and a share of them without hints; and test's, to see how long."""
        writer, rng = self._writer(counts), np.random.default_rng([seed, 2])
        lessons = []
        for options in lists[SHOTS]:
            shown: Slot = "none" if rng.random() < self._config.hint_dropout else slot
            lessons.append(writer.options(options, rng.permutation(len(options)), shown, rng=rng))
        given = np.arange(self._n_options)
        test = [writer.options(options, given, slot, rng=rng) for kind in KINDS for options in lists[kind]]
        return {SHOTS: lessons, "test": test}

    def _tune(self, policy: CausalPolicy, prompts: list[PairPrompt], lessons: list[list[Asked]], seed: int) -> Meters:
        config, tokens, meters = self._config, policy.tokenizer, Meters()
        # No end token follows: scores are of the title's tokens, and what comes after it is nobody's business.
        examples = [
            Example(tuple(tokens.encode_prompt(prompt.text)), tuple(tokens.encode(self._title(options[0]))))
            for prompt, options in zip(prompts, lessons, strict=True)
        ]
        fit = config.fit.model_copy(update={"seed": seed})
        fit_supervised(
            policy, examples, config=fit, lr=config.lr, batch=config.batch, micro_rows=config.micro_rows, meters=meters
        )
        return meters

    def _read_once(self, seed: int) -> Lists:
        """With hints; arms of one seed share them. Half of the lessons have negatives of either kind."""
        if self._lists is not None and self._lists[0] == seed:
            return self._lists[1]
        material, network = self._material, self._course.fitted(self._network, seed)
        n_shots = self._config.n_shots or len(material.validation)
        chosen = np.random.default_rng([seed, 1]).permutation(len(material.validation))[:n_shots]
        lessons = [
            options
            for kind, some in zip(KINDS, np.array_split(chosen, len(KINDS)), strict=True)
            for options in self._read(network, seed, material.validation.take(some, n_options=self._n_options), kind)
        ]
        sample = material.test.take(self.sample, n_options=self._n_options)
        self._lists = seed, {SHOTS: lessons, **{kind: self._read(network, seed, sample, kind) for kind in KINDS}}
        return self._lists[1]

    def _read(self, network: HintNetwork, seed: int, lists: OptionLists, kind: Kind) -> list[list[Asked]]:
        log, options = self._material.rows.full_log, lists.options[kind]
        n = options.shape[1]
        rows = (np.repeat(lists.users, n), options.reshape(-1), np.repeat(list_cuts(log, lists), n))
        seen = SeenRows(network, Evidence(log, self._course.attributes(self._network, seed)), *rows)
        asked = seen.asked(np.arange(options.size))
        return [asked[start : start + n] for start in range(0, len(asked), n)]

    def _writer(self, counts: TokenCounts) -> HintPrompts:
        return HintPrompts(self._material.titles, self._material.attributes, counts, self._plan.prompt)

    def _title(self, asked: Asked) -> str:
        return safe_title(self._material.titles[asked.item])


def _evenly(users: Ints, n: int) -> Ints:
    """(about n,) places, ascending: users take turns, in an order that is drawn, until there are enough."""
    order = np.random.default_rng(SAMPLE_SEED).permutation(len(users))
    order = order[np.argsort(users[order], kind="stable")]
    turn = np.arange(len(order)) - np.searchsorted(users[order], users[order])
    return np.sort(order[np.argsort(turn, kind="stable")][:n])
