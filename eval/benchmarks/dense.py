"""How fast, how exact and how large the dense index is on real vectors, one core, beside hnswlib in the same run.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m facetrail.eval.benchmarks.dense --vectors V.npy --queries Q.npy

The two files hold float32 unit rows; `--corpus` and `--questions` encode them first where they are missing (half an
hour for 100,000 abstracts). Recall is by score: a document that ties with the k-th counts. Times are medians over
single queries, which a neighbour on the machine disturbs least; queries a second are their inverse.
"""

import argparse
import hashlib
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facetrail.eval.evidence import Arm, ComparisonRow, DataSource, write_result
from facetrail.indexing.dense import DenseConfig, DenseIndex
from facetrail.indexing.index import Float32Array, Hits
from facetrail.models.errors import InvalidInput

COMMAND = "OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m facetrail.eval.benchmarks.dense"
REPEATS = 3
PEER_EFS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
OURS: dict[str, dict[str, Any]] = {
    "auto": {},
    "exact": {"kind": "exact"},
    "exact-float16": {"kind": "exact", "storage": "float16"},
    "exact-int8": {"kind": "exact", "storage": "int8"},
    "pq": {"kind": "pq"},
    "pq-int8": {"kind": "pq", "storage": "int8"},
    "pq-narrow": {"kind": "pq", "depth": 100},
    "ivf": {"kind": "ivf"},
    "ivf-narrow": {"kind": "ivf", "depth": 100, "nprobe": 16},
    "hnsw": {"kind": "hnsw"},
}


class Truth:
    """The k-th best exact score of every query, in float64."""

    def __init__(self, vectors: Float32Array, queries: Float32Array, depths: Sequence[int]) -> None:
        self.scores = np.empty((len(queries), len(vectors)), np.float32)
        self.kth = {k: np.empty(len(queries)) for k in depths}
        for i, query in enumerate(queries):
            self.scores[i] = vectors @ query
            for k in depths:
                self.kth[k][i] = np.partition(self.scores[i], -k)[-k]

    def recall(self, found: Sequence[Any], k: int) -> float:
        """Share of the k best that were reached. found: one array of ordinals a query."""
        reached = [
            np.count_nonzero(np.sort(self.scores[i][np.asarray(rows, np.int64)])[::-1][:k] >= self.kth[k][i] - 1e-6) / k
            for i, rows in enumerate(found)
        ]
        return float(np.mean(reached))


def latencies(search: Callable[[Float32Array], Any], queries: Float32Array) -> tuple[float, float]:
    """Median and 95th percentile of single queries, in seconds."""
    for query in queries[:20]:
        search(query)
    taken = []
    for _ in range(REPEATS):
        for query in queries:
            started = time.perf_counter()
            search(query)
            taken.append(time.perf_counter() - started)
    return statistics.median(taken), float(np.quantile(taken, 0.95))


def measure_ours(name: str, vectors: Float32Array, queries: Float32Array, truth: Truth) -> Arm:
    """One config of our index: build, size, recall and times at k = 10, 100 and 1,000 and through filters."""
    index = DenseIndex(vectors.shape[1], DenseConfig(**OURS[name]))
    index.add(range(len(vectors)), vectors)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        index.save(Path(folder))
        build_s = time.perf_counter() - started
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        del index
        opened = DenseIndex.open(Path(folder))
        measures: dict[str, list[float]] = {
            "build_s": [build_s],
            "bytes_per_vector": [size / len(vectors)],
            "floor_bytes_per_vector": [float(vectors.shape[1] * np.dtype(opened.config.storage).itemsize)],
        }
        for k in truth.kth:
            median, p95 = latencies(lambda q, k=k: opened.search(q, k), queries)  # type: ignore[misc]
            found = [opened.search(q, k).ordinals for q in queries]
            measures |= {
                f"recall@{k}": [truth.recall(found, k)],
                f"p50_ms@{k}": [1e3 * median],
                f"p95_ms@{k}": [1e3 * p95],
                f"queries_per_s@{k}": [1 / median],
            }
        measures |= filtered(opened, queries, truth)
        started = time.perf_counter()
        opened.search_many(queries, 10)
        measures["batch_queries_per_s@10"] = [len(queries) / (time.perf_counter() - started)]
        kind = opened.kind
    measures["peak_memory_gib"] = [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]
    return Arm(
        description=f"DenseIndex {OURS[name] or 'as configured by default'}, resolved kind {kind}", measures=measures
    )


