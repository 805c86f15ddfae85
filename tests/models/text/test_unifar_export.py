"""What is written for others gives our vectors, without our package."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from facetrail.models.errors import Conflict, InvalidInput, NotFound, Unavailable
from facetrail.models.text import facet_query, unifar_export, unifar_graph
from facetrail.models.text.encoder import load_encoder
from facetrail.models.text.facet_encoder import UnifarEncoder
from facetrail.models.text.unifar_export import export_model

TEXTS = [
    "Does aspirin help?",
    "Bees\nForaging bees were displaced. We tracked them by radar. They flew in loops.",
    "sorting",
    "Long\n" + "Runs that fit the cache are merged. " * 30,
]
PROGRAM = """
import sys
sys.modules["facetrail"] = None  # any import of it fails
import json
import numpy as np
from sentence_transformers import SentenceTransformer
texts = json.loads(sys.argv[2])
model = SentenceTransformer(sys.argv[1], trust_remote_code=True, device="cpu")
facets = model.encode_query(texts, output_value=None)
model.save(sys.argv[3] + "/saved")
again = SentenceTransformer(sys.argv[3] + "/saved", trust_remote_code=True, device="cpu")
np.savez(
    sys.argv[3] + "/out.npz", queries=model.encode_query(texts), documents=model.encode_document(texts),
    facets=np.stack([found["facet_embeddings"].numpy() for found in facets]), again=again.encode_document(texts),
)
"""


def test_sentence_transformers_opens_it_without_us(tiny_unifar: Path, tmp_path: Path) -> None:
    report = export_model(str(tiny_unifar), "sentence-transformers", tmp_path / "out")
    assert report["min_cosine"] >= 0.9999
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    arguments = [sys.executable, "-c", PROGRAM, str(tmp_path / "out"), json.dumps(TEXTS), str(tmp_path)]
    subprocess.run(arguments, check=True, env=environment, cwd=tmp_path, timeout=240)
    found, ours = np.load(tmp_path / "out.npz"), load_encoder(str(tiny_unifar), bulk="fp32")
    assert isinstance(ours, UnifarEncoder)
    np.testing.assert_allclose(found["queries"], ours.encode_queries(TEXTS), atol=1e-4)
    np.testing.assert_allclose(found["documents"], ours.encode_documents(TEXTS), atol=1e-4)
    np.testing.assert_allclose(found["again"], found["documents"], atol=1e-6)
    for i, text in enumerate(TEXTS):
        np.testing.assert_allclose(found["facets"][i], ours.encode_facet_query(text).facets, atol=1e-4)


def test_without_trained_layers_questions_are_not_marked_there_either(
    tmp_path: Path, save_tiny_unifar: Callable[..., Path]
) -> None:
    folder = save_tiny_unifar(tmp_path / "model", noise=0.3, trained_layers=0)
    assert export_model(str(folder), "sentence-transformers", tmp_path / "out")["min_cosine"] >= 0.9999


def test_the_graph_explains_itself(tiny_unifar: Path, tmp_path: Path) -> None:
    report = export_model(str(tiny_unifar), "onnx", tmp_path)  # an empty folder is fine
    assert set(report["bytes"]) == {"model.onnx", "model.bin", "tokenizer.json", "unifar.json"}
    settings = json.loads((tmp_path / "unifar.json").read_text())
    session = facet_query.UnifarSession(tmp_path / "model.onnx", threads=1)
    assert {entry.name for entry in session._session.get_inputs()} == set(settings["inputs"])
    assert {entry.name: entry.shape for entry in session._session.get_outputs()} == settings["outputs"]
    ours = load_encoder(str(tiny_unifar), bulk="fp32", runtime="torch")
    assert isinstance(ours, UnifarEncoder)
    for text, asked in ours._lay_out(TEXTS, "auto"):
        np.testing.assert_allclose(
            session(text, asked).single, ours._bulk_network().encode([(text, asked)]).single[0], atol=1e-5
        )


def test_what_gives_other_vectors_is_not_written(
    tiny_unifar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = unifar_graph.folded_anchors
    monkeypatch.setattr(unifar_graph, "folded_anchors", lambda *args: honest(*args) * np.float32(1.01))
    with pytest.raises(Unavailable, match="fails the equality gate"):
        export_model(str(tiny_unifar), "onnx", tmp_path / "out")
    source = unifar_export.module_source()
    assert "made.single," in source
    monkeypatch.setattr(unifar_export, "module_source", lambda: source.replace("made.single,", "made.pooled,"))
    with pytest.raises(Unavailable, match="would give other vectors"):
        export_model(str(tiny_unifar), "sentence-transformers", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_refused(tiny_unifar: Path, tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="use sentence-transformers or onnx"):
        export_model(str(tiny_unifar), "gguf", tmp_path / "out")
    with pytest.raises(InvalidInput, match="not a UniFAR model"):
        export_model(str(tiny_bert), "onnx", tmp_path / "out")
    with pytest.raises(NotFound):
        export_model("/no/such/folder", "onnx", tmp_path / "out")
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(Conflict, match="holds something"):
        export_model(str(tiny_unifar), "onnx", tmp_path)
    assert (tmp_path / "kept").read_text() == "mine"
