"""Recipes from TOML and the command line, and the folder that remembers them."""

import json
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from facetrail.models.errors import Conflict, InvalidInput, NotFound
from facetrail.training.config import as_toml, differences, parse_override, read_recipe
from facetrail.training.run_folder import RECIPE_FILE, data_hashes, open_run, read_run
from facetrail.training.schedule import FitConfig


class Pairs(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    shares: dict[str, float] = Field(default_factory=dict)
    kind: Literal["dd", "qd"] = "dd"


class Recipe(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "x"
    rates: tuple[float, ...] = (1e-5, 1.0)
    cap: int | None = 7
    fit: FitConfig
    pairs: Pairs = Pairs()


@pytest.fixture
def defaults(tmp_path: Path) -> Path:
    path = tmp_path / "defaults.toml"
    path.write_text('name = "small"\n[fit]\nsteps = 10\n[pairs.shares]\ncacm = 0.5\n')
    return path


def test_overrides_are_typed_dotted_and_the_last_one_wins(defaults: Path) -> None:
    recipe = read_recipe(
        defaults,
        Recipe,
        ["fit.steps=20", "fit.steps=30", "name=large one", "rates=[0.5, 2]", "pairs.shares.new=0.25", "pairs.kind=qd"],
    )
    assert (recipe.fit.steps, recipe.name, recipe.rates) == (30, "large one", (0.5, 2.0))
    assert recipe.pairs == Pairs(shares={"cacm": 0.5, "new": 0.25}, kind="qd")
    assert recipe.fit.warmup == 0.1
    assert read_recipe(defaults, Recipe, ["fit.ema=none"]).fit.ema is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=1", 1),
        ("a=1e-3", 1e-3),
        ("a=true", True),
        ('a="1"', "1"),
        ("a=bare", "bare"),
        ("a=b=c", "b=c"),
        ("a=1 # x", 1),
    ],
)
def test_values_are_toml_or_bare_words(text: str, value: object) -> None:
    assert parse_override(text) == ("a", value)


@pytest.mark.parametrize("text", ["steps", "=3", "fit.steps="])
def test_half_an_override_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="key=value"):
        parse_override(text)


@pytest.mark.parametrize(
    ("key", "near"),
    [("fit.stesp", "fit.steps"), ("steps", "fit.steps"), ("fit.warm_up", "fit.warmup"), ("pair.kind", "pairs.kind")],
)
def test_an_unknown_key_names_those_near_it(key: str, near: str, defaults: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_recipe(defaults, Recipe, [f"{key}=3"])
    assert repr(key) in str(caught.value)
    assert f"did you mean {near}" in str(caught.value)
    assert caught.value.pointer == "/" + key.replace(".", "/")


def test_an_unknown_key_of_the_file_is_refused_too(defaults: Path) -> None:
    defaults.write_text("[fit]\nsteps = 3\nzzz = 1\n")
    with pytest.raises(InvalidInput, match=r"'fit\.zzz'; known are"):
        read_recipe(defaults, Recipe)


@pytest.mark.parametrize("override", ["fit.steps=0", "fit.steps=many", "pairs.kind=xx", "fit=3", "name.inner=3"])
def test_a_value_that_does_not_fit_names_its_key(override: str, defaults: Path) -> None:
    with pytest.raises(InvalidInput, match=override.partition("=")[0].split(".")[0]):
        read_recipe(defaults, Recipe, [override])


def test_a_resolved_recipe_reads_back_equal(tmp_path: Path) -> None:
    recipe = Recipe(
        name='quote " back \\ line\n bell \x07 delete \x7f ü',
        rates=(1e-5, 3.0, 1e22),
        cap=7,
        fit=FitConfig(steps=3, ema=0.5, best="nDCG@10"),
        pairs=Pairs(shares={"a.b": 0.1, "c d": 2.0}),
    )
    path = tmp_path / "recipe.toml"
    path.write_text(as_toml(recipe), encoding="utf-8")
    assert read_recipe(path, Recipe) == recipe


def test_none_where_the_default_is_a_number_is_kept(tmp_path: Path) -> None:
    recipe = Recipe(name="none", cap=None, fit=FitConfig(steps=3, ema=None))
    path = tmp_path / "recipe.toml"
    path.write_text(as_toml(recipe), encoding="utf-8")
    assert read_recipe(path, Recipe) == recipe


def test_a_run_folder_says_what_the_run_was_made_of(tmp_path: Path, defaults: Path) -> None:
    recipe, run = read_recipe(defaults, Recipe), tmp_path / "run"
    hashes = data_hashes({"defaults": defaults})
    open_run(run, recipe, hashes, resume=False)
    assert read_recipe(run / RECIPE_FILE, Recipe) == recipe
    assert read_run(run)["data"] == hashes
    assert len(hashes["defaults"]) == 64
    assert set(json.loads((run / "run.json").read_text())) == {"commit", "data", "facetrail", "machine"}
    open_run(run, recipe, hashes, resume=True)


def test_a_run_is_resumed_with_its_own_recipe_and_data_only(tmp_path: Path, defaults: Path) -> None:
    recipe, run = read_recipe(defaults, Recipe), tmp_path / "run"
    open_run(run, recipe, {"cacm": "a" * 64}, resume=True)
    with pytest.raises(Conflict, match="--resume"):
        open_run(run, recipe, {"cacm": "a" * 64}, resume=False)
    with pytest.raises(Conflict, match=r"fit\.steps: 10 → 11"):
        open_run(run, read_recipe(defaults, Recipe, ["fit.steps=11"]), {"cacm": "a" * 64}, resume=True)
    with pytest.raises(Conflict, match="other data \\(cacm\\)"):
        open_run(run, recipe, {"cacm": "b" * 64}, resume=True)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, defaults: Path) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(Conflict, match="other files"):
        open_run(tmp_path, read_recipe(defaults, Recipe), {}, resume=True)
    assert sorted(tmp_path.iterdir()) == before


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none\.jsonl"):
        data_hashes({"none": tmp_path / "none.jsonl"})
    with pytest.raises(NotFound, match=r"run\.json"):
        read_run(tmp_path)
    with pytest.raises(NotFound, match=r"none\.toml"):
        read_recipe(tmp_path / "none.toml", Recipe)


def test_differences_are_by_dotted_key(defaults: Path) -> None:
    one = read_recipe(defaults, Recipe)
    other = read_recipe(defaults, Recipe, ["pairs.kind=qd", "fit.ema=0.5"])
    assert differences(one, other) == ["fit.ema: 0.999 → 0.5", "pairs.kind: 'dd' → 'qd'"]
    assert differences(one, one) == []


class Agent(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int | None = 1
    fit: FitConfig


class Team(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    agents: dict[str, Agent]


def test_sections_under_names_of_the_recipes_own_are_known_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "team.toml"
    path.write_text("[agents.A.fit]\nsteps = 3\n")
    team = read_recipe(path, Team, ["agents.A.seed=none", "agents.B={ fit = { steps = 4 } }"])
    assert (team.agents["A"].seed, team.agents["B"].fit.steps) == (None, 4)
    path.write_text(as_toml(team))
    assert read_recipe(path, Team) == team
    with pytest.raises(InvalidInput, match=r"no key 'agents\.A\.sede'"):
        read_recipe(path, Team, ["agents.A.sede=2"])
