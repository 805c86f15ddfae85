"""Evidence: one JSON file per experiment or benchmark, in one shape, written by the run and never by hand.

The README's tables are made from these files; a test holds every file in `eval/results` to `Evidence`.
"""

import json
import math
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from facetrail.models.errors import Damaged, InvalidInput, NotFound

_MACHINE_PATH = re.compile(
    r"(?<![\w.~:/-])(?:/(?:home|root|tmp|work|mnt|opt|usr|var|srv|data|Users)|~)(?:/[\w.+@%-]+)+/?"
)
_VERSIONED = ("torch", "numpy", "facetrail")


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("a measured value must be a finite number")
    return value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, int | float) else value


def _no_machine_path(text: str) -> str:
    if found := _MACHINE_PATH.search(text):
        raise ValueError(f"{found.group()!r} is a path of one machine; name the data set or an option instead")
    return text


Number = Annotated[float, AfterValidator(_finite)]
PlainText = Annotated[str, AfterValidator(_no_machine_path)]


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSource(_Closed):
    """What was measured on. `sha256` is empty only for data that the command itself generates from its seeds."""

    name: str = Field(min_length=1)
    sha256: str = Field(pattern=r"^([0-9a-f]{64})?$")


class Machine(_Closed):
    """The class of machine, without anything that names this one."""

    cpu: str
    cores: int = Field(ge=1)
    memory_gib: int = Field(ge=0)
    """Rounded to whole GiB; 0 where the operating system does not say."""
    accelerator: str = ""
    python: str
    versions: dict[str, str] = Field(default_factory=dict)


class Meter(_Closed):
    """The quantity that arms are held equal in (queries, documents, tokens, seconds), and how nearly."""

    name: str
    equal_within: float = Field(ge=0)
    """Largest relative difference between arms; 0 is exactly equal."""


class Arm(_Closed):
    """One system under one setting."""

    description: PlainText = ""
    measures: dict[str, Annotated[list[Number], BeforeValidator(_as_list)]] = Field(min_length=1)
    """Measure → one value per seed; one value where the arm does not depend on the seed."""
    meters: dict[str, Number] = Field(default_factory=dict)


class ComparisonRow(_Closed):
    """Arm `a` against arm `b` (None: against the figure in `demand`). `difference` is a - b in the measure's unit."""

    a: str
    b: str | None = None
    measure: str
    difference: Number | None = None
    interval: tuple[Number, Number] | None = None
    p: float | None = Field(default=None, ge=0, le=1)
    p_holm: float | None = Field(default=None, ge=0, le=1)
    demand: str = ""
    met: bool | None = None

    @model_validator(mode="after")
    def _demand_is_judged(self) -> "ComparisonRow":
        if bool(self.demand) != (self.met is not None):
            raise ValueError(f"a demand and its verdict come together: demand={self.demand!r}, met={self.met!r}")
        return self


class Evidence(_Closed):
    """One experiment: what was claimed, what was run and what came out, the losing rows too."""

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    claim: str = Field(min_length=1)
    data: list[DataSource]
    command: PlainText = Field(min_length=1)
    commit: str
    machine: Machine
    seeds: list[int]
    meter: Meter
    arms: dict[str, Arm] = Field(min_length=1)
    comparisons: list[ComparisonRow]
    notes: PlainText = ""
    shown: list[str] = Field(default_factory=list)
    """Measures that the README shows arm by arm; none: comparisons only."""

    @model_validator(mode="after")
    def _parts_agree(self) -> "Evidence":
        allowed = {1, max(1, len(self.seeds))}
        for name, arm in self.arms.items():
            for measure, values in arm.measures.items():
                if len(values) not in allowed:
                    raise ValueError(f"arm {name!r}: {measure} has {len(values)} values for {len(self.seeds)} seeds")
        for row in self.comparisons:
            for arm_name in (row.a, row.b):
                if arm_name is not None and arm_name not in self.arms:
                    raise ValueError(f"a comparison names arm {arm_name!r}, which is not among the arms")
        return self


