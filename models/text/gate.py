"""The equality gate: a faster way of computing vectors is used only where it ranks as fp32 on torch does.

The probes are fixed, so that a verdict can be remembered per encoder, machine and library version.
"""

import hashlib
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetrail.models.text.cache import cache_folder, read_verdict, write_verdict

PROBES = (
    "aspirin lowers the risk of a second heart attack",
    "Low-dose acetylsalicylic acid was given to 1,204 patients after a myocardial infarction; it came back less often.",
    "graph neural networks for citation recommendation",
    "We propose a message-passing model over citation links that suggests references for an unfinished manuscript.",
    "how do bees find their way home",
    "Honeybees combine a sun compass with path integration; displaced foragers search in loops around the place.",
    "cache-aware sorting on modern processors",
    "A merge sort whose runs fit the second-level cache outperforms quicksort on arrays larger than main memory pages.",
    "soil moisture and wheat yield",
    "Yields of winter wheat on 42 farms were regressed on soil water content at sowing, flowering and harvest.",
    "history of the printing press in Venice",
    "By 1500 more than two hundred printers worked in Venice, and their ledgers show how paper, type and credit moved.",
    "x-ray diffraction of perovskite thin films",
    "Peaks shift with temperature; the tetragonal phase returns on cooling, which solar cells must survive. " * 6,
    "Сон и память у подростков",
    "睡眠不足会影响青少年的记忆力和学习成绩。",
)
"""Short and long, in pairs that belong together, three scripts."""


@dataclass(frozen=True)
class Verdict:
    """What the gate saw. max_difference is over all coordinates, min_cosine over texts."""

    passed: bool
    min_cosine: float
    max_difference: float
    reason: str = ""


def judge(
    reference: NDArray[np.float32],
    candidate: NDArray[np.float32],
    *,
    min_cosine: float = -1.0,
    max_difference: float = np.inf,
    tie: float,
    whole_ranking: bool,
) -> Verdict:
    """Compares vectors of the probes, (n, dim) each.

    Each probe ranks the others, and the candidate must give the same best one, or with `whole_ranking` the same order;
    documents whose reference scores differ by at most `tie` may change places.
    """
    if reference.shape != candidate.shape or not np.isfinite(candidate).all():
        return Verdict(False, -1.0, float("inf"), "vectors of another shape or not finite")
    a, b = _unit(reference), _unit(candidate)
    cosine = float((a * b).sum(axis=1).min())
    difference = float(np.abs(reference - candidate).max())
    reason = ""
    if cosine < min_cosine:
        reason = f"cosine to fp32 is {cosine:.5f}, below {min_cosine}"
    elif difference > max_difference:
        reason = f"coordinates differ from fp32 by {difference:.2e}, more than {max_difference:.0e}"
    elif not _same_ranking(a @ a.T, b @ b.T, tie, whole=whole_ranking):
        reason = "it ranks the probes differently from fp32"
    return Verdict(not reason, cosine, difference, reason)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    unit: NDArray[np.float64] = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    return unit


def _same_ranking(reference: NDArray[np.float64], candidate: NDArray[np.float64], tie: float, *, whole: bool) -> bool:
    for i in range(len(reference)):
        others = np.delete(np.arange(len(reference)), i)
        ranked = reference[i, others][np.argsort(-candidate[i, others], kind="stable")]  # reference scores, its order
        if not whole:
            ranked = np.append(ranked[0], ranked.max())
        if (np.maximum.accumulate(ranked[::-1])[::-1] - ranked > tie).any():  # a later one stood higher
            return False
    return True


def remembered(key: Sequence[str], work_out: Callable[[], Verdict]) -> Verdict:
    """The verdict under this key, worked out once per machine."""
    digest = hashlib.sha256("\n".join([*key, machine()]).encode()).hexdigest()
    path = cache_folder("gates") / f"{digest}.json"
    known = read_verdict(path)
    if known is not None and set(known) == {"passed", "min_cosine", "max_difference", "reason"}:
        return Verdict(**known)
    verdict = work_out()
    write_verdict(path, asdict(verdict))
    return verdict


def machine() -> str:
    """What decides how this processor rounds: its model and instruction sets."""
    return f"{platform.machine()} {platform.processor()} {' '.join(sorted(cpu_flags()))}"


def cpu_flags() -> frozenset[str]:
    """Instruction sets as Linux names them; empty where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 natively."""
    return bool(cpu_flags() & {"avx512_bf16", "amx_bf16"})