def filtered(index: DenseIndex, queries: Float32Array, truth: Truth) -> dict[str, list[float]]:
    """Recall and median time at k = 10 with random filters."""
    rng = np.random.default_rng(0)
    measures: dict[str, list[float]] = {}
    for share in (0.01, 0.1, 0.5, 0.9):
        allowed = rng.random(len(index)) < share
        found: list[Hits] = [index.search(q, 10, allowed=allowed) for q in queries]
        kth = [np.partition(np.where(allowed, s, -2), -10)[-10] for s in truth.scores]
        reached = [np.mean(hits.scores[:10] >= edge - 1e-6) for hits, edge in zip(found, kth, strict=True)]
        median, _ = latencies(lambda q, m=allowed: index.search(q, 10, allowed=m), queries)  # type: ignore[misc]
        measures |= {
            f"filter_{share}_recall@10": [float(np.mean(reached))],
            f"filter_{share}_p50_ms@10": [1e3 * median],
        }
    return measures


def measure_hnswlib(
    ef_construction: int, vectors: Float32Array, queries: Float32Array, truth: Truth
) -> list[tuple[int, Arm]]:
    """The peer at every breadth, one arm each."""
    import hnswlib

    index = hnswlib.Index("ip", vectors.shape[1])
    index.init_index(len(vectors), M=16, ef_construction=ef_construction, random_seed=1)
    started = time.perf_counter()
    index.add_items(vectors, num_threads=1)
    build_s = time.perf_counter() - started
    arms = []
    for ef in PEER_EFS:
        index.set_ef(ef)
        median, p95 = latencies(lambda q: index.knn_query(q, 10, num_threads=1), queries)
        recall = truth.recall([index.knn_query(q, 10, num_threads=1)[0][0] for q in queries], 10)
        measures = {
            "build_s": [build_s], "recall@10": [recall], "p50_ms@10": [1e3 * median], "p95_ms@10": [1e3 * p95],
            "queries_per_s@10": [1 / median],
        }  # fmt: skip
        arms.append((ef, Arm(description=f"hnswlib M=16 efC={ef_construction} ef={ef}", measures=measures)))
    return arms


BANDS = ((0.90, 0.95), (0.95, 0.99), (0.99, 1.01))
"""Only systems whose recall lies in one band are compared in speed."""


def compare(ours: dict[str, Arm], peers: dict[str, Arm]) -> list[ComparisonRow]:
    """The demands. The peer is its fastest setting in our band of recall, and its fastest from .95 on."""
    rows = []
    auto = ours["auto"].measures
    for name, arm in ours.items():
        recall, speed = arm.measures["recall@10"][0], arm.measures["queries_per_s@10"][0]
        own = next((band for band in BANDS if band[0] <= recall < band[1]), BANDS[0])
        for low, high, words in ((*own, "in the same band of recall"), (0.95, 1.01, "from recall@10 .95 on")):
            able = {n: p.measures for n, p in peers.items() if low <= p.measures["recall@10"][0] < high}
            if not able:
                continue
            peer = max(able, key=lambda n: able[n]["queries_per_s@10"][0])
            ratio = speed / able[peer]["queries_per_s@10"][0]
            rows.append(
                ComparisonRow(
                    a=name,
                    b=peer,
                    measure="queries_per_s@10",
                    difference=ratio - 1,
                    demand=f"recall@10 ≥ .95 at ≥ .8 of the queries a second of hnswlib's fastest setting {words}",
                    met=recall >= 0.95 and ratio >= 0.8,
                )
            )
    fastest_build = min(p.measures["build_s"][0] for p in peers.values())
    met = auto["build_s"][0] < fastest_build / 5
    peer = next(n for n, p in peers.items() if p.measures["build_s"][0] == fastest_build)
    rows.append(ComparisonRow(a="auto", b=peer, measure="build_s", difference=auto["build_s"][0] - fastest_build,
                              demand="built in less than a fifth of hnswlib's time", met=met))  # fmt: skip
    for k in (10, 1_000):
        p50 = auto[f"p50_ms@{k}"][0]
        rows.append(
            ComparisonRow(a="auto", measure=f"p50_ms@{k}", difference=p50 - 10, demand="p50 ≤ 10 ms", met=p50 <= 10)
        )
    worst = min(auto[m][0] for m in auto if m.startswith("filter") and "recall" in m)
    rows.append(ComparisonRow(a="auto", measure="filter_0.5_recall@10", difference=worst - 0.95,
                              demand="recall@10 ≥ .95 through every filter", met=worst >= 0.95))  # fmt: skip
    return rows


