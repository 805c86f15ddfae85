"""One run in several processes, as `torchrun` or `accelerate launch --multi_gpu` start them; alone in one of its own.

`accelerate launch --cpu --num_processes 2` starts one process, whatever the number, unless it is given MPI; on CPUs use
`torchrun --nproc_per_node 2 --no-python facetrail train policy ...`.

Ours throughout. Every process keeps the whole run: weights, optimiser, all rollouts of a step and every hook's state
are the same everywhere, so that no hook knows of this. What is shared out is work: the prompts of a step when they are
answered, and the rows of a minibatch when it is learnt from. Losses have the denominators of the whole optimiser step,
so gradients are summed and equal those of one process up to the order of the sum. Only the first process writes.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self, TypeVar

import torch
from torch import distributed

from facetrail.models.errors import FacetrailError

T = TypeVar("T")

LONGEST_WAIT = timedelta(days=7)
"""Of a process that waits while the first one warms up or evaluates; the launcher ends it when another dies."""


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those of the run."""

    rank: int = 0
    n: int = 1

    @classmethod
    def joined(cls) -> Self:
        """The processes that the launcher's variables name, connected; alone where there are none."""
        n = int(os.environ.get("WORLD_SIZE", "1"))
        if n == 1:
            return cls()
        backend = "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            backend = "cpu:gloo,cuda:nccl"
        distributed.init_process_group(backend, timeout=LONGEST_WAIT)
        return cls(distributed.get_rank(), n)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.n > 1:
            distributed.destroy_process_group()

    @property
    def is_first(self) -> bool:
        """Whether it writes the run folder."""
        return self.rank == 0

    def share(self, rows: Sequence[T]) -> Sequence[T]:
        """This process's part of the rows, in their order; the parts differ by one row at most."""
        cuts = [round(i * len(rows) / self.n) for i in range(self.n + 1)]
        return rows[cuts[self.rank] : cuts[self.rank + 1]]

    def gathered(self, value: T) -> list[T]:
        """The value of every process, by rank, in all of them."""
        if self.n == 1:
            return [value]
        found: list[T | None] = [None] * self.n
        distributed.all_gather_object(found, value)
        return found  # type: ignore[return-value]

    def tried(self, work: Callable[[], T]) -> list[T]:
        """What the work comes to in every process, by rank; an error in one of them is raised in all."""
        outcome: T | FacetrailError
        try:
            outcome = work()
        except FacetrailError as error:
            if self.n == 1:
                raise
            outcome = error
        outcomes = self.gathered(outcome)
        for one in outcomes:
            if isinstance(one, FacetrailError):
                raise one
        return outcomes  # type: ignore[return-value]

    def by_first(self, work: Callable[[], T]) -> T:
        """What the work comes to in the first process, which alone does it, in all of them."""
        found = self.tried(lambda: work() if self.is_first else None)[0]
        return found  # type: ignore[return-value]

    def first_before_others(self, work: Callable[[], T]) -> T:
        """All do the work, the others once the first has left its files behind."""
        kept = list[T]()
        self.tried(lambda: kept.append(work()) if self.is_first else None)
        return kept[0] if self.is_first else work()

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Every gradient becomes the sum over the processes; one that no process has stays None."""
        if self.n == 1:
            return
        held = list(parameters)
        has = [any(flags) for flags in zip(*self.gathered([p.grad is not None for p in held]), strict=True)]
        for p in (p for p, is_reached in zip(held, has, strict=True) if is_reached):
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad.contiguous()
            distributed.all_reduce(p.grad)


ALONE = Processes()