def results_folder() -> Path:
    """`eval/results` of the checkout. Raises NotFound where facetrail is installed without one."""
    here = Path(__file__).resolve().parent
    if not (here.parent / "pyproject.toml").is_file():
        raise NotFound("facetrail runs without its checkout here; say where the result belongs with folder=")
    return here / "results"


def describe_machine(accelerator: str = "") -> Machine:
    """CPU model, cores, memory and versions of this machine; reads no host name and imports no heavy module."""
    versions = {}
    for package in _VERSIONED:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return Machine(
        cpu=_cpu_model(),
        cores=os.cpu_count() or 1,
        memory_gib=_memory_gib(),
        accelerator=accelerator,
        python=platform.python_version(),
        versions=versions,
    )


def describe_commit(folder: Path | None = None) -> str:
    """The checkout's commit, `+dirty` when files other than results differ from it; `unknown` without git."""
    root = folder or Path(__file__).resolve().parents[1]
    try:
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        # Results are written by the run itself: they do not make the code that produced them dirty.
        changed = _git(root, "status", "--porcelain", "--", ".", ":(exclude)eval/results")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{head}+dirty" if changed else head


def write_result(
    name: str,
    *,
    claim: str,
    data: Sequence[DataSource | Mapping[str, Any]],
    arms: Mapping[str, Arm | Mapping[str, Any]],
    comparisons: Sequence[ComparisonRow | Mapping[str, Any]],
    seeds: Sequence[int],
    meter: Meter | Mapping[str, Any],
    command: str,
    notes: str = "",
    accelerator: str = "",
    shown: Sequence[str] = (),
    folder: Path | None = None,
) -> Path:
    """Writes `<folder>/<name>.json` (default: the checkout's `eval/results`) and returns its path.

    The parts may be given as the models above or as mappings of the same shape; a bare number as a measure means one
    value. Absolute paths in `command` and `notes` are cut to their last part. A part that does not fit raises
    InvalidInput and writes nothing.
    """
    try:
        evidence = Evidence.model_validate(
            {
                "name": name,
                "claim": claim,
                "data": [_plain(entry) for entry in data],
                "command": _without_machine_paths(command),
                "commit": describe_commit(),
                "machine": describe_machine(accelerator),
                "seeds": list(seeds),
                "meter": _plain(meter),
                "arms": {arm: _plain(value) for arm, value in arms.items()},
                "comparisons": [_plain(row) for row in comparisons],
                "notes": _without_machine_paths(notes),
                "shown": list(shown),
            }
        )
    except ValidationError as error:
        raise InvalidInput(f"evidence {name!r} has not the shape of evidence: {_first_problem(error)}") from error
    target = (folder or results_folder()) / f"{evidence.name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(evidence.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
    draft = target.with_suffix(".json.tmp")
    draft.write_text(text + "\n", encoding="utf-8")
    draft.replace(target)
    return target


def read_result(path: Path) -> Evidence:
    """Reads one file of `eval/results`; raises NotFound or Damaged with the file's name."""
    if not path.is_file():
        raise NotFound(f"{path} does not exist; run the experiment that writes it")
    try:
        return Evidence.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise Damaged(
            f"{path} has not the shape of evidence ({_first_problem(error)}); run its command again"
        ) from error


def _plain(value: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    return value.model_dump() if isinstance(value, BaseModel) else dict(value)


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = "/".join(str(part) for part in problem["loc"])
    return f"{place}: {problem['msg']}" if place else str(problem["msg"])


def _without_machine_paths(text: str) -> str:
    return _MACHINE_PATH.sub(lambda match: match.group().rstrip("/").rsplit("/", 1)[-1], text)


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=20
    ).stdout.strip()


def _cpu_model() -> str:
    table = Path("/proc/cpuinfo")
    if table.is_file():
        for line in table.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown"


def _memory_gib() -> int:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (ValueError, OSError, AttributeError):
        return 0
