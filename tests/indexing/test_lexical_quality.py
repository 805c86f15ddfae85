"""The published figures of BM25 on SciFact and CACM, with the measures of pytrec_eval."""

import csv
from pathlib import Path

import pytest

from facetrail.indexing.corpus import read_corpus, read_queries
from facetrail.indexing.lexical import LexicalConfig, LexicalIndex

MEASURES = ("ndcg_cut_10", "map", "recall_100")


def read_judgements(path: Path) -> dict[str, dict[str, int]]:
    """A BEIR qrels file."""
    judgements: dict[str, dict[str, int]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            judgements.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    return judgements


def evaluate(folder: Path, config: LexicalConfig) -> list[float]:
    """nDCG@10, AP and R@100 over the judged test queries, depth 1,000; ties by id ascending."""
    import pytrec_eval

    documents = sorted(read_corpus(folder), key=lambda document: document.id.encode())
    judgements = read_judgements(folder / "qrels" / "test.tsv")
    index = LexicalIndex(config)
    index.add(range(len(documents)), [document.content for document in documents])
    run = {}
    for query in read_queries(folder / "queries.jsonl"):
        if query.id in judgements:
            hits = index.search(query.text, 1000)
            # trec_eval orders by score alone: strictly decreasing stand-ins keep our order
            run[query.id] = {documents[o].id: float(-rank) for rank, o in enumerate(hits.ordinals.tolist()[:1000])}
    found = pytrec_eval.RelevanceEvaluator(judgements, set(MEASURES)).evaluate(run)
    return [sum(values[measure] for values in found.values()) / len(judgements) for measure in MEASURES]


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("scifact", {}, (0.677, 0.638, 0.929)),
        ("scifact", {"k1": 1.5, "b": 0.75}, (0.687, 0.647, 0.928)),
        ("scifact", {"analyser": {"stemmer": "none"}}, (0.664, 0.626, 0.886)),
        ("cacm", {}, (0.459, 0.309, 0.635)),
    ],
)
def test_bm25_reproduces(data_folder: Path, name: str, changes: dict[str, object], expected: tuple[float, ...]) -> None:
    found = evaluate(data_folder / name, LexicalConfig.model_validate(changes))
    assert found == pytest.approx(expected, abs=0.003)
