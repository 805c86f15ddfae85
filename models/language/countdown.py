"""Reaching a target from three numbers: `2 5 9 ; 43 =` asks for an expression such as `5 * 9 - 2`. Ours throughout.

Every number is used once; + - * and brackets bind as usual. Completions are judged by a parser of our own: no text of
a model is ever executed.
"""

import re
from functools import lru_cache
from itertools import permutations, product

import numpy as np

from facetrail.models.errors import InvalidInput
from facetrail.models.language.records import Prompt
from facetrail.models.language.word_tasks import END_OF_THINKING, WRONG_ANSWER, WordTask

MAX_TARGET = 99
PRECEDENCE = {"+": 1, "-": 1, "*": 2}
NUMBER = re.compile(r"[0-9]+")
WORD = re.compile(r"[0-9]+|\S")


class Countdown3(WordTask):
    """Three numbers from 1 to `largest`, in ascending order, and a target from 0 to 99 that they reach.

    Several derivations may be right, so no step is required and there is no part `process`.
    """

    def __init__(self, *, largest: int = 20) -> None:
        if not 2 <= largest <= MAX_TARGET:
            raise InvalidInput(f"numbers up to {largest}: use 2 to {MAX_TARGET}", pointer="/largest")
        self.largest = largest
        self.name = "countdown3"
        numbers = tuple(str(i) for i in range(MAX_TARGET + 1))
        self.vocabulary = (END_OF_THINKING, "=", ";", *PRECEDENCE, "(", ")", *numbers)
        self.merges = tuple(f"{number} ;" for number in numbers)

    def draw(self, rng: np.random.Generator) -> Prompt:
        """Numbers uniformly, then one of the targets they reach."""
        a, b, c = sorted(rng.integers(1, self.largest + 1, size=3).tolist())
        targets = sorted(reachable(a, b, c))
        target = targets[int(rng.integers(len(targets)))]
        prompt_id = f"countdown3/{a},{b},{c}={target}"
        return Prompt(prompt_id, f"{a} {b} {c} ; {target} =", answer=str(target), facts={"numbers": [a, b, c]})

    def canonical(self, prompt: Prompt) -> str:
        """The first operation and its result, then the whole expression."""
        a, b, c = prompt.facts["numbers"]
        first, result, expression = reachable(a, b, c)[int(prompt.answer)]
        return f"{first} = {result} ; {END_OF_THINKING} {expression}"

    def judge(self, prompt: Prompt, answer: list[str]) -> str:
        """The numbers first: an expression of others is not even evaluated."""
        words = WORD.findall(" ".join(answer))
        numbers = sorted(word for word in words if NUMBER.fullmatch(word))
        if numbers != sorted(str(number) for number in prompt.facts["numbers"]):
            return "does not use each number once"
        value = evaluate(words)
        if value is None:
            return "not an expression"
        return "" if value == int(prompt.answer) else WRONG_ANSWER


@lru_cache(maxsize=4096)
def reachable(a: int, b: int, c: int) -> dict[int, tuple[str, int, str]]:
    """Targets that three numbers reach → the first operation, its result, and the expression, the same on every call.

    Only results from 0 to MAX_TARGET on the way, since a vocabulary of words knows no others.
    """
    found: dict[int, tuple[str, int, str]] = {}
    for (x, y, z), inner, outer, is_left in product(permutations((a, b, c)), PRECEDENCE, PRECEDENCE, (True, False)):
        first = f"{x} {inner} {y}"
        result = _apply(inner, x, y)
        target = _apply(outer, result, z) if is_left else _apply(outer, z, result)
        if not (0 <= result <= MAX_TARGET and 0 <= target <= MAX_TARGET):
            continue
        # Brackets where the first operation would otherwise not come first.
        needs = PRECEDENCE[inner] < PRECEDENCE[outer] or (not is_left and PRECEDENCE[inner] == PRECEDENCE[outer])
        shown = f"( {first} )" if needs else first
        found.setdefault(target, (first, result, f"{shown} {outer} {z}" if is_left else f"{z} {outer} {shown}"))
    return found


def evaluate(words: list[str]) -> int | None:
    """Value of an expression of whole numbers, + - * and brackets; None where it is not well formed.

    Two stacks instead of recursion, so that no depth of brackets can exhaust anything. A sign without a number before
    it is not well formed.
    """
    values: list[int] = []
    waiting: list[str] = []
    expects_value = True
    for word in words:
        if NUMBER.fullmatch(word) and expects_value:
            values.append(int(word))
            expects_value = False
        elif word == "(" and expects_value:
            waiting.append(word)
        elif word == ")" and not expects_value:
            _reduce(values, waiting, above=0)
            if not waiting:
                return None
            waiting.pop()
        elif word in PRECEDENCE and not expects_value:
            _reduce(values, waiting, above=PRECEDENCE[word])
            waiting.append(word)
            expects_value = True
        else:
            return None
    if expects_value:
        return None
    _reduce(values, waiting, above=0)
    return None if waiting else values[0]


def _reduce(values: list[int], waiting: list[str], *, above: int) -> None:
    """Carries out the operators on top that bind at least as tightly as `above`, down to an open bracket."""
    while waiting and waiting[-1] in PRECEDENCE and PRECEDENCE[waiting[-1]] >= above:
        right = values.pop()
        values.append(_apply(waiting.pop(), values.pop(), right))


def _apply(operator: str, left: int, right: int) -> int:
    return left + right if operator == "+" else left - right if operator == "-" else left * right
