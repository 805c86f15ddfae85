"""Recipes: defaults in a TOML file beside the code, single values changed from the command line."""

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from facetrail.models.errors import InvalidInput, NotFound

Recipe = TypeVar("Recipe", bound=BaseModel)

NOTHING = "none"
"""How a recipe says None, for which TOML has no word; in fields that may be None only."""


def read_recipe(defaults: Path, kind: type[Recipe], overrides: Sequence[str] = ()) -> Recipe:
    """A recipe from its TOML file and `key=value` overrides, the later winning.

    Keys are dotted (`fit.steps=200`), values as TOML writes them; a bare word is a string, `none` None. Raises
    InvalidInput for an unknown key, naming those nearest to it, and for a value that does not fit.
    """
    if not defaults.is_file():
        raise NotFound(f"the recipe {defaults} does not exist; give the path of a recipe's TOML file")
    try:
        values = tomllib.loads(defaults.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInput(f"{defaults} is not TOML ({error}); correct that line") from error
    fields = dict(_fields(kind))
    known = sorted(fields)
    for key in flat(values):
        _refuse_unknown(key, known)
    for override in overrides:
        key, value = parse_override(override)
        _refuse_unknown(key, known)
        _put(values, key, value)
    for key, value in flat(values).items():
        name = _known_as(key, known)
        if value == NOTHING and name is not None and fields[name]:
            _put(values, key, None)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise InvalidInput(
            f"{key}: {problem['msg']} (it is {problem['input']!r}); change it with --set {key}=VALUE",
            pointer="/" + key.replace(".", "/"),
        ) from error


def parse_override(text: str) -> tuple[str, Any]:
    """`fit.steps=200` → ("fit.steps", 200)."""
    key, equals, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not equals or not key or not value:
        raise InvalidInput(f"--set takes key=value, for instance --set fit.steps=200, not {text!r}")
    try:
        parsed = tomllib.loads(f"value = {value}")
    except ValueError:
        return key, value  # a bare word: nobody wants to quote quotes for a shell
    return key, parsed["value"] if parsed.keys() == {"value"} else value


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys: {"fit": {"steps": 3}} → {"fit.steps": 3}. An empty table is a value."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def as_toml(recipe: BaseModel) -> str:
    """A resolved recipe as TOML that `read_recipe` reads back to an equal one."""
    return "".join(_table(recipe.model_dump(mode="json"), ""))


def differences(before: BaseModel, now: BaseModel) -> list[str]:
    """`key: old → new` for every field in which two recipes differ."""
    old, new = flat(before.model_dump(mode="json")), flat(now.model_dump(mode="json"))
    return [
        f"{k}: {old.get(k)!r} → {new.get(k)!r}" for k in sorted(old.keys() | new.keys()) if old.get(k) != new.get(k)
    ]


def _fields(kind: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """(dotted name, whether it may be None) of the fields, those of sections as well.

    A mapping of sections has names of its own, which stand as `*`.
    """
    for name, field in kind.model_fields.items():
        inner = field.annotation
        yield prefix + name, type(None) in get_args(inner)
        if get_origin(inner) is dict:
            inner, name = get_args(inner)[1], f"{name}.*"
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield prefix + name, False
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _fields(inner, f"{prefix}{name}.")


def _known_as(key: str, known: Sequence[str]) -> str | None:
    """The field that a dotted key names, `*` in place of a mapping's own names; None where there is none."""
    parts = key.split(".")
    for name in known:
        pattern = name.split(".")
        if len(pattern) == len(parts) and all(a in ("*", b) for a, b in zip(pattern, parts, strict=True)):
            return name
    return None


def _refuse_unknown(key: str, known: Sequence[str]) -> None:
    parts = key.split(".")
    # A mapping's own keys (data set → share) are its field's business: pydantic judges them.
    outer = [_known_as(".".join(parts[:n]), known) for n in range(1, len(parts))]
    if _known_as(key, known) or any(name and not _is_section(name, known) for name in outer):
        return
    by_last = {name.rpartition(".")[2]: name for name in known if not _is_section(name, known)}
    near = difflib.get_close_matches(key, by_last.values(), n=3, cutoff=0.6)
    near += [by_last[last] for last in difflib.get_close_matches(parts[-1], by_last, n=3, cutoff=0.6)]
    near = list(dict.fromkeys(near))[:3]
    cure = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known)}"
    raise InvalidInput(f"the recipe has no key {key!r}; {cure}", pointer="/" + key.replace(".", "/"))


def _is_section(key: str, known: Sequence[str]) -> bool:
    return any(name.startswith(f"{key}.") for name in known)


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise InvalidInput(f"--set {key}: {section!r} is a single value, not a section; leave out what follows it")
        values = inner
    values[last] = value


def _table(values: Mapping[str, Any], prefix: str) -> Iterator[str]:
    inner = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    for key, value in values.items():
        if key not in inner:
            yield f"{_key(key)} = {_value(value)}\n"
    for key, value in inner.items():
        name = f"{prefix}{_key(key)}"
        yield f"\n[{name}]\n"
        yield from _table(value, f"{name}.")


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    if value is None:
        return json.dumps(NOTHING)
    if isinstance(value, float):
        return repr(value)  # TOML spells inf and nan as Python does
    # JSON's strings, whole numbers and booleans are TOML's; DEL alone must be escaped here and need not be there.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
