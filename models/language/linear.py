"""Linear equations modulo 11: `3 * x + 5 = 10 mod 11 ; x =`. The verifier substitutes. Ours throughout."""

import numpy as np

from facetrail.models.language.records import Prompt
from facetrail.models.language.word_tasks import END_OF_THINKING, EXTRA_TOKENS, WRONG_ANSWER, WordTask

MODULUS = 11
RESIDUES = tuple(str(i) for i in range(MODULUS))


class Linear(WordTask):
    """a x + b = c with a ≠ 0: 1,210 items, each with one solution. Steps: c - b, then x."""

    def __init__(self) -> None:
        self.name = "linear"
        self.vocabulary = (END_OF_THINKING, "=", ";", "+", "*", "x", "mod", *RESIDUES, str(MODULUS))
        self.merges = tuple(f"{residue} ;" for residue in RESIDUES)

    def draw(self, rng: np.random.Generator) -> Prompt:
        """All items alike."""
        a = int(rng.integers(1, MODULUS))
        b, c = rng.integers(MODULUS, size=2).tolist()
        rest = (c - b) % MODULUS
        x = rest * pow(a, -1, MODULUS) % MODULUS
        return Prompt(
            f"linear/{a}x+{b}={c}",
            f"{a} * x + {b} = {c} mod {MODULUS} ; x =",
            answer=str(x),
            steps=(str(rest), str(x)),
            facts={"a": a, "b": b, "c": c},
        )

    def judge(self, prompt: Prompt, answer: list[str]) -> str:
        """One residue that solves the equation."""
        if len(answer) > 1:
            return EXTRA_TOKENS
        if answer[0] not in RESIDUES:
            return WRONG_ANSWER
        a, b, c = (prompt.facts[name] for name in "abc")
        return "" if (a * int(answer[0]) + b - c) % MODULUS == 0 else WRONG_ANSWER
