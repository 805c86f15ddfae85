"""Word problems from a data folder: one to three steps each (SVAMP style), and GSM8K (arXiv 2110.14168).

The answer is the number after the last `####`, as in GSM8K's release; equality is numeric. Ours: the splits (GSM8K's
`dev` is a hashed tenth of its train file, word problems are split by their text without numbers, so that no template is
in two splits), the instruction, and the solutions of word problems, which are written out from their equations.
"""

import gzip
import json
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from facetrail.models.errors import Damaged, InvalidInput, NotFound
from facetrail.models.language.answers import MARK, decimal, exact, mixed, number_after_mark, same_number
from facetrail.models.language.records import DrawKey, Finish, Prompt, Verdict
from facetrail.models.language.splits import Split, open_split, split_of
from facetrail.models.language.word_tasks import TRUNCATED, WRONG_ANSWER

INSTRUCTION = f"Solve it step by step. Then write {MARK} and the number."
NO_NUMBER = f"no number after {MARK}"

OPERATIONS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}

WORD_PROBLEMS_FILE = "word-problems/train.jsonl.gz"
GSM8K_FILES = {"train": "gsm8k/train.jsonl.gz", "test": "gsm8k/test.jsonl.gz"}


class ProblemTask:
    """Items that were read, in splits. A solution is `facts["solution"]`, with the mark and the answer at its end."""

    def __init__(self, name: str, items: dict[Split, list[Prompt]], *, n_left_out: int) -> None:
        self.name = name
        self.n_left_out = n_left_out
        """Rows that repeat another or contradict themselves."""
        self._items = items

    def count(self, split: str) -> int:
        """Items of a split."""
        return len(self._items[open_split(split)])

    def prompts(self, n: int, *, seed: int, split: str = "train") -> list[Prompt]:
        """n different items in an order of the seed. Raises InvalidInput for a split of fewer."""
        items = self._items[open_split(split)]
        if not 0 <= n <= len(items):
            raise InvalidInput(f"{split} of {self.name} holds {len(items)} items, not {n}; ask for fewer", pointer="/n")
        order = DrawKey(seed, stream=f"items/{split}").generator(self.name, 0).permutation(len(items))
        return [items[i] for i in order[:n].tolist()]

    def canonical(self, prompt: Prompt) -> str:
        """The solution of the data."""
        return str(prompt.facts["solution"])

    def verify(self, prompt: Prompt, completion: str, finish: Finish) -> Verdict:
        """1 for the right number after the last mark. A cut completion is wrong: its number may be half of one."""
        if finish == "length":
            return Verdict(0.0, TRUNCATED)
        given = number_after_mark(completion)
        if given is None:
            return Verdict(0.0, NO_NUMBER)
        return Verdict(1.0) if same_number(given, Fraction(prompt.answer)) else Verdict(0.0, WRONG_ANSWER)


def word_problems(*, data: Path | str) -> ProblemTask:
    """The project's word problems. Rows whose equation misses their answer by more than 0.01 are left out."""
    path = Path(data) / WORD_PROBLEMS_FILE
    items: dict[Split, list[Prompt]] = {"train": [], "dev": [], "test": []}
    texts: set[str] = set()
    n_rows = 0
    for n_rows, row in enumerate(_rows(path, ("Question", "Numbers", "Equation", "Answer")), 1):
        try:
            prompt = _word_problem(row, f"word-problems/{n_rows - 1}")
        except (ValueError, IndexError, ZeroDivisionError) as error:
            raise Damaged(f"row {n_rows} of {path} is no word problem ({error}); get it anew") from error
        if prompt is not None and prompt.text.lower() not in texts:
            texts.add(prompt.text.lower())
            items[split_of(row["Question"].lower())].append(prompt)
    return ProblemTask("word-problems", items, n_left_out=n_rows - len(texts))


