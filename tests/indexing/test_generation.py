"""Generations appear whole or not at all, are checked when opened, and leave one predecessor behind."""

import json
from pathlib import Path

import pytest

from facetrail.indexing import generation
from facetrail.indexing.collection import Collection, CollectionSettings
from facetrail.indexing.generation_manifest import manifest_bytes
from facetrail.models.errors import Conflict, Damaged, NotFound
from facetrail.models.records import Document


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Collection.create(tmp_path / "c", CollectionSettings(name="c", lexical={})) as collection:
        collection.put([Document("a", "1"), Document("b", "1")])
    return tmp_path / "c"


def build(folder: Path, payload: bytes = b"postings", change: int = 2) -> int:
    with generation.new_generation(folder) as building:
        (building.folder / "lexical").mkdir()
        (building.folder / "lexical" / "postings.npy").write_bytes(payload)
        (building.folder / "ids.json").write_text("[]")
        return building.finish(built_from_change=change, n_documents=2, analyser_fingerprint="af")


def generations(folder: Path) -> list[str]:
    return sorted(p.name for p in (folder / "generations").iterdir())


def test_before_the_first_generation_there_is_none(folder: Path) -> None:
    assert generation.open_generation(folder) is None
    assert generation.current(folder) is None
    assert (generation.current_number(folder), generation.built_from(folder)) == (0, 0)
    assert generation.verify(folder) == []


def test_a_finished_generation_is_in_service_and_describes_itself(folder: Path) -> None:
    assert build(folder) == 1
    opened = generation.open_generation(folder)
    assert opened is not None
    path, manifest = opened
    assert path == folder / "generations" / "000001" == generation.current(folder)
    assert (path / "lexical" / "postings.npy").read_bytes() == b"postings"
    assert (manifest.number, manifest.built_from_change, manifest.n_documents, manifest.kinds) == (
        1,
        2,
        2,
        ("lexical",),
    )
    assert {name: entry.size for name, entry in manifest.files.items()} == {"lexical/postings.npy": 8, "ids.json": 2}
    assert (manifest.analyser_fingerprint, manifest.encoder_fingerprint) == ("af", None)
    assert generation.built_from(folder) == 2
    assert generation.verify(folder) == []


def test_the_one_in_service_and_the_one_before_are_kept(folder: Path) -> None:
    reader = None
    for i in range(1, 5):
        assert build(folder, b"%d" % i) == i
        if i == 1:
            reader = (folder / "generations" / "000001" / "lexical" / "postings.npy").open("rb")
    assert generations(folder) == ["000003", "000004"]
    assert reader is not None
    with reader:
        assert reader.read() == b"1"  # a reader of a pruned generation keeps what it opened


def test_an_abandoned_build_leaves_nothing_and_the_old_generation_in_service(folder: Path) -> None:
    build(folder)
    building = generation.new_generation(folder)
    (building.__enter__().folder / "half").write_bytes(b"x")
    assert building.__exit__(RuntimeError, RuntimeError("disk on fire"), None) is False
    with generation.new_generation(folder):
        pass
    assert generations(folder) == ["000001"]
    assert generation.current_number(folder) == 1


def test_a_killed_builds_leftover_is_no_problem_and_the_next_build_clears_it(folder: Path) -> None:
    build(folder)
    (folder / "generations" / ".building-dead").mkdir()
    (folder / "generations" / ".building-dead" / "half").write_bytes(b"x")
    assert generation.verify(folder) == []
    assert build(folder) == 2
    assert generations(folder) == ["000001", "000002"]


def test_a_generation_renamed_but_not_yet_in_service_is_not_served(folder: Path) -> None:
    build(folder)
    current = (folder / "CURRENT").read_bytes()
    build(folder, b"newer")
    (folder / "CURRENT").write_bytes(current)  # as if killed between rename and switch
    assert generation.current_number(folder) == 1
    assert generation.verify(folder) == []
    assert build(folder) == 3


def test_finishing_twice_is_refused(folder: Path) -> None:
    with generation.new_generation(folder) as building:
        building.finish(built_from_change=0, n_documents=0)
        with pytest.raises(Conflict, match="finished already"):
            building.finish(built_from_change=0, n_documents=0)


def test_a_newer_format_is_refused_not_called_damage(folder: Path) -> None:
    build(folder)
    path = folder / "generations" / "000001"
    _, manifest = generation.open_generation(folder) or (None, None)
    assert manifest is not None
    newer = manifest.model_copy(update={"format_version": 2})
    (path / "MANIFEST.json").write_bytes(manifest_bytes(newer))
    (folder / "CURRENT").write_bytes(generation.current_line(newer))
    with pytest.raises(Conflict, match=r"format version 2.*upgrade"):
        generation.open_generation(folder)


