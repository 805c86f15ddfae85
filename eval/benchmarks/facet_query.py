"""What facets cost: a query through UniFAR beside its base, scoring candidates again, bytes, and eight bits.

    OMP_NUM_THREADS=1 python -m facetrail.eval.benchmarks.facet_query DATA/scifact [--encoder unifar] [--quality]

Queries go through ONNX Runtime on one thread, without the cache of query vectors; the arms take turns from query to
query, so that a busy moment of the machine hits all of them, and medians are reported. `--quality` encodes the whole
corpus as well (minutes) and ranks it in mode facet with facet vectors of float32 and of eight bits.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from facetrail.eval.benchmarks.encoding import Timing, single_queries
from facetrail.eval.datasets import RetrievalDataset, load_beir
from facetrail.eval.evidence import Arm, ComparisonRow, DataSource, Meter, write_result
from facetrail.eval.metrics import evaluate_run
from facetrail.indexing.corpus import read_corpus
from facetrail.indexing.dense import DenseConfig, DenseIndex
from facetrail.indexing.facets import FacetConfig, FacetIndex
from facetrail.indexing.index import Float32Array, Float64Array, Int64Array
from facetrail.models.errors import InvalidInput
from facetrail.models.text.encoder import load_encoder
from facetrail.models.text.facets import FacetBatch, FacetEncoder, FacetQuery, quantise
from facetrail.models.text.locate import UNIFAR, locate, unifar_folder

BASE, SINGLE, FACET = "base", "unifar single", "unifar facet"
RESCORE, FLOAT32, INT8 = "rescore", "facets float32", "facets int8"
MS, BYTES, QUALITY = "ms a single query", "bytes a document", "nDCG@10"
CLAIM = "Facets cost a query little time and a document a few vectors of eight bits"
LATENCY, SPACE, LOSS = 1.15, 5.5, 0.005
"""Demands: times the base's latency, times the bytes of single vectors of eight bits, and lost nDCG."""
DEPTH = 200
"""Candidates that are scored again."""
INDEXED = 4_096
"""Documents of the measured index: the sample, repeated."""


def open_facet_encoder(name: str) -> FacetEncoder:
    """A UniFAR encoder for one query at a time. Raises InvalidInput for an encoder without facets."""
    encoder = load_encoder(name, runtime="onnx", bulk="fp32", device="cpu", query_cache=0, threads=1)
    if not isinstance(encoder, FacetEncoder):
        raise InvalidInput(f"the encoder {name!r} has no facets; give unifar or the folder of a UniFAR model")
    return encoder


def time_queries(encoder: FacetEncoder, queries: Sequence[str], rounds: int) -> dict[str, Timing]:
    """The base, UniFAR's single vector, and everything a facet search needs of a query."""
    base = load_encoder(encoder.card.base or BASE, runtime="onnx", bulk="fp32", device="cpu", query_cache=0, threads=1)
    arms: dict[str, Callable[[Sequence[str]], Float32Array]] = {
        BASE: base.encode_queries,
        SINGLE: encoder.encode_queries,
        FACET: lambda texts: encoder.encode_facet_query(texts[0]).facets,
    }
    return single_queries(arms, queries, rounds)


def build(encoder: FacetEncoder, single: Float32Array, batch: FacetBatch) -> tuple[DenseIndex, FacetIndex]:
    """Both indexes over the same documents, single vectors in eight bits."""
    dense = DenseIndex(encoder.dim, DenseConfig(kind="exact", storage="int8", device="cpu"))
    facets = FacetIndex(encoder.dim, FacetConfig(names=encoder.facets, margin=encoder.margin, mixing=encoder.mixing))
    dense.add(np.arange(len(single)), single)
    facets.add(np.arange(len(single)), batch)
    return dense, facets