def gsm8k(*, data: Path | str) -> ProblemTask:
    """GSM8K: its test file is `test`, a hashed tenth of its train file `dev`."""
    items: dict[Split, list[Prompt]] = {"train": [], "dev": [], "test": []}
    texts: set[str] = set()
    n_rows = 0
    for file in ("test", "train"):  # what is in both stays in test
        path = Path(data) / GSM8K_FILES[file]
        for i, row in enumerate(_rows(path, ("question", "answer"))):
            n_rows += 1
            question, solution = row["question"].strip(), re.sub(r"<<[^>]*>>", "", row["answer"])
            answer = number_after_mark(solution)
            if answer is None:
                raise Damaged(f"row {i + 1} of {path} has no number after {MARK}; get it anew")
            if question in texts:
                continue
            texts.add(question)
            steps = tuple(step.rpartition("=")[2] for step in re.findall(r"<<([^>]*)>>", row["answer"]))
            facts = {"solution": solution.strip()}
            prompt = Prompt(f"gsm8k/{file}/{i}", f"{question}\n{INSTRUCTION}", exact(answer), steps, facts)
            items["test" if file == "test" else split_of(question, test=0.0)].append(prompt)
    return ProblemTask("gsm8k", items, n_left_out=n_rows - len(texts))


def _word_problem(row: dict[str, str], prompt_id: str) -> Prompt | None:
    """Puts the numbers into the text and writes the solution out; None where equation and answer disagree."""
    numbers = [_number(word) for word in row["Numbers"].split()]
    value, lines, steps = _solve(row["Equation"].split(), numbers)
    if abs(value - Fraction(row["Answer"])) > Fraction(1, 100):
        return None
    text = re.sub(r"number([0-9]+)", lambda m: mixed(numbers[int(m[1])]), row["Question"])
    solution = "\n".join([*lines, f"{MARK} {decimal(value)}"])
    return Prompt(prompt_id, f"{_joined(text)}\n{INSTRUCTION}", exact(value), tuple(steps), {"solution": solution})


def _number(word: str) -> Fraction:
    """A long decimal was a fraction before it was written down: 0.16666666666666666 is 1/6."""
    value = Fraction(word)
    return value.limit_denominator(1000) if value.denominator > 10**6 else value


def _solve(equation: Sequence[str], numbers: Sequence[Fraction]) -> tuple[Fraction, list[str], list[str]]:
    """Value of an equation in prefix notation, its operations as lines `27 * 16 = 432`, and their results."""
    words, lines, steps = list(equation), list[str](), list[str]()

    def operand() -> tuple[Fraction, str]:
        word = words.pop(0)
        if word not in OPERATIONS:
            value = numbers[int(word.removeprefix("number"))] if word.startswith("number") else Fraction(word)
            return value, mixed(value)
        (left, left_shown), (right, right_shown) = operand(), operand()
        value = OPERATIONS[word](left, right)
        steps.append(decimal(value))
        lines.append(f"{left_shown} {word} {right_shown} = {steps[-1]}")
        return value, steps[-1]

    value, _ = operand()
    if words:
        raise ValueError(f"{' '.join(words)!r} is left over of its equation")
    return value, lines, steps


def _joined(text: str) -> str:
    """Text without the blanks that a tokenizer of words put before punctuation."""
    text = text.replace(" ’ s ", "’s ").replace("`` ", '"').replace(" ''", '"')
    text = re.sub(r"\s+([.,?!;:%)]|'s\b|'ve\b|n't\b)", r"\1", text)
    return re.sub(r"([$(])\s+", r"\1", text)


def _rows(path: Path, fields: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Objects of a compressed file of JSON lines, each with these fields as text."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for i, line in enumerate(lines, 1):
                row = json.loads(line)
                if not isinstance(row, dict) or not all(isinstance(row.get(field), str) for field in fields):
                    raise Damaged(f"row {i} of {path} lacks one of {', '.join(fields)}; get the data anew")
                yield row
    except FileNotFoundError as error:
        raise NotFound(f"there is no {path}; give the folder of the data as `data`") from error
    except (OSError, EOFError, ValueError) as error:
        raise Damaged(f"{path} cannot be read as compressed JSON lines ({error}); get the data anew") from error
