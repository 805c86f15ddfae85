"""What a language model answers to prompts of hints, as scores: nothing is generated or parsed. Ours.

1. pair-wise: p(Yes) / (p(Yes) + p(No)) on the answer's first token;
2. list-wise: the mean log-prob of a title's tokens, averaged over shuffles of one canonical order, so the order in
   which options are given cannot matter.
"""

from collections.abc import Sequence

import numpy as np

from facetrail.models.errors import InvalidInput
from facetrail.models.language.policy import LanguageModel
from facetrail.models.recommend.hint_prompts import NO, YES, Asked, HintPrompts, Slot
from facetrail.models.recommend.time_blocks import Floats

N_SHUFFLES = 3


def prefer(model: LanguageModel, prompt: str) -> float:
    """Log-odds of Yes against No as the answer's first token; p(Yes) / (p(Yes) + p(No)) is their logistic.

    Raises InvalidInput where the model's tokenizer takes several tokens for an answer, and what `score` raises.
    """
    check_answers(model)
    yes, no = model.score(prompt, _answers(model, (YES, NO)))
    return float(yes - no)


def prefer_option(
    model: LanguageModel, prompts: HintPrompts, options: Sequence[Asked], slot: Slot, *, seed: int,
    n_shuffles: int = N_SHUFFLES,
) -> Floats:  # fmt: skip
    """(n,) mean log-prob of the tokens of each option's title, averaged over shuffles seeded by `seed`.

    Raises InvalidInput for no options, or for two of one item.
    """
    items = [option.item for option in options]
    if not items or len(set(items)) < len(items):
        raise InvalidInput("a list needs options, each of another item; leave out what occurs twice")
    canonical = sorted(options, key=lambda option: option.item)
    titles = [prompts.title(option.item) for option in canonical]
    lengths = np.array([max(1, prompts.tokens.of_text(title)) for title in titles])
    total = np.zeros(len(titles))
    for shuffle in range(n_shuffles):
        order = np.random.default_rng([seed, shuffle]).permutation(len(titles))
        prompt = prompts.options(canonical, order, slot, rng=np.random.default_rng([seed]))
        total += model.score(prompt.text, _answers(model, titles)) / lengths
    scores: Floats = total[np.searchsorted(sorted(items), items)] / n_shuffles
    return scores


def check_answers(model: LanguageModel) -> None:
    """Raises InvalidInput unless Yes and No are one token each, and different ones, where the tokenizer is known."""
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        return
    ids = [tokenizer.encode(answer) for answer in (YES, NO)]
    if any(len(one) != 1 for one in ids) or ids[0] == ids[1]:
        raise InvalidInput(f"{model.name} has not one token each for {YES} and {NO}; choose another language model")


def _answers(model: LanguageModel, texts: Sequence[str]) -> list[str]:
    """A server continues plain text, where a blank stands before the answer; a chat template ends with a new line."""
    return [f" {text}" for text in texts] if model.kind == "endpoint" else list(texts)