def measure_index(
    encoder: FacetEncoder, documents: Sequence[str], queries: Sequence[FacetQuery], rng: np.random.Generator
) -> tuple[float, float, list[float]]:
    """Bytes of a document's single vector, of its facet data, and seconds of scoring `DEPTH` candidates again."""
    single, batch = encoder.encode_facets(documents)
    rows = np.resize(np.arange(len(documents)), max(INDEXED, len(documents)))
    dense, facets = build(encoder, single[rows], batch.take(rows))
    with tempfile.TemporaryDirectory(prefix="facetrail-") as scratch:
        folders = [Path(scratch) / name for name in ("dense", "facets")]
        for folder, save in zip(folders, (dense.save, facets.save), strict=True):
            folder.mkdir()
            save(folder)
        sizes = [sum(file.stat().st_size for file in folder.rglob("*")) / len(rows) for folder in folders]
        opened = FacetIndex.open(folders[1])
        seconds = [_rescored(opened, query, rng.choice(len(rows), DEPTH, replace=False)) for query in queries]
    return sizes[0], sizes[1], seconds[min(5, len(seconds) - 1) :]  # the first ones compile and read from disk


def _rescored(index: FacetIndex, query: FacetQuery, ordinals: Int64Array) -> float:
    s_1 = np.zeros(len(ordinals))
    start = time.perf_counter()
    index.rescore(query, query.prior.astype(np.float64), ordinals, s_1, same_only=False)
    return time.perf_counter() - start


def encode_exactly(name: str, texts: Sequence[str]) -> tuple[Float32Array, Float32Array]:
    """Documents before their facets are cut to eight bits: single (n, d), facets (n, k, d)."""
    import torch

    from facetrail.models.text.facet_bulk import UnifarNetwork
    from facetrail.models.text.facet_query import layout_tokeniser
    from facetrail.models.text.unifar_checkpoint import find_unifar

    source = find_unifar(name, unifar_folder(name) or locate(name))
    network = UnifarNetwork(source, dtype=torch.float32, device=torch.device("cpu"))
    tokens = layout_tokeniser(source, "document")
    d, k = source.config.dim, len(source.config.facets)
    single, facets = np.empty((len(texts), d), np.float32), np.empty((len(texts), k, d), np.float32)
    for rows, encoded in network.batches(texts, lambda window: [(text, False) for text in tokens(window)]):
        single[rows], facets[rows] = encoded.single, encoded.facets
    return single, facets


def facet_scores(query: FacetQuery, facets: Float32Array, margin: float) -> Float64Array:
    """s_K of documents whose facets are (n, k, d) float32, weighted by the query's prior: (n,)."""
    cosines = np.einsum("kd,njd->nkj", query.facets, facets).astype(np.float64)
    own = cosines[:, np.arange(cosines.shape[1]), np.arange(cosines.shape[1])]
    scores: Float64Array = np.maximum(own, cosines.max(axis=2) - margin) @ query.prior.astype(np.float64)
    return scores


def measure_quality(encoder: FacetEncoder, name: str, data: RetrievalDataset) -> dict[str, float]:
    """nDCG@10 in mode facet with facet vectors of float32 and of eight bits; single vectors are float32 in both."""
    documents = list(read_corpus(data.corpus))
    single, facets = encode_exactly(name, [document.content for document in documents])
    codes, scales = quantise(facets)
    forms = {FLOAT32: facets, INT8: codes * scales[..., None]}
    runs: dict[str, dict[str, dict[str, float]]] = {form: {} for form in forms}
    for query in data.queries:
        made = encoder.encode_facet_query(query.text)
        s_1 = single @ made.single
        best = np.argsort(-s_1, kind="stable")[:DEPTH]
        for form, vectors in forms.items():
            s = (1 - encoder.mixing) * s_1[best] + encoder.mixing * facet_scores(made, vectors[best], encoder.margin)
            runs[form][query.id] = {documents[row].id: float(score) for row, score in zip(best, s, strict=True)}
    return {form: evaluate_run(run, data.qrels, (QUALITY,)).mean(QUALITY) for form, run in runs.items()}


