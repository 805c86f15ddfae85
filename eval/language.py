"""How well a language model answers items with verifiable answers: accuracy, pass@k, lengths, paired comparisons.

Items and their random numbers are the caller's: two models asked with one `DrawKey` answer the same items with the same
draws, so their values are paired by item.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetrail.eval.significance import paired_differences
from facetrail.models.errors import InvalidInput
from facetrail.models.language.policy import LanguageModel
from facetrail.models.language.records import DrawKey, Prompt, Sampling, Task


@dataclass(frozen=True, slots=True)
class Answers:
    """Verdicts of n_samples completions of each of n_items items; all arrays (n_items, n_samples)."""

    rewards: NDArray[np.float64]
    """NaN where there is no verdict."""
    n_tokens: NDArray[np.int64]
    """Generated tokens, the end token included."""
    is_cut: NDArray[np.bool_]
    """Whether the completion hit the limit."""

    @property
    def correct(self) -> NDArray[np.bool_]:
        """A reward of 1; a missing verdict is not correct."""
        correct: NDArray[np.bool_] = self.rewards >= 1.0
        return correct

    @property
    def by_item(self) -> NDArray[np.float64]:
        """Share of correct completions of each item, for paired comparisons. (n_items,)."""
        shares: NDArray[np.float64] = self.correct.mean(axis=1)
        return shares

    @property
    def accuracy(self) -> float:
        """Mean over items."""
        return float(self.by_item.mean())

    def pass_at(self, k: int) -> float:
        """Mean over items of the unbiased chance that at least one of k completions is correct."""
        n = self.correct.shape[1]
        return float(np.mean([pass_at_k(n, int(c), k) for c in self.correct.sum(axis=1)]))


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of paired differences with its 95 % t-interval; over seeds, one value a seed."""

    mean: float
    standard_error: float
    interval: tuple[float, float]
    n: int

    @property
    def is_gain(self) -> bool:
        """Whether the interval lies above 0."""
        return self.interval[0] > 0


def answer(
    model: LanguageModel, task: Task, prompts: Sequence[Prompt], *, n: int = 1, sampling: Sampling, key: DrawKey
) -> Answers:
    """n completions of each item, verified. Raises InvalidInput for no items."""
    if not prompts:
        raise InvalidInput("there is no item to answer; ask for at least one")
    rollouts = model.generate(prompts, n, sampling=sampling, key=key)
    by_id = {prompt.prompt_id: prompt for prompt in prompts}
    verdicts = [task.verify(by_id[one.prompt_id], one.text, one.finish) for one in rollouts]
    shape = (len(prompts), n)
    rewards = [math.nan if verdict.reward is None else verdict.reward for verdict in verdicts]
    return Answers(
        rewards=np.array(rewards, dtype=np.float64).reshape(shape),
        n_tokens=np.array([len(one.completion_ids) for one in rollouts], dtype=np.int64).reshape(shape),
        is_cut=np.array([one.finish == "length" for one in rollouts], dtype=np.bool_).reshape(shape),
    )


def greedy_and_sampled(
    model: LanguageModel, task: Task, prompts: Sequence[Prompt], *, sampling: Sampling, seed: int, n: int = 1
) -> dict[str, float]:
    """The measures that a training logs: greedy and sampled accuracy, mean length, share cut.

    seed: of the evaluation's own stream, the same at every call, so that measures of one run are paired.
    """
    greedy_sampling = Sampling(temperature=0.0, max_new_tokens=sampling.max_new_tokens)
    greedy = answer(model, task, prompts, sampling=greedy_sampling, key=DrawKey(seed, "evaluation"))
    sampled = answer(model, task, prompts, n=n, sampling=sampling, key=DrawKey(seed, "evaluation"))
    return {
        "greedy": greedy.accuracy,
        "sampled": sampled.accuracy,
        "tokens": float(sampled.n_tokens.mean()),
        "cut": float(sampled.is_cut.mean()),
    }


def pass_at_k(n: int, c: int, k: int) -> float:
    """1 - C(n - c, k) / C(n, k): chance that k of n completions, c of them correct, hold a correct one.

    Unbiased (arXiv 2107.03374). Raises InvalidInput unless 1 <= k <= n and 0 <= c <= n.
    """
    if not (1 <= k <= n and 0 <= c <= n):
        raise InvalidInput(f"pass@{k} of {n} completions with {c} correct is undefined; sample at least k of them")
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def constant_accuracy(prompts: Sequence[Prompt]) -> float:
    """Accuracy of always giving the commonest answer: what any accuracy is to be read against."""
    if not prompts:
        raise InvalidInput("there is no item to answer; ask for at least one")
    return Counter(prompt.answer for prompt in prompts).most_common(1)[0][1] / len(prompts)


def first_correct_step(steps: Sequence[str], answer: str) -> float:
    """RFCS: place of the first step that holds the answer over the number of steps; 1 stops at once.

    The first of 4 steps gives 0.25. NaN where no step holds it. A step holds the answer if one of its words equals it,
    which on modchain happens by chance in about 11 % of the earlier steps.
    """
    places = [place for place, step in enumerate(steps, start=1) if answer in step.split()]
    return places[0] / len(steps) if places else math.nan


def difference_over_seeds(a: NDArray[np.float64], b: NDArray[np.float64], *, level: float = 0.95) -> Difference:
    """Mean of a - b with its t-interval. a, b: (n_seeds,), row i of both from one seed; at least two."""
    from scipy import stats  # type: ignore[import-untyped]

    differences = paired_differences(a, b)
    n = len(differences)
    if n < 2:
        raise InvalidInput("an interval needs at least two seeds; run more of them")
    mean, error = float(differences.mean()), float(differences.std(ddof=1)) / math.sqrt(n)
    reach = float(stats.t.ppf((1 + level) / 2, n - 1)) * error
    return Difference(mean, error, (mean - reach, mean + reach), n)
