"""A data folder in miniature: every file that training reads, with made-up prose that no two documents share."""

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROLES = ("background", "objective", "method", "result")
N_CACM, N_ACM, N_ACL, N_SCITLDR, N_CLAIMS = 80, 50, 30, 230, 20


class Prose:
    """Sentences of words that are drawn from one list, so that BM25 always finds something."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
        self._words = ["".join(self._rng.choice(letters, 6)) for _ in range(400)]

    def words(self, n: int) -> list[str]:
        return [str(word) for word in self._rng.choice(self._words, n)]

    def title(self) -> str:
        return " ".join(self.words(7)).capitalize()

    def sentences(self, n: int = 5) -> list[str]:
        return [" ".join(self.words(12)).capitalize() + "." for _ in range(n)]

    def text(self) -> str:
        return " ".join(self.sentences())


def write_tiny_data(folder: Path, seed: int = 0) -> Path:
    """Writes the folder and returns it."""
    prose, rng = Prose(seed), np.random.default_rng(seed)
    acm = [
        _document(
            f"10.1/{i}", prose, venue=f"chi-{2010 + i % 5}", keywords=f"rare {i // 4}, {', '.join(prose.words(2))}"
        )
        for i in range(N_ACM)
    ]
    _rows(folder / "cacm/corpus.jsonl.gz", (_document(str(i), prose) for i in range(1, N_CACM + 1)))
    _rows(folder / "acm_cr/corpus.jsonl.gz", acm)
    tested = [prose.sentences() for _ in range(3)]
    acl = [_document(f"P{i}", prose) for i in range(N_ACL)]
    for i in range(9):  # every third of what may train stands in a test too: by its title, or by its abstract
        acl[i] |= {"title": acm[i % 3]["title"].upper()} if i < 5 else {"text": " ".join(tested[i % 3])}
    _rows(folder / "acl_anthology_2019/corpus.jsonl.gz", acl)
    _rows(folder / "scifact/corpus.jsonl.gz", (_document(str(i), prose) for i in range(N_CLAIMS)))
    _rows(folder / "pubmedqa/corpus.jsonl.gz", (_sectioned(str(i), prose) for i in range(40)))
    edges = {tuple(sorted(rng.choice(np.arange(1, N_CACM + 1), 2, replace=False).tolist())) for _ in range(300)}
    kinds = rng.choice(["citation", "cocitation", "coupling"], len(edges))
    links = [f"{a}\t{kind}\t{b}" for (a, b), kind in zip(sorted(edges), kinds, strict=True)]
    mirrored = [f"{b}\t{kind}\t{a}" for a, kind, b in (link.split("\t") for link in links)]
    _lines(folder / "cacm/links.tsv", ["from\tkind\tto", *links, *mirrored])
    _rows(folder / "cacm/queries.jsonl", [{"_id": "1", "text": prose.text()}])
    asking = {"citing_title": prose.title()}
    _rows(folder / "acm_cr/queries.jsonl", [{"_id": "q", "text": prose.text(), "metadata": asking}])
    _rows(folder / "acm_cr/queries_papers.jsonl", [{"_id": "10.1/0", "text": acm[0]["text"]}])
    _qrels(folder / "acm_cr/qrels/test.tsv", {"q": "10.1/1"})
    _qrels(folder / "acm_cr/qrels/test_papers.tsv", {"10.1/0": "10.1/2"})
    _rows(folder / "pubmedqa/queries.jsonl", ({"_id": f"q{i}", "text": prose.title() + "?"} for i in range(20)))
    _qrels(folder / "pubmedqa/qrels/train.tsv", {f"q{i}": str(i) for i in range(20)})
    _rows(folder / "scifact/queries.jsonl", ({"_id": f"c{i}", "text": prose.title()} for i in range(N_CLAIMS)))
    _qrels(folder / "scifact/qrels/train.tsv", {f"c{i}": str(i) for i in range(10)})
    _qrels(folder / "scifact/qrels/test.tsv", {f"c{i}": str(i) for i in range(10, N_CLAIMS)})
    for split, n in (("train", N_SCITLDR), ("dev", 5)):
        rows = [
            {"_id": f"{split}{i}", "title": prose.title(), "sentences": prose.sentences(), "tldr": prose.sentences(1)}
            for i in range(n)
        ]
        _rows(folder / f"scitldr/{split}.jsonl.gz", rows)
    for split, n in (("train", 40), ("dev", 3), ("test", 3)):
        confs = [0.9, 0.9, 0.7, 0.7, 0.7]
        whole = tested if split == "test" else [prose.sentences() for _ in range(n)]
        # Test abstracts have two sentences of a role, so that one can ask for the other.
        pairs = [[role for role in chosen for _ in range(2)] for chosen in (ROLES[::2], ROLES[1::2])]
        abstracts = [
            {"abstract_id": 0, "sentences": parts, "labels": [*roles, "other"], "confs": confs}
            for parts, roles in zip(whole, (pairs if split == "test" else [ROLES]) * len(whole), strict=False)
        ]
        _rows(folder / f"csabstruct/{split}.jsonl.gz", abstracts)
    return folder


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small data folder for all tests that only read it."""
    return write_tiny_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder for this test alone."""
    monkeypatch.setenv("FACETRAIL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _document(name: str, prose: Prose, **metadata: str) -> dict[str, Any]:
    return {"_id": name, "title": prose.title(), "text": prose.text(), "metadata": metadata}


def _sectioned(name: str, prose: Prose) -> dict[str, Any]:
    sections = {heading: " ".join(prose.sentences(2)) for heading in ("OBJECTIVE", "METHODS", "RESULTS")}
    return {"_id": name, "title": "", "text": " ".join(sections.values()), "metadata": {"sections": sections}}


def _rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    _lines(path, [json.dumps(row) for row in rows])


def _qrels(path: Path, answers: Mapping[str, str]) -> None:
    _lines(path, ["query-id\tcorpus-id\tscore", *(f"{query}\t{answer}\t1" for query, answer in answers.items())])


def _lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
