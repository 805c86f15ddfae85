"""Judged collections: what is read, dropped, counted and warned of."""

import gzip
import hashlib
from pathlib import Path

import pytest

from facetrail.eval.datasets import find_splits, load_beir, sha256_of
from facetrail.models.errors import InvalidInput, NotFound

CORPUS = "".join(f'{{"_id": "d{i}", "title": "", "text": "text {i}"}}\n' for i in range(5))
QUERIES = "".join(f'{{"_id": "q{i}", "text": "what is {i}"}}\n' for i in range(4))
HEADER = "query-id\tcorpus-id\tscore\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text(CORPUS)
    (folder / "queries.jsonl").write_text(QUERIES)
    (folder / "qrels" / "test.tsv").write_text(HEADER + "q1\td1\t1\nq1\td2\t0\nq0\td3\t2\nq2\td4\t0\n")
    return folder


def test_queries_with_relevant_documents_are_kept_and_the_others_counted(folder: Path) -> None:
    data = load_beir(folder)
    assert [q.id for q in data.queries] == ["q1", "q0"]
    assert data.qrels == {"q1": {"d1": 1, "d2": 0}, "q0": {"d3": 2}}
    assert (data.n_without_judgements, data.n_without_relevant, data.n_unknown_documents) == (1, 1, 0)
    assert (data.name, data.split, data.label) == ("tiny", "test", "tiny/test")
    assert data.warnings == ()


def test_every_file_used_is_hashed(folder: Path) -> None:
    data = load_beir(folder)
    assert data.sha256["corpus"] == hashlib.sha256(CORPUS.encode()).hexdigest()
    assert data.sha256["queries"] == sha256_of(folder / "queries.jsonl")
    assert data.sha256["qrels"] == sha256_of(folder / "qrels" / "test.tsv")


def test_gzip_files_are_read(folder: Path) -> None:
    for name in ("corpus.jsonl", "queries.jsonl"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    assert len(load_beir(folder).queries) == 2


def test_other_queries_and_judgements_make_another_task_on_one_corpus(folder: Path) -> None:
    (folder / "queries_papers.jsonl").write_text('{"_id": "d1", "text": "text 1"}\n')
    (folder / "qrels" / "test_papers.tsv").write_text(HEADER + "d1\td2\t1\n")
    data = load_beir(folder, queries=folder / "queries_papers.jsonl", qrels=folder / "qrels" / "test_papers.tsv")
    assert data.label == "tiny/test_papers"
    assert data.qrels == {"d1": {"d2": 1}}


def test_judged_documents_that_the_corpus_lacks_are_counted(folder: Path) -> None:
    (folder / "qrels" / "dev.tsv").write_text(HEADER + "q1\td1\t1\nq1\tgone\t1\nq0\tgone too\t1\n")
    data = load_beir(folder, "dev")
    assert data.n_unknown_documents == 2
    assert "2 judged documents are not in the corpus" in data.warnings[0]
    assert load_beir(folder, "dev", check_corpus=False).n_unknown_documents == 0


def test_judged_queries_without_text_are_left_out_and_said(folder: Path) -> None:
    (folder / "qrels" / "dev.tsv").write_text(HEADER + "q1\td1\t1\nq77\td1\t1\n")
    data = load_beir(folder, "dev")
    assert [q.id for q in data.queries] == ["q1"]
    assert "1 judged queries have no text" in data.warnings[0]


def test_judgements_of_other_queries_are_refused(folder: Path) -> None:
    (folder / "qrels" / "dev.tsv").write_text(HEADER + "x1\td1\t1\n")
    with pytest.raises(InvalidInput, match=r"none of the 1 queries .* is in"):
        load_beir(folder, "dev")


@pytest.mark.parametrize(
    ("split", "remove", "said"),
    [
        ("validation", "", "no judgements for split 'validation'; it has test"),
        ("test", "qrels/test.tsv", "no qrels"),
        ("test", "corpus.jsonl", "holds no corpus"),
        ("test", "queries.jsonl", "holds no queries"),
    ],
)
def test_what_is_missing_is_named(folder: Path, split: str, remove: str, said: str) -> None:
    if remove:
        (folder / remove).unlink()
    with pytest.raises(NotFound, match=said):
        load_beir(folder, split)


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="is not a folder"):
        load_beir(tmp_path / "none")
    with pytest.raises(NotFound, match="does not exist"):
        sha256_of(tmp_path / "none")


def test_splits_are_found(folder: Path) -> None:
    (folder / "qrels" / "dev.tsv").write_text(HEADER)
    assert find_splits(folder) == ["dev", "test"]


def test_the_real_collections_load(data_folder: Path) -> None:
    scifact = load_beir(data_folder / "scifact", check_corpus=False)
    assert (len(scifact.queries), sum(map(len, scifact.qrels.values()))) == (300, 339)
    assert len(load_beir(data_folder / "scifact", "train", check_corpus=False).queries) == 809
    cacm = load_beir(data_folder / "cacm")
    assert (len(cacm.queries), cacm.n_without_judgements, cacm.warnings) == (52, 12, ())
