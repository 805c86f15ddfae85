"""Tasks by name. A new task is one class or function that answers to `Task`, and one line in the dictionary."""

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from facetrail.models.errors import InvalidInput
from facetrail.models.language.brackets import Brackets
from facetrail.models.language.countdown import Countdown3
from facetrail.models.language.linear import Linear
from facetrail.models.language.modchain import ModChain
from facetrail.models.language.problems import gsm8k, word_problems
from facetrail.models.language.records import Task
from facetrail.models.language.vocabulary import WordTokenizer
from facetrail.models.language.word_tasks import WordTask

TASKS: dict[str, Callable[..., Task]] = {
    "modchain": ModChain,
    "countdown3": Countdown3,
    "linear": Linear,
    "brackets": Brackets,
    "word-problems": word_problems,
    "gsm8k": gsm8k,
}
"""The last two read their items below a folder: option `data`, a Path."""


def open_task(name: str, **options: Any) -> Task:
    """Raises InvalidInput for an unknown task, and for an option that it lacks or needs."""
    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, n=3) or list(TASKS)
        raise InvalidInput(f"there is no task {name!r}; did you mean {' or '.join(near)}?", pointer="/task")
    known = inspect.signature(TASKS[name]).parameters
    if unknown := sorted(set(options) - set(known)):
        has = f"its options are {', '.join(known)}" if known else "it has no options"
        raise InvalidInput(f"task {name!r} has no option {unknown[0]!r}; {has}", pointer=f"/{unknown[0]}")
    if missing := [key for key, option in known.items() if option.default is option.empty and key not in options]:
        raise InvalidInput(f"task {name!r} needs the option {missing[0]!r}", pointer=f"/{missing[0]}")
    return TASKS[name](**options)


def open_tokenizer(task: Task, *, merged_seed: int | None = None) -> WordTokenizer:
    """A tokenizer of the task's own words; with a seed the second kind, ids permuted and `r ;` one token.

    Raises InvalidInput for a task in free text, which needs the tokenizer of a pretrained model.
    """
    if not isinstance(task, WordTask):
        raise InvalidInput(f"task {task.name!r} has no vocabulary of its own; use a pretrained model", pointer="/task")
    tokenizer = WordTokenizer.of(task.vocabulary)
    return tokenizer if merged_seed is None else tokenizer.merged(task.merges, seed=merged_seed)
