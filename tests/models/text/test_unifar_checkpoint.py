"""What a UniFAR folder keeps, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facetrail.models.checkpoint import BaseIdentity, open_tensors, read_manifest, save_model
from facetrail.models.errors import Conflict, Damaged, FacetrailError, InvalidInput, NotFound
from facetrail.models.text import locate
from facetrail.models.text.encoder import load_encoder
from facetrail.models.text.source import Overrides, find_source
from facetrail.models.text.unifar import UnifarConfig, UnifarHead
from facetrail.models.text.unifar_checkpoint import UnifarModelConfig, find_unifar, read_unifar, save_unifar

LAYER = "encoder.layer.1.output.dense.weight"


def rewritten(folder: Path, target: Path, **changes: Any) -> Path:
    """A copy whose manifest and tensors differ: config, base, kind, or `tensors`, None leaving one out."""
    manifest = read_manifest(folder)
    with open_tensors(folder) as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  not a dictionary
    tensors |= changes.get("tensors", {})
    save_model(
        target,
        kind=changes.get("kind", manifest.kind),
        config=changes.get("config", UnifarModelConfig.model_validate(manifest.config)),
        tensors={name: tensor for name, tensor in tensors.items() if tensor is not None},
        base=changes.get("base", manifest.base),
    )
    return target


def test_the_folder_holds_differences_in_half_precision(tiny_unifar: Path, tiny_bert: Path) -> None:
    source = find_unifar("tiny", tiny_unifar)
    weights = read_unifar(source)
    from safetensors.numpy import load_file

    base = load_file(tiny_bert / "model.safetensors")
    assert read_manifest(tiny_unifar).config["averaging"] == 0.5
    with open_tensors(tiny_unifar) as stored:
        names = set(stored.keys())
        difference = stored.get_tensor(f"difference/{LAYER}")
        assert stored.get_tensor("head/mixing_logit").dtype == np.float32
        assert stored.get_tensor("head/mixing_logit").shape == ()
    assert difference.dtype == np.float16
    assert not any("layer.0." in name or "embeddings" in name for name in names)
    np.testing.assert_array_equal(weights.network[LAYER], base[LAYER] + difference.astype(np.float32))
    np.testing.assert_array_equal(
        weights.network["encoder.layer.0.output.dense.weight"], base["encoder.layer.0.output.dense.weight"]
    )


def test_wide_maps_of_the_head_are_halved_without_moving_much(tmp_path: Path) -> None:
    base, config = find_source("base", Overrides()), UnifarConfig()
    head = UnifarHead(config, generator=torch.Generator().manual_seed(1))
    save_unifar(tmp_path / "model", config, head=head.state_dict(), differences={}, base=base)
    assert (tmp_path / "model" / "model.safetensors").stat().st_size < 2 * 5.5 * 384**2
    kept = read_unifar(find_unifar("model", tmp_path / "model")).head
    for name, tensor in head.state_dict().items():
        np.testing.assert_allclose(kept[name], tensor, rtol=1e-3, atol=1e-6)


def test_what_moves_vectors_moves_the_fingerprint(
    tiny_unifar: Path, tmp_path: Path, save_tiny_unifar: Callable[..., Path]
) -> None:
    first = find_unifar("tiny", tiny_unifar)
    again = find_unifar("again", save_tiny_unifar(tmp_path / "again", noise=0.3))
    assert again.fingerprint == first.fingerprint
    others = [
        find_unifar("seed", save_tiny_unifar(tmp_path / "seed", noise=0.3, seed=1)),
        find_unifar("config", save_tiny_unifar(tmp_path / "config", noise=0.3, max_sentences=5)),
        find_unifar("prefix", tiny_unifar, Overrides(document_prefix="passage: ")),
        find_unifar("length", tiny_unifar, Overrides(max_document_tokens=64)),
    ]
    assert len({first.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_another_base_is_refused(tiny_unifar: Path, tiny_bert: Path, tmp_path: Path) -> None:
    other = BaseIdentity(name=str(tiny_bert), weights_sha256="ab" * 32)
    with pytest.raises(Conflict, match="with weights abababababab…, but those found now are") as caught:
        load_encoder(str(rewritten(tiny_unifar, tmp_path / "other", base=other)))
    assert find_source(str(tiny_bert), Overrides()).weights_sha256[:12] in str(caught.value)


def _cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _newer(folder: Path) -> None:
    from facetrail.models import checkpoint

    body = json.loads((folder / "manifest.json").read_text())
    del body["checksum"]
    (folder / "manifest.json").write_bytes(checkpoint._with_checksum({**body, "format_version": 99}))


def _edited(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"heads": 4', '"heads": 8'))


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [(_cut, Damaged, "bytes, its manifest says"), (_newer, Conflict, "upgrade"), (_edited, Damaged, "not as it was")],
)
def test_spoilt_folders_are_refused(
    tiny_unifar: Path, tmp_path: Path, spoil: Any, error: type[FacetrailError], message: str
) -> None:
    folder = Path(shutil.copytree(tiny_unifar, tmp_path / "spoilt"))
    spoil(folder)
    with pytest.raises(error, match=message):
        load_encoder(str(folder))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"kind": "cat"}, InvalidInput, "of kind 'cat'"),
        ({"base": None}, Damaged, "does not say which base"),
        ({"config": BaseIdentity(name="x", weights_sha256="0" * 64)}, Damaged, "does not fit"),
        ({"tensors": {"head/anchors": None}}, Damaged, "do not fit its manifest"),
        ({"tensors": {"difference/encoder.layer.9.x": np.zeros(3)}}, Damaged, "the base does not have"),
        ({"tensors": {f"difference/{LAYER}": np.zeros((2, 2))}}, Damaged, "the base does not have"),
    ],
    ids=["kind", "base", "config", "head", "layer", "shape"],
)
def test_folders_that_do_not_fit_are_refused(
    tiny_unifar: Path, tmp_path: Path, changes: Any, error: type[FacetrailError], message: str
) -> None:
    folder = rewritten(tiny_unifar, tmp_path / "odd", **changes)
    with pytest.raises(error, match=message) as caught:
        load_encoder(str(folder), bulk="fp32").encode_documents(["a"])
    assert "\n" not in str(caught.value)


def test_what_cannot_be_saved_or_opened_so_is_refused(tiny_unifar: Path, tiny_bert: Path, tmp_path: Path) -> None:
    base, config = find_source(str(tiny_bert), Overrides()), UnifarConfig(dim=48)
    with pytest.raises(InvalidInput, match="not finite"):
        save_unifar(tmp_path / "a", config, head={"x": torch.tensor(torch.nan)}, differences={}, base=base)
    with pytest.raises(InvalidInput, match="set dim and trained_layers"):
        save_unifar(tmp_path / "a", UnifarConfig(), head={}, differences={}, base=base)
    cls = find_source(str(tiny_bert), Overrides(pooling="cls"))
    with pytest.raises(InvalidInput, match="cannot be a base"):
        save_unifar(tmp_path / "a", config, head={}, differences={}, base=cls)
    with pytest.raises(InvalidInput, match="leave pooling and normalise out"):
        load_encoder(str(tiny_unifar), pooling="cls")
    load_encoder(str(tiny_unifar), pooling="mean", normalise=True, query_prefix="")


def test_without_trained_weights_the_name_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate, "UNIFAR", "never-trained")
    with pytest.raises(NotFound, match=r"no trained weights for 'never-trained'.*facetrail train unifar"):
        load_encoder("never-trained")
