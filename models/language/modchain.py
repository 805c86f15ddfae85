"""Chains of arithmetic modulo 10: a task whose every step can be checked, small enough for a model of 100 k weights.

`3 + 4 * 5 =` is read strictly from left to right: 3 + 4 = 7, 7 * 5 = 35, so the results are 7 and 5. Ours throughout.
"""

from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate

import numpy as np

from facetrail.models.errors import InvalidInput
from facetrail.models.language.records import Prompt
from facetrail.models.language.word_tasks import END_OF_THINKING, EXTRA_TOKENS, WRONG_ANSWER, WordTask

OPERATORS = ("+", "-", "*")
DIGITS = tuple("0123456789")
MAX_FILLERS = 6


def apply(operator: str, left: int, right: int) -> int:
    """The result modulo 10."""
    return (left + right if operator == "+" else left - right if operator == "-" else left * right) % 10


class ModChain(WordTask):
    """n operations on n + 1 digits: prompts of 2n + 3 tokens with the begin token, canonical completions of as many.

    n: operations, at least 1 · mix: weight of each operator, uniform where not given, 0 where left out · fillers: words
    w0, w1, ... that mean nothing, for studies of redundancy.
    """

    def __init__(self, *, n: int = 4, mix: Mapping[str, float] | None = None, fillers: int = 0) -> None:
        if n < 1:
            raise InvalidInput(f"a chain of {n} operations has no result; use at least 1", pointer="/n")
        if not 0 <= fillers <= MAX_FILLERS:
            raise InvalidInput(f"{fillers} fillers: use 0 to {MAX_FILLERS}", pointer="/fillers")
        self.n = n
        self.name = f"modchain{n}"
        self.weights = _shares(dict.fromkeys(OPERATORS, 1.0) if mix is None else mix)
        self._cumulative = list(accumulate(self.weights))[:-1]
        self.vocabulary = (END_OF_THINKING, "=", ";", *OPERATORS, *DIGITS, *(f"w{i}" for i in range(fillers)))
        self.merges = tuple(f"{digit} ;" for digit in DIGITS)

    def draw(self, rng: np.random.Generator) -> Prompt:
        """Digits uniformly, operators by the mix."""
        digits = rng.integers(10, size=self.n + 1).tolist()
        operators = [OPERATORS[bisect_right(self._cumulative, u)] for u in rng.random(self.n).tolist()]
        return chain(digits, operators)

    def judge(self, prompt: Prompt, answer: list[str]) -> str:
        """Exactly one word, the last result."""
        if len(answer) > 1:
            return EXTRA_TOKENS
        return "" if answer == [prompt.answer] else WRONG_ANSWER

    def answer_shares(self) -> tuple[float, ...]:
        """Exact share of chains whose answer is 0, 1, ... 9: what always answering that digit scores.

        Far from uniform, since a product with 0 is 0: report the first beside every accuracy.
        """
        shares = [0.1] * 10
        for _ in range(self.n):
            after = [0.0] * 10
            for result, share in enumerate(shares):
                for operator, weight in zip(OPERATORS, self.weights, strict=True):
                    for digit in range(10):
                        after[apply(operator, result, digit)] += share * weight / 10
            shares = after
        return tuple(shares)


def chain(digits: list[int], operators: list[str]) -> Prompt:
    """The item of n + 1 digits and n operators. Its id is made of its content, the same in every run."""
    words, steps, result = [str(digits[0])], [], digits[0]
    for operator, digit in zip(operators, digits[1:], strict=True):
        result = apply(operator, result, digit)
        words += [operator, str(digit)]
        steps.append(str(result))
    prompt_id = f"modchain{len(operators)}/{''.join(words)}"
    return Prompt(prompt_id, " ".join([*words, "="]), answer=steps[-1], steps=tuple(steps))


def _shares(mix: Mapping[str, float]) -> tuple[float, ...]:
    """Weights in the order of OPERATORS, summing to 1."""
    if unknown := sorted(set(mix) - set(OPERATORS)):
        raise InvalidInput(f"the mix names {unknown[0]!r}; the operators are {' '.join(OPERATORS)}", pointer="/mix")
    weights = [float(mix.get(operator, 0.0)) for operator in OPERATORS]
    if not all(0 <= weight < float("inf") for weight in weights) or sum(weights) == 0:
        raise InvalidInput("the mix needs weights of 0 or more, and at least one above 0", pointer="/mix")
    return tuple(weight / sum(weights) for weight in weights)
