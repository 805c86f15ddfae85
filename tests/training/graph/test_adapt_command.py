"""`facetrail train adapt` on graph files, corpora and collections."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from facetrail.indexing.collection import Collection, CollectionSettings
from facetrail.models.errors import Conflict, InvalidInput
from facetrail.models.graph.adapted import open_adapted
from facetrail.models.graph.graph_data import GraphData
from facetrail.models.graph.graph_files import write_graph
from facetrail.models.records import Document
from facetrail.training.cli import train_app
from facetrail.training.graph.command import train
from facetrail.training.graph.sources import graph_sha256, open_pair

SMALL = ["dim=4", "n_layers=1", "epochs=4", "trace_every=2"]


@pytest.fixture
def files(pair: tuple[GraphData, GraphData], tmp_path: Path) -> tuple[Path, Path]:
    for name, graph in zip(("s", "t"), pair, strict=True):
        write_graph(tmp_path / f"{name}.npz", graph)
    return tmp_path / "s.npz", tmp_path / "t.npz"


def test_the_command_writes_a_model_and_predictions(files: tuple[Path, Path], tmp_path: Path):
    options = [f"--set={value}" for value in SMALL]
    out = tmp_path / "run-1"
    result = CliRunner().invoke(
        train_app,
        ["adapt", "--source", str(files[0]), "--target", str(files[1]), "--out", str(out), "--method", "mmd",
         "--selection", "final", "--device", "cpu", "--json", *options],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout[result.stdout.index("{") :])
    assert (summary["method"], summary["selection"], summary["nodes"]) == ("mmd", "final", 60)
    table = parquet.read_table(out / "predictions.parquet").to_pylist()
    assert len(table) == 60
    assert {row["run"] for row in table} == {"run-1"}
    assert open_adapted(out / "model").config.class_names == ("0", "1", "2")
    assert 'method = "mmd"' in (out / "recipe.toml").read_text()
    assert sorted(path.name for path in (out / "trace").iterdir())[0] == "epoch-000002.safetensors"
    with pytest.raises(Conflict, match="holds a run already"):
        train(*files, out, method="mmd", overrides=SMALL, device="cpu")


def test_labels_are_no_target(files: tuple[Path, Path], tmp_path: Path):
    with pytest.raises(InvalidInput, match="file of labels, which the target must not have"):
        train(files[0], tmp_path / "labels-usa-airports.txt", tmp_path / "out", overrides=SMALL)


def corpus(folder: Path, n: int, *, topics: bool) -> Path:
    folder.mkdir()
    words = ("graph node edge", "protein cell gene")
    rows = [
        {
            "_id": f"{folder.name}{i}",
            "text": words[i % 2],
            "metadata": {"topic": f"t{i % 2}"} if topics else {},
        }
        for i in range(n)
    ]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    links = [f"{folder.name}{i}\tcitation\t{folder.name}{i + 2}" for i in range(n)]
    (folder / "links.tsv").write_text(
        "\n".join(["from\tkind\tto", *links, f"{folder.name}0\tcoupling\t{folder.name}1\n"])
    )
    return folder


def test_two_corpora_share_one_vocabulary(tmp_path: Path):
    ours, theirs = corpus(tmp_path / "a", 12, topics=True), corpus(tmp_path / "b", 8, topics=False)
    source, target = open_pair(ours, theirs, labels="first", field="topic", documents="tfidf")
    assert source.feature_space == target.feature_space
    assert source.class_names == ("t0", "t1")
    assert (source.n_edges, source.report.n_unresolved) == (10, 2)
    assert target.y is None
    summary = train(ours, theirs, tmp_path / "out", overrides=[*SMALL, "lr=0.05", "epochs=30"], device="cpu")
    table = parquet.read_table(tmp_path / "out/predictions.parquet").to_pylist()
    assert [row["label"] for row in table] == ["t0", "t1"] * 4
    assert summary["label_rule"] == "single labels"
    with pytest.raises(InvalidInput, match="metadata field 'subject'"):
        open_pair(ours, theirs, labels="first", field="subject", documents="tfidf")


def test_a_collection_lists_its_references_in_metadata(tmp_path: Path):
    theirs = corpus(tmp_path / "b", 4, topics=False)
    documents = [
        Document(f"c{i}", "graph node" if i % 2 else "gene cell", metadata={"topic": f"t{i % 2}", "references": ["c0"]})
        for i in range(4)
    ]
    with Collection.create(tmp_path / "c", CollectionSettings(name="c", lexical={})) as collection:
        collection.put(documents)
    source, _ = open_pair(tmp_path / "c", theirs, labels="first", field="topic", documents="tfidf")
    assert (source.n_edges, source.report.n_self_loops) == (3, 1)
    assert source.y.tolist() == [0, 1, 0, 1]


def test_a_hash_names_everything_that_training_reads(pair: tuple[GraphData, GraphData]):
    graph, known = pair[0], set()
    changed = (
        {}, {"y": None}, {"x": graph.x + 1}, {"feature_space": "s"}, {"ids": tuple(reversed(graph.ids))},
        {"adjacency": pair[1].adjacency},
    )  # fmt: skip
    for change in changed:
        known.add(graph_sha256(replace(graph, **change)))
    assert len(known) == len(changed)
    assert graph_sha256(graph) == graph_sha256(replace(graph, report=pair[1].report))


def test_a_graph_beside_documents_is_refused(files: tuple[Path, Path], tmp_path: Path):
    theirs = corpus(tmp_path / "b", 4, topics=False)
    with pytest.raises(InvalidInput, match="two of one kind"):
        open_pair(files[0], theirs, labels="first", field="topic", documents="tfidf")
