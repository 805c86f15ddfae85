"""Completing a prefix of balanced brackets: `( ( ) ( =`. The verifier counts depth. Ours throughout."""

import numpy as np

from facetrail.models.errors import InvalidInput
from facetrail.models.language.records import Prompt
from facetrail.models.language.word_tasks import END_OF_THINKING, WordTask

OPEN, CLOSE = "(", ")"


class Brackets(WordTask):
    """Prefixes of `length` brackets that leave at least one open. Steps: the depth after each bracket.

    The canonical answer closes what is open; one that opens more and closes it all is right as well.
    """

    def __init__(self, *, length: int = 14) -> None:
        if length < 1:
            raise InvalidInput(f"a prefix of {length} brackets leaves nothing open; use at least 1", pointer="/length")
        self.length = length
        self.name = f"brackets{length}"
        depths = tuple(str(depth) for depth in range(length + 1))
        self.vocabulary = (END_OF_THINKING, "=", ";", OPEN, CLOSE, *depths)
        self.merges = tuple(f"{depth} ;" for depth in depths)

    def draw(self, rng: np.random.Generator) -> Prompt:
        """Each bracket opens or closes with equal chance where both are possible."""
        brackets: list[str] = []
        depths: list[int] = []
        for opens in (rng.random(self.length) < 0.5).tolist():
            depth = depths[-1] if depths else 0
            # The last bracket may not close everything: nothing would be left to complete.
            must_open = depth == 0 or (depth == 1 and len(depths) == self.length - 1)
            step = 1 if opens or must_open else -1
            brackets.append(OPEN if step == 1 else CLOSE)
            depths.append(depth + step)
        return Prompt(
            f"{self.name}/{''.join(brackets)}",
            " ".join([*brackets, "="]),
            answer=" ".join([CLOSE] * depths[-1]),
            steps=tuple(str(depth) for depth in depths),
        )

    def judge(self, prompt: Prompt, answer: list[str]) -> str:
        """Brackets only, never deeper than the start allows, and all closed at the end."""
        depth = prompt.text.count(OPEN) - prompt.text.count(CLOSE)
        for word in answer:
            if word not in (OPEN, CLOSE):
                return "other words among the brackets"
            depth += 1 if word == OPEN else -1
            if depth < 0:
                return "closes more than is open"
        return "brackets left open" if depth else ""
