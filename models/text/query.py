"""A few texts at a time: ONNX Runtime in fp32. Once the graph is in the cache nothing here imports torch."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facetrail.models.errors import FacetrailError
from facetrail.models.text.architecture import is_bert
from facetrail.models.text.cache import cache_folder, file_sha256, locked, read_verdict, write_verdict
from facetrail.models.text.gate import PROBES, Verdict, judge
from facetrail.models.text.source import EncoderSource
from facetrail.models.text.tokenise import Tokeniser

if TYPE_CHECKING:
    from facetrail.models.text.bulk import NetworkRunner

GRAPH_VERSION = 1
"""Raised when graphs are written differently, so that those of older code are made anew."""
MAX_DIFFERENCE = 1e-5


class GraphRefused(FacetrailError):
    """No ONNX graph for this encoder: not exportable, a package is missing, or the equality gate failed."""


class OnnxRunner:
    """token ids → vectors through one session; texts of equal length share a call, so nothing is padded."""

    def __init__(self, graph: Path, *, dim: int, threads: int) -> None:
        self._session, self._dim = open_session(graph, threads), dim

    def vectors(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """(n, dim) float32 in the given order."""
        vectors = np.empty((len(ids), self._dim), np.float32)
        by_length: dict[int, list[int]] = {}
        for position, text in enumerate(ids):
            by_length.setdefault(len(text), []).append(position)
        for positions in by_length.values():
            batch = np.asarray([ids[i] for i in positions], np.int64)
            vectors[positions] = self._session.run(None, {"ids": batch})[0]
        return vectors


def open_session(graph: Path, threads: int) -> Any:
    """An ONNX Runtime session on the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Waiting threads that spin would take the cores from the search that follows.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def default_threads() -> int:
    """Threads inside one operator: OMP_NUM_THREADS, else the cores we may use, at most 4: one query is small."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(asked) if asked.isdigit() and int(asked) > 0 else min(4, cores)


def open_onnx(
    source: EncoderSource, tokens: Tokeniser, reference: Callable[[], "NetworkRunner"], *, threads: int
) -> OnnxRunner:
    """The session of a source, its graph written on first use. `reference` opens fp32 on torch for the gate.

    Raises GraphRefused with the reason, which is remembered until a library or this code changes.
    """
    if source.pooling is None:
        raise GraphRefused("the pipeline has modules of its own")
    folder = graph_folder(source.graph_key, lambda made: _write_and_judge(made, source, tokens, reference, threads))
    return OnnxRunner(folder / "model.onnx", dim=source.dim, threads=threads)


def graph_folder(graph_key: str, write_and_judge: Callable[[Path], Verdict]) -> Path:
    """The cached folder of a graph that passed the gate, made on first use.

    `write_and_judge` writes model.onnx and model.bin into the folder it gets and compares them with torch; what it
    raises other than our errors means that there is no graph. Raises GraphRefused.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise GraphRefused(f"the package {error.name} is not installed") from error
    key = f"{graph_key} {GRAPH_VERSION} {onnxruntime.__version__}"
    folder = cache_folder("graphs") / hashlib.sha256(key.encode()).hexdigest()[:32]
    if not _is_whole(folder):
        with locked(folder.with_suffix(".lock")):
            if not _is_whole(folder):
                _make(folder, write_and_judge)
    verdict = read_verdict(folder / "verdict.json") or {}
    if not verdict.get("passed"):
        raise GraphRefused(str(verdict.get("reason")))
    return folder


def _is_whole(folder: Path) -> bool:
    """Whether the folder's verdict is there and its files are what was written."""
    verdict = read_verdict(folder / "verdict.json")
    if verdict is None:
        return False
    files: dict[str, str] = verdict.get("files", {})
    return all((folder / name).is_file() and file_sha256(folder / name) == digest for name, digest in files.items())


def _make(folder: Path, write_and_judge: Callable[[Path], Verdict]) -> None:
    """Writes graph and verdict in a temporary folder, which then takes the place of `folder`."""
    for left in folder.parent.glob(f".making-{folder.name}-*"):  # by a process that was killed: we hold its lock
        shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".making-{folder.name}-"))
    try:
        verdict = _judged(made, write_and_judge)
        names = sorted(path.name for path in made.iterdir()) if verdict.passed else []
        files = {name: file_sha256(made / name) for name in names}
        write_verdict(made / "verdict.json", {**asdict(verdict), "files": files})
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _judged(made: Path, write_and_judge: Callable[[Path], Verdict]) -> Verdict:
    try:
        return write_and_judge(made)
    except FacetrailError:
        raise
    except Exception as error:  # noqa: BLE001  exporter and runtime raise whatever they like; torch serves instead
        return Verdict(False, -1.0, -1.0, f"the graph could not be made ({type(error).__name__}: {str(error)[:200]})")


def _write_and_judge(
    made: Path, source: EncoderSource, tokens: Tokeniser, reference: Callable[[], "NetworkRunner"], threads: int
) -> Verdict:
    runner = reference()
    write_graph(made, source)
    candidate = OnnxRunner(made / "model.onnx", dim=source.dim, threads=threads)
    ids = tokens(PROBES)
    expected = np.concatenate([runner.vectors([text]) for text in ids])
    return judge(
        expected, candidate.vectors(ids), max_difference=MAX_DIFFERENCE, tie=MAX_DIFFERENCE, whole_ranking=True
    )


def write_graph(folder: Path, source: EncoderSource) -> None:
    """model.onnx (and its weights) in an existing folder: ids (texts, tokens) int64 → vectors (texts, dim) float32."""
    if source.pooling is None:
        raise ValueError("a pipeline with modules of its own has no graph")
    if is_bert(source.config):
        from safetensors.numpy import load_file

        from facetrail.models.text.graph import write_bert

        tensors: dict[str, Any] = {}
        for path in source.weights:
            tensors |= load_file(path)
        write_bert(folder, tensors, source.config, source.pooling, normalise=source.normalise)
    else:
        from facetrail.models.text.export import export_automodel

        export_automodel(folder / "model.onnx", source, source.pooling)