def judged(arms: dict[str, Arm]) -> list[ComparisonRow]:
    """The demands on what was measured."""

    def value(arm: str, measure: str) -> float:
        return arms[arm].measures[measure][0]

    rows = []
    for a, measure, most in ((SINGLE, MS, LATENCY), (FACET, BYTES, SPACE)):
        b = BASE if measure == MS else SINGLE
        mine, theirs = value(a, measure), value(b, measure)
        demand = f"at most {most:g} times; measured {mine / theirs:.2f}"
        met = mine <= most * theirs
        rows.append(ComparisonRow(a=a, b=b, measure=measure, difference=mine - theirs, demand=demand, met=met))
    if INT8 in arms:
        difference = value(INT8, QUALITY) - value(FLOAT32, QUALITY)
        demand = f"at most {LOSS:g} less"
        rows.append(
            ComparisonRow(
                a=INT8, b=FLOAT32, measure=QUALITY, difference=difference, demand=demand, met=difference >= -LOSS
            )
        )
    return rows


def measure(options: argparse.Namespace) -> tuple[RetrievalDataset, dict[str, Arm]]:
    """Every arm."""
    data, encoder = load_beir(options.data, split=options.split), open_facet_encoder(options.encoder)
    texts = [query.text for query in data.queries][: options.queries]
    every = [document.content for document in read_corpus(data.corpus)]
    sample = every[:: max(1, len(every) // options.documents)][: options.documents]
    timings = time_queries(encoder, texts, options.rounds)
    made = [encoder.encode_facet_query(text) for text in texts]
    of_single, of_facets, rescoring = measure_index(encoder, sample, made, np.random.default_rng(options.seed))
    measures: dict[str, dict[str, Any]] = {name: {MS: 1e3 * median(timing.wall)} for name, timing in timings.items()}
    measures[SINGLE][BYTES], measures[FACET][BYTES] = of_single, of_single + of_facets
    measures[RESCORE] = {f"ms for {DEPTH} candidates": 1e3 * median(rescoring)}
    if options.quality:
        found = measure_quality(encoder, options.encoder, data)
        measures |= {form: {QUALITY: score} for form, score in found.items()}
    arms = {
        name: Arm.model_validate({"description": DESCRIPTIONS[name], "measures": found})
        for name, found in measures.items()
    }
    return data, arms


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark and writes eval/results/facet-search.json; exit code 1 where a demand is not met."""
    parser = argparse.ArgumentParser(
        prog="python -m facetrail.eval.benchmarks.facet_query", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("data", type=Path, help="BEIR folder (SciFact)")
    parser.add_argument("--encoder", default=UNIFAR, help="unifar, or the folder of a UniFAR model")
    parser.add_argument("--split", default="test")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--documents", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quality", action="store_true", help="encode the whole corpus and compare float32 with int8")
    parser.add_argument("--seed", type=int, default=0, help="chooses the candidates that are scored again")
    parser.add_argument("--out", type=Path, default=None, help="folder of the result; default eval/results")
    options = parser.parse_args(arguments)
    data, arms = measure(options)
    rows = judged(arms)
    path = write_result(
        "facet-search",
        claim=f"{CLAIM}, and eight bits lose nothing." if options.quality else f"{CLAIM}.",
        data=[DataSource(name=f"{data.name} {part}", sha256=data.sha256[part]) for part in ("corpus", "queries")],
        arms=arms,
        comparisons=rows,
        seeds=[options.seed],
        meter=Meter(name="queries", equal_within=0.0),
        command=" ".join(["python -m facetrail.eval.benchmarks.facet_query", *(arguments or sys.argv[1:])]),
        notes=f"Medians of {options.rounds} interleaved rounds over {options.queries} queries, one thread.",
        folder=options.out,
    )
    for row in rows:
        print(f"{'met ' if row.met else 'MISS'} {row.a}: {row.measure} {row.demand} ({row.difference:+.4f})")
    print(path)
    return 0 if all(row.met for row in rows) else 1


DESCRIPTIONS = {
    BASE: "the encoder that UniFAR was trained on, ONNX Runtime",
    SINGLE: "UniFAR's single vector, ONNX Runtime; documents: their single vectors in int8",
    FACET: "UniFAR's single vector, facets and prior, ONNX Runtime; documents: single vectors and facet data in int8",
    RESCORE: "FacetIndex.rescore, memory-mapped, by the query's own prior",
    FLOAT32: "mode facet over exact dense candidates, facet vectors as they were computed",
    INT8: "the same with the facet vectors that the index stores",
}


if __name__ == "__main__":
    sys.exit(main())
