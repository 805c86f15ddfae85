"""Model folders: round trip, damage of every byte's kind, and nothing half-written."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel

from facetrail.app.cli import main
from facetrail.models.checkpoint import (
    CARD_FILE,
    MANIFEST_FILE,
    TENSORS_FILE,
    BaseIdentity,
    open_tensors,
    read_manifest,
    save_model,
)
from facetrail.models.errors import Conflict, Damaged, InvalidInput, NotFound


class Config(BaseModel):
    dim: int = 3


TENSORS = {
    "half": np.arange(6, dtype=np.float16).reshape(2, 3),
    "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,  # not contiguous
    "scalar": np.asarray(0.5, np.float32),
}
BASE = BaseIdentity(name="base", weights_sha256="a" * 64)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(
        tmp_path / "model",
        kind="toy",
        config=Config(),
        tensors=TENSORS,
        base=BASE,
        trained_on={"cacm": "b" * 64},
        figures={"nDCG@10": 0.5},
        licence="Free for all.",
    )
    return tmp_path / "model"


def test_what_is_saved_is_read_back(folder: Path) -> None:
    manifest = read_manifest(folder, kind="toy")
    assert (manifest.config, manifest.base, manifest.trained_on) == ({"dim": 3}, BASE, {"cacm": "b" * 64})
    assert set(manifest.created_with) >= {"facetrail", "numpy"}
    with open_tensors(folder, manifest) as tensors:
        assert set(tensors.keys()) == set(TENSORS)
        for name, array in TENSORS.items():
            found = tensors.get_tensor(name)
            assert found.dtype == array.dtype
            np.testing.assert_array_equal(found, array)
    assert sorted(path.name for path in folder.iterdir()) == sorted([CARD_FILE, MANIFEST_FILE, TENSORS_FILE])


def test_the_card_says_what_a_person_asks(folder: Path) -> None:
    card = (folder / CARD_FILE).read_text()
    assert card.startswith("# model\n")
    for said in ("`toy`", "`base`", "a" * 64, "| nDCG@10 | 0.5000 |", "b" * 64, "Free for all."):
        assert said in card


def test_reading_needs_no_torch(folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from facetrail.models.checkpoint import open_tensors\n"
        f"with open_tensors(Path({str(folder)!r})) as t: assert t.get_tensor('half').sum() == 15\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("where", [0, 9, -1])
def test_a_turned_bit_is_damage_of_that_file(folder: Path, where: int) -> None:
    for name in (TENSORS_FILE, MANIFEST_FILE):
        whole = (folder / name).read_bytes()
        content = bytearray(whole)
        content[where] ^= 1
        (folder / name).write_bytes(content)
        with pytest.raises(Damaged, match=name), open_tensors(folder):
            pass
        (folder / name).write_bytes(whole)


def test_a_cut_or_missing_tensor_file_is_damage(folder: Path) -> None:
    file = folder / TENSORS_FILE
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(Damaged, match=r"model\.safetensors has .* bytes"), open_tensors(folder):
        pass
    file.unlink()
    with pytest.raises(Damaged, match=r"model\.safetensors is missing"), open_tensors(folder):
        pass


def test_a_changed_figure_in_the_manifest_is_damage(folder: Path) -> None:
    file = folder / MANIFEST_FILE
    file.write_text(file.read_text().replace('"nDCG@10": 0.5', '"nDCG@10": 0.9'))
    with pytest.raises(Damaged, match=r"manifest\.json"):
        read_manifest(folder)


@pytest.mark.parametrize("content", ["", "[]", "3", "{", '{"kind": "toy"}'])
def test_a_manifest_of_another_form_is_damage(folder: Path, content: str) -> None:
    (folder / MANIFEST_FILE).write_text(content)
    with pytest.raises(Damaged, match=r"manifest\.json"):
        read_manifest(folder)


def test_another_kind_a_newer_format_and_no_model_at_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="'toy', not 'unifar'"):
        read_manifest(folder, kind="unifar")
    with pytest.raises(NotFound, match="no model"):
        read_manifest(folder.parent)
    monkeypatch.setattr("facetrail.models.checkpoint.FORMAT_VERSION", 0)
    with pytest.raises(Conflict, match=r"format version 1.*upgrade"):
        read_manifest(folder)


def test_a_model_is_never_overwritten(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(Conflict, match="exists already"):
        save_model(folder, kind="toy", config=Config(dim=9), tensors=TENSORS)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_killed_before_the_rename_leaves_no_model_and_the_next_save_works(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    target = folder.parent / "next"
    program = (
        "import os; from pathlib import Path; import numpy as np; from pydantic import BaseModel\n"
        "from facetrail.models import checkpoint\n"
        "class Config(BaseModel): pass\n"
        "Path.rename = lambda self, target: os._exit(9)\n"  # the process dies where the rename would be
        f"checkpoint.save_model(Path({str(target)!r}), kind='toy', config=Config(), tensors={{'a': np.ones(3)}})"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 9
    assert len([path for path in folder.parent.iterdir() if path.name.startswith(".next")]) == 1  # it got that far
    assert not target.exists()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    save_model(target, kind="toy", config=Config(), tensors=TENSORS)
    assert read_manifest(target).kind == "toy"


def test_a_save_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        save_model(tmp_path / "m", kind="toy", config=Config(), tensors=TENSORS, figures={"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_info_prints_the_manifest_and_verifies(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["model", "info", str(folder), "--json"])
    assert exit_.value.code == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["kind"], facts["verified"], facts["n_tensors"]) == ("toy", True, 3)
    content = bytearray((folder / TENSORS_FILE).read_bytes())
    content[-1] ^= 1
    (folder / TENSORS_FILE).write_bytes(content)
    with pytest.raises(SystemExit) as exit_:
        main(["model", "info", str(folder)])
    assert exit_.value.code == 3
    assert TENSORS_FILE in capsys.readouterr().err
