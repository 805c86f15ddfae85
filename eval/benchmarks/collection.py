"""A large collection as a whole: build time, memory, bytes against their floor, latency, and the price of a write.

    python -m facetrail.eval.benchmarks.collection --corpus BEIR_DIR --collection DIR [--work DIR]

DIR is a collection built from the corpus with both indexes; it is copied, never changed. Every part runs in a process
of its own, pinned to one core, so that memory and time are that part's alone. Latencies leave encoding out and state it
apart.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from facetrail.eval.evidence import write_result

N_QUERIES, N_WRITES = 200, 200
FLOOR_FACTOR = 1.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--collection", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=None, help="scratch space of three times the collection")
    parser.add_argument("--part", choices=sorted(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps(PARTS[arguments.part](arguments.corpus, arguments.folder)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.work) as scratch:
        measured = _measure(arguments.corpus, arguments.collection, Path(scratch))
    _write(arguments.corpus, measured)


def _measure(corpus: Path, collection: Path, scratch: Path) -> dict[str, Any]:
    from facetrail.indexing.collection import Collection

    with Collection.open(collection) as opened:
        opened.backup(scratch / "copy")
    measured = {}
    for part, folder in (
        ("disk", scratch / "copy"),
        ("lexical_build", scratch / "lexical"),
        ("search", scratch / "copy"),
        ("serving", scratch / "copy"),
        ("writes", scratch / "copy"),
        ("index_build", scratch / "copy"),
    ):
        measured[part] = _in_a_process(part, corpus, folder)
        print(part, measured[part], file=sys.stderr)
    return measured


def _in_a_process(part: str, corpus: Path, folder: Path) -> dict[str, float]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    command = [sys.executable, "-m", "facetrail.eval.benchmarks.collection", "--corpus", str(corpus)]
    done = subprocess.run(
        [*command, "--collection", str(folder), "--part", part, "--folder", str(folder)],
        env={**os.environ, **threads, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, {max(os.sched_getaffinity(0))}),
    )
    if done.returncode:
        sys.exit(f"part {part} failed:\n{done.stderr}")
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def _timed(run: Callable[[], object], times: list[float]) -> None:
    started = time.perf_counter()
    run()
    times.append((time.perf_counter() - started) * 1e3)


def _quantiles(name: str, times: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times, n=20)
    return {f"{name} p50 ms": statistics.median(times), f"{name} p95 ms": cuts[18]}


def _lexical_build(corpus: Path, folder: Path) -> dict[str, float]:
    from facetrail.indexing.build import BuildConfig, build_collection

    started = time.perf_counter()
    report = build_collection(corpus, folder, config=BuildConfig(modes=("lexical",)))
    return {"seconds": time.perf_counter() - started, "peak MB": _peak_mb(), "documents": report.n_documents}


def _index_build(corpus: Path, folder: Path) -> dict[str, float]:
    from facetrail.indexing.build import build_collection
    from facetrail.models.text.encoder import load_encoder

    encoder = load_encoder("base")
    encoder.encode_documents(["a text, so that the weights are loaded"] * 64)
    started = time.perf_counter()
    build_collection(None, folder, encoder=encoder)
    return {"seconds": time.perf_counter() - started, "peak MB": _peak_mb()}


def _queries(corpus: Path) -> list[str]:
    from facetrail.indexing.corpus import read_queries

    return [query.text.strip() for query in read_queries(corpus / "queries.jsonl")][:N_QUERIES]


def _search(corpus: Path, folder: Path) -> dict[str, float]:
    from facetrail.indexing.request import SearchRequest
    from facetrail.indexing.searcher import Searcher

    times: dict[str, list[float]] = {"lexical": [], "dense": [], "hybrid": [], "encode": [], "filtered hybrid": []}
    with Searcher.open(folder, verify=False) as searcher:
        for round_ in range(2):  # the first fills page cache and compiled kernels
            for name in times.keys() - {"encode"}:
                times[name].clear()
            for text in _queries(corpus):
                for mode in ("lexical", "dense", "hybrid"):
                    request = SearchRequest.model_validate({"query": text, "mode": mode})
                    started = time.perf_counter()
                    result = searcher.search(request)
                    spent = (time.perf_counter() - started) * 1e3
                    encoding = result.timings_ms.get("encode", 0.0)
                    times[mode].append(spent - encoding)
                    if mode == "dense" and round_ == 0:  # later the query is in the cache
                        times["encode"].append(encoding)
                filtered = SearchRequest.model_validate({"query": text, "filter": {"year": {"gte": 2015}}})
                started = time.perf_counter()
                result = searcher.search(filtered)
                times["filtered hybrid"].append(
                    (time.perf_counter() - started) * 1e3 - result.timings_ms.get("encode", 0.0)
                )
    return {key: value for name, values in times.items() for key, value in _quantiles(name, values).items()}


def _serving(corpus: Path, folder: Path) -> dict[str, float]:
    """Resident memory of a process that has opened the collection, loaded its encoder and answered every query."""
    from facetrail.indexing.request import SearchRequest
    from facetrail.indexing.searcher import Searcher

    with Searcher.open(folder, writable=True) as searcher:
        for text in _queries(corpus):
            searcher.search(SearchRequest(query=text))
        return {"resident MB": _resident_mb(), "peak MB": _peak_mb()}


def _writes(corpus: Path, folder: Path) -> dict[str, float]:
    from facetrail.indexing.searcher import Searcher
    from facetrail.models.records import Document

    adding: list[float] = []
    deleting: list[float] = []
    with Searcher.open(folder, writable=True, verify=False) as searcher:
        texts = _queries(corpus)
        vectors = searcher.encoder.encode_documents(texts)
        known = dict(zip(texts, vectors, strict=True))
        # Encoding is measured apart; here the price of the write itself counts.
        searcher.encoder.encode_documents = lambda wanted, **_: _stack([known[t] for t in wanted])  # type: ignore[method-assign]
        for i, text in enumerate(texts[:N_WRITES]):
            _timed(lambda i=i, text=text: searcher.put([Document(id=f"new-{i}", text=text)]), adding)  # type: ignore[misc]
        for i in range(len(adding)):
            _timed(lambda i=i: searcher.delete([f"new-{i}"]), deleting)  # type: ignore[misc]
    return {**_quantiles("add", adding), **_quantiles("delete", deleting)}


def _stack(rows: list[Any]) -> Any:
    import numpy as np

    return np.stack(rows)


def _disk(corpus: Path, folder: Path) -> dict[str, float]:
    import orjson

    from facetrail.indexing.analysis import Analyser
    from facetrail.indexing.lexical import LexicalConfig
    from facetrail.indexing.searcher import Searcher

    with Searcher.open(folder, verify=False) as searcher:
        info = searcher.info()
        analyser = Analyser(LexicalConfig.model_validate(searcher.collection.settings.lexical).analyser)
        text = postings = 0
        for batch in searcher.collection.documents(batch=8_192):
            for document in batch:
                text += len(document.content.encode()) + len(orjson.dumps(dict(document.metadata))) + len(document.id)
                postings += len(set(analyser.terms(document.content)))
    vectors = info.n_documents * (info.dim or 0) * 4
    # The truth holds text and vectors, the index vectors and postings (4 bytes document, 2 bytes tf) and, for exact
    # deletes, the same postings by document (4 bytes term, 2 bytes tf).
    floor = text + 2 * vectors + 2 * 6 * postings
    return {
        "text MB": text / 1e6,
        "vectors MB": vectors / 1e6,
        "postings MB": 6 * postings / 1e6,
        "floor MB": floor / 1e6,
        "disk MB": info.bytes_on_disk / 1e6,
        "disk / floor": info.bytes_on_disk / floor,
    }


PARTS: dict[str, Callable[[Path, Path], dict[str, float]]] = {
    "lexical_build": _lexical_build,
    "index_build": _index_build,
    "search": _search,
    "serving": _serving,
    "writes": _writes,
    "disk": _disk,
}


def _write(corpus: Path, measured: dict[str, dict[str, float]]) -> None:
    from facetrail.eval.datasets import sha256_of

    demands = [
        ("lexical build", "seconds", 60.0),
        ("search", "lexical p50 ms", 5.0),
        ("search", "dense p50 ms", 10.0),
        ("search", "hybrid p50 ms", 20.0),
        ("writes", "add p50 ms", 5.0),
        ("writes", "delete p50 ms", 1.0),
        ("serving", "resident MB", 1_536.0),
        ("index build", "peak MB", 3_072.0),
        ("disk", "disk / floor", FLOOR_FACTOR),
    ]
    arms = {part.replace("_", " "): {"measures": values} for part, values in measured.items()}
    source = next(f for f in (corpus / "corpus.jsonl.gz", corpus / "corpus.jsonl") if f.is_file())
    n = int(measured["lexical_build"]["documents"])
    path = write_result(
        "collection",
        claim=f"A collection of {n:,} abstracts on one core: build, search, write, memory, bytes",
        data=[{"name": f"{corpus.name}/{source.name}", "sha256": sha256_of(source)}],
        command=f"python -m facetrail.eval.benchmarks.collection --corpus {corpus.name} --collection DIR",
        arms=arms,
        comparisons=[
            {
                "a": arm,
                "measure": measure,
                "difference": arms[arm]["measures"][measure] - limit,
                "demand": f"≤ {limit:g}",
                "met": arms[arm]["measures"][measure] <= limit,
            }
            for arm, measure, limit in demands
        ],
        seeds=[],
        meter={"name": "documents", "equal_within": 0},
        notes=(
            "Latencies leave encoding out and fetch ten documents with text; queries are the corpus's own. The floor "
            "is text + vectors in the truth and vectors + postings in both directions in the index; a build "
            "keeps the generation before it, which is not counted, until the next."
        ),
    )
    print(path, file=sys.stderr)


if __name__ == "__main__":
    main()