def encoded(path: Path, source: Path | None, *, questions: bool) -> Float32Array:
    """The rows of a .npy file, made from a corpus or queries file where it is missing."""
    if not path.is_file():
        if source is None:
            raise InvalidInput(f"{path} does not exist; name what to encode with --corpus and --questions")
        from facetrail.indexing.corpus import read_corpus, read_queries
        from facetrail.models.text.encoder import load_encoder

        encoder = load_encoder("base")
        if questions:
            rows = encoder.encode_queries([query.text for query in read_queries(source)])
        else:
            documents = sorted(read_corpus(source), key=lambda document: document.id.encode())
            rows = encoder.encode_documents([document.content for document in documents])
        np.save(path, rows)
    return np.ascontiguousarray(np.load(path), np.float32)


def main() -> None:
    """Runs every arm and writes the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--queries", type=Path, required=True)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--questions", type=Path)
    parser.add_argument("--data-name", default="acm_cr")
    parser.add_argument("--name", default="dense")
    parser.add_argument("--folder", type=Path, help="where the result goes; default: eval/results")
    parser.add_argument("--arms", nargs="*", default=list(OURS), choices=list(OURS))
    options = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1" or os.environ.get("OPENBLAS_NUM_THREADS") != "1":
        raise SystemExit(f"times are for one core; run it as: {COMMAND} …")
    vectors = encoded(options.vectors, options.corpus, questions=False)
    queries = encoded(options.queries, options.questions, questions=True)
    truth = Truth(vectors, queries, (10, 100, 1_000))
    ours = {}
    for name in options.arms:
        ours[name] = measure_ours(name, vectors, queries, truth)
        print(name, {m: round(v[0], 4) for m, v in ours[name].measures.items()}, flush=True)
    peers = {}
    for ef_construction in (100, 200):
        for ef, arm in measure_hnswlib(ef_construction, vectors, queries, truth):
            peers[f"hnswlib-{ef_construction}-ef{ef}"] = arm
            print(arm.description, {m: round(v[0], 4) for m, v in arm.measures.items()}, flush=True)
    data = [
        DataSource(name=f"{options.data_name} {kind}", sha256=hashlib.sha256(path.read_bytes()).hexdigest())
        for kind, path in (("document vectors", options.vectors), ("query vectors", options.queries))
    ]
    path = write_result(
        options.name,
        claim="The dense index answers at the speed and recall of hnswlib after a fraction of its build time.",
        data=data,
        arms=ours | peers,
        comparisons=compare(ours, peers),
        seeds=[0],
        meter={"name": "documents", "equal_within": 0},
        command=f"{COMMAND} --vectors {options.vectors.name} --queries {options.queries.name} "
        f"--arms {' '.join(options.arms)}",
        notes=f"{len(vectors)} vectors of {vectors.shape[1]} dimensions, {len(queries)} queries, {REPEATS} rounds "
        "of single queries on one core. A comparison of queries a second gives the ratio minus 1 as its difference.",
        folder=options.folder,
    )
    print(path)


if __name__ == "__main__":
    main()
