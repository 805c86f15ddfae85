"""The curves of a run: JSON Lines for programs, events for TensorBoard, a picture and the terminal for people."""

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from facetrail.indexing.durable import write_durably
from facetrail.models.errors import Damaged

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

CURVES_FILE = "curves.jsonl"
PICTURE_FILE = "curves.png"
EVENTS_FOLDER = "tensorboard"
SECONDS_BETWEEN_LINES = 10.0
"""Of the plain output where nobody watches a terminal."""


class Tracker:
    """Writes every figure of a run into its folder; a `Recorder` of the loop.

    A row is `{"step", "seconds", <name>: <number>}` or `{"step", "seconds", "note"}`; a number that is not finite is
    null. Use it with `with`: at the end, good or bad, it draws `curves.png`.
    """

    def __init__(self, folder: Path, *, total: int, quiet: bool = False, stream: TextIO | None = None) -> None:
        """folder: the run folder. total: steps of the run, for the estimate. stream: standard error if None."""
        from tensorboardX import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / CURVES_FILE
        self._picture = folder / PICTURE_FILE
        self._events: SummaryWriter = SummaryWriter(str(folder / EVENTS_FOLDER))
        self._file = self._path.open("a", encoding="utf-8")
        self._screen = _Screen(total, quiet=quiet, stream=stream or sys.stderr)
        self._started = time.monotonic()

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        draw_curves(self._path, self._picture)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Figures of one step, such as train/loss or eval/nDCG@10."""
        self._write(step, {name: value if math.isfinite(value) else None for name, value in values.items()})
        for name, value in values.items():
            self._events.add_scalar(name, value, step)
        self._screen.show(step, values)

    def note(self, step: int, text: str) -> None:
        """Something that happened at a step."""
        self._write(step, {"note": text})
        self._events.add_text("note", text, step)
        self._screen.say(f"step {step}: {text}")

    def rewind(self, step: int) -> None:
        """Forgets the rows after a step, and tells TensorBoard to: the run goes on from there."""
        self._file.close()
        kept = [row for row in read_curves(self._path) if row["step"] <= step]
        write_durably(self._path, "".join(json.dumps(row) + "\n" for row in kept).encode())
        self._file = self._path.open("a", encoding="utf-8")
        self._events.close()
        from tensorboardX import SummaryWriter

        self._events = SummaryWriter(self._events.logdir, purge_step=step + 1)
        self._screen.start(max(step, 0))

    def close(self) -> None:
        """Flushes, and gives the terminal back."""
        self._file.close()
        self._events.close()
        self._screen.close()

    def _write(self, step: int, values: Mapping[str, Any]) -> None:
        row = {"step": step, "seconds": round(time.monotonic() - self._started, 3), **values}
        self._file.write(json.dumps(row, allow_nan=False) + "\n")
        self._file.flush()


class _Screen:
    """A bar with an estimate on a terminal, a plain line now and then elsewhere, nothing when quiet."""

    def __init__(self, total: int, *, quiet: bool, stream: TextIO) -> None:
        self._total, self._quiet, self._stream = total, quiet, stream
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._first, self._started, self._last_line = 0, time.monotonic(), 0.0

    def start(self, step: int) -> None:
        """The sitting begins at this step: the estimate counts from here."""
        self._first, self._started = step, time.monotonic()

    def show(self, step: int, values: Mapping[str, float]) -> None:
        measures = {name: value for name, value in values.items() if not name.startswith("train/")}
        loss = values.get("train/loss")
        if not self._quiet and self._stream.isatty():
            self._advance(step, loss)
        now = time.monotonic()
        measured = ", ".join(f"{name} {value:.4f}" for name, value in measures.items() if name.startswith("eval/"))
        if measured:
            self.say(f"step {step}/{self._total}: {measured}")
        elif loss is not None and not self._stream.isatty() and now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            self.say(f"step {step}/{self._total}: loss {loss:.4f}{self._remaining(step)}")

    def say(self, line: str) -> None:
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            self._stream.write(line + "\n")
            self._stream.flush()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _advance(self, step: int, loss: float | None) -> None:
        if self._bar is None:
            self._bar = _new_bar(self._stream)
            self._task = self._bar.add_task("step", total=self._total, completed=self._first, loss="")
            self._bar.start()
        assert self._task is not None
        self._bar.update(self._task, completed=step)
        if loss is not None:
            self._bar.update(self._task, loss=f"loss {loss:.4f}")

    def _remaining(self, step: int) -> str:
        done = step - self._first
        if done <= 0:
            return ""
        seconds = (time.monotonic() - self._started) / done * (self._total - step)
        return f", about {seconds / 60:.0f} min left" if seconds >= 90 else f", about {seconds:.0f} s left"


def read_curves(path: Path) -> list[dict[str, Any]]:
    """The rows of a `curves.jsonl`; a last line that a crash cut short is left out. Raises Damaged for any other."""
    if not path.is_file():
        return []
    whole, _, _cut = path.read_text(encoding="utf-8").rpartition("\n")
    rows = []
    for number, line in enumerate(whole.split("\n") if whole else [], start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise Damaged(f"{path}:{number} is not JSON ({error}); remove that line") from error
    return rows


def draw_curves(curves: Path, picture: Path) -> None:
    """One panel a figure, by step. The same figure of training and evaluation, or of several groups, shares a panel."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    series: dict[str, list[tuple[int, float]]] = {}
    for row in read_curves(curves):
        for name, value in row.items():
            if name not in ("step", "seconds", "note") and value is not None:
                series.setdefault(name, []).append((row["step"], value))
    panels: dict[str, list[str]] = {}
    for name in series:
        panels.setdefault("learning rate" if "/lr/" in name else name.partition("/")[2] or name, []).append(name)
    columns = min(3, max(1, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    figure = Figure(figsize=(4.5 * columns, 3.0 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (title, names) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(rows, columns, place)
        for name in names:
            few = len(series[name]) < 60
            axes.plot(*zip(*series[name], strict=True), label=name, marker="." if few else None, linewidth=1)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.grid(alpha=0.3)
        if len(names) > 1:
            axes.legend(fontsize=7)
    figure.savefig(picture, dpi=110)


def _new_bar(stream: TextIO) -> "Progress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
        console=Console(file=stream),
    )
