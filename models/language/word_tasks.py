"""What tasks made by a generator share: a vocabulary, splits that cannot meet, and `thoughts </think> answer`.

Ours throughout; there is no public reference to match.
"""

from abc import ABC, abstractmethod

import numpy as np

from facetrail.models.errors import InvalidInput
from facetrail.models.language.records import DrawKey, Finish, Prompt, Verdict
from facetrail.models.language.splits import open_split, split_of

END_OF_THINKING = "</think>"
MAX_IDLE_DRAWS = 20_000
"""Draws in a row without a new item after which a split counts as exhausted."""

TRUNCATED = "truncated"
NO_END_OF_THINKING = f"no {END_OF_THINKING}"
NO_ANSWER = f"nothing after {END_OF_THINKING}"
EXTRA_TOKENS = "extra tokens after the answer"
WRONG_ANSWER = "wrong answer"


class WordTask(ABC):
    """A task in words separated by one space, whose items are drawn.

    vocabulary: every word that prompts and completions may hold · merges: pairs of words that a second tokenizer may
    hold as one token.
    """

    name: str
    vocabulary: tuple[str, ...]
    merges: tuple[str, ...] = ()

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Prompt:
        """One item of whatever split; draws may repeat. Equal texts are equal items, whatever the task's options."""

    @abstractmethod
    def judge(self, prompt: Prompt, answer: list[str]) -> str:
        """What is wrong with the words after the end of thinking, of which there is at least one; empty if nothing."""

    def prompts(self, n: int, *, seed: int, split: str = "train") -> list[Prompt]:
        """n different items; fewer of them are the beginning of more.

        Every split has a stream of its own, and of that keeps the items whose text hashes into it: 80, 10 and 10 % for
        train, dev and test. Raises InvalidInput for a split of fewer than n items.
        """
        wanted = open_split(split)
        if n < 0:
            raise InvalidInput(f"cannot draw {n} prompts; ask for 0 or more", pointer="/n")
        rng = DrawKey(seed, stream=f"items/{split}").generator(self.name, 0)
        found: dict[str, Prompt] = {}
        n_idle = 0
        while len(found) < n:
            prompt = self.draw(rng)
            if prompt.text not in found and split_of(prompt.text) == wanted:
                found[prompt.text] = prompt
                n_idle = 0
            elif (n_idle := n_idle + 1) == MAX_IDLE_DRAWS:
                raise InvalidInput(
                    f"{self.name} has no {n} different items for {split}: {len(found)} were found; ask for fewer or "
                    "make the task larger",
                    pointer="/n",
                )
        return list(found.values())

    def canonical(self, prompt: Prompt) -> str:
        """`r1 ; r2 ; ... rn ; </think> answer`."""
        thoughts = [word for step in prompt.steps for word in (step, ";")]
        return " ".join([*thoughts, END_OF_THINKING, prompt.answer])

    def verify(self, prompt: Prompt, completion: str, finish: Finish) -> Verdict:
        """1 for a right answer after the first `</think>` and nothing else there; else 0 and the reason.

        A completion that was cut has not ended, so it is wrong whatever it says. The part `process` is the share of
        the required results that stand at their canonical place; a task without such results has none.
        """
        words = completion.split()
        end = words.index(END_OF_THINKING) if END_OF_THINKING in words else len(words)
        failure = self._failure(prompt, words, end, finish)
        parts = {"process": process_share(words[:end], prompt.steps)} if prompt.steps else {}
        return Verdict(reward=0.0 if failure else 1.0, failure=failure, parts=parts)

    def _failure(self, prompt: Prompt, words: list[str], end: int, finish: Finish) -> str:
        if finish == "length":
            return TRUNCATED
        if end == len(words):
            return NO_END_OF_THINKING
        if end == len(words) - 1:
            return NO_ANSWER
        return self.judge(prompt, words[end + 1 :])


def process_share(thoughts: list[str], steps: tuple[str, ...]) -> float:
    """Share of steps that are words 0, 2, 4, ... of the thoughts, as in `r1 ; r2 ; r3 ;`."""
    return sum(thought == step for thought, step in zip(thoughts[::2], steps, strict=False)) / len(steps)