def test_quarantine_keeps_every_byte_and_the_next_build_takes_a_new_number(folder: Path) -> None:
    build(folder)
    path = generation.current(folder)
    assert path is not None
    (path / "lexical" / "postings.npy").write_bytes(b"POSTINGS")
    aside = generation.quarantine(path)
    assert aside.name.startswith("damaged-000001-")
    assert (aside / "lexical" / "postings.npy").read_bytes() == b"POSTINGS"
    with pytest.raises(Damaged, match=r"CURRENT names generation 1, which is missing.*index build"):
        generation.open_generation(folder)
    assert build(folder) == 2
    assert generation.verify(folder) == []
    assert aside.is_dir()


DAMAGE = {
    "a changed file": (
        lambda f, g: (g / "ids.json").write_bytes(b"{}"),
        "generations/000001/ids.json",
        "byte for byte",
    ),
    "a shorter file": (lambda f, g: (g / "ids.json").write_bytes(b"["), "generations/000001/ids.json", "1 bytes"),
    "a missing file": (lambda f, g: (g / "ids.json").unlink(), "generations/000001/ids.json", "is missing"),
    "an extra file": (lambda f, g: (g / "more").write_bytes(b"x"), "generations/000001/more", "not in the manifest"),
    "no manifest": (lambda f, g: (g / "MANIFEST.json").unlink(), "generations/000001/MANIFEST.json", "is missing"),
    "a manifest edited": (
        lambda f, g: (g / "MANIFEST.json").write_text((g / "MANIFEST.json").read_text().replace('": 2', '": 3', 1)),
        "generations/000001/MANIFEST.json",
        "not as it was written",
    ),
    "an empty CURRENT": (lambda f, g: (f / "CURRENT").write_bytes(b""), "CURRENT", "not as it was written"),
    "CURRENT by hand": (lambda f, g: (f / "CURRENT").write_text("000001\n"), "CURRENT", "not as it was written"),
    "CURRENT to nowhere": (lambda f, g: g.rename(g.with_name("damaged-000001-x")), "CURRENT", "which is missing"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named_by_verify_and_by_opening(folder: Path, case: str) -> None:
    build(folder)
    harm, name, words = DAMAGE[case]
    harm(folder, folder / "generations" / "000001")
    problems = generation.verify(folder)
    assert [p.path for p in problems] == [str(folder / name)]
    assert words in problems[0].what
    assert "index build" in problems[0].cure
    with pytest.raises(Damaged) as caught:
        generation.open_generation(folder)
    assert str(folder / name) in str(caught.value)
    assert "index build" in str(caught.value)
    assert build(folder) == 2  # the cure
    assert generation.verify(folder) == []
    aside = [name for name in generations(folder) if name.startswith("damaged-000001-")]
    assert len(aside) == (0 if case in {"an empty CURRENT", "CURRENT by hand"} else 1)


def test_without_hashes_opening_still_sees_sizes(folder: Path) -> None:
    build(folder)
    file = folder / "generations" / "000001" / "lexical" / "postings.npy"
    file.write_bytes(b"POSTINGS")
    assert generation.open_generation(folder, verify=False) is not None
    file.write_bytes(b"POSTING")
    with pytest.raises(Damaged, match=r"postings\.npy has 7 bytes"):
        generation.open_generation(folder, verify=False)


def test_an_older_manifest_under_a_newer_number_is_found(folder: Path) -> None:
    build(folder)
    build(folder, b"newer")
    old, new = (folder / "generations" / name / "MANIFEST.json" for name in ("000001", "000002"))
    new.write_bytes(old.read_bytes())
    with pytest.raises(Damaged, match="not the one that CURRENT names"):
        generation.open_generation(folder)
    assert {str(folder / "CURRENT"), str(new.parent)} <= {p.path for p in generation.verify(folder)}


def test_a_missing_database_is_named(folder: Path) -> None:
    build(folder)
    (folder / "collection.sqlite").unlink()
    with pytest.raises(NotFound, match=r"collection\.sqlite"):
        generation.verify(folder)


def test_the_manifest_is_plain_json(folder: Path) -> None:
    build(folder)
    body = json.loads((folder / "generations" / "000001" / "MANIFEST.json").read_text())
    assert body["format_version"] == 1
    assert len(body["files"]["ids.json"]["sha256"]) == 64
