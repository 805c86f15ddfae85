"""From a name to a language model: `smollm2`, a folder, or a server's URL."""

from pathlib import Path

from facetrail.models.checkpoint import MANIFEST_FILE
from facetrail.models.errors import InvalidInput, NotFound
from facetrail.models.language.causal import LocalPolicy, TinyPolicy
from facetrail.models.language.causal_policy import CausalPolicy
from facetrail.models.language.endpoint import EndpointModel
from facetrail.models.language.huggingface import AdapterConfig
from facetrail.models.language.policy import LanguageModel
from facetrail.models.language.smollm2 import NAME, smollm2_folder


def open_language_model(
    name: str, *, model: str = "", api_key: str = "", timeout: float = 60.0, device: str = "cpu"
) -> LanguageModel:
    """The language model of a name; its `kind` says which of the three it is.

    model, api_key, timeout (seconds): of a server, which needs the first · device: of weights that are here. Raises
    NotFound for a name that means nothing, and whatever opening that kind raises.
    """
    if name.startswith(("http://", "https://")):
        return EndpointModel(name, model=model, api_key=api_key, timeout=timeout)
    return open_policy(name, device=device)


def open_policy(name: str, *, adapter: AdapterConfig | Path | None = None, device: str = "cpu") -> CausalPolicy:
    """Like `open_language_model`, for what can be trained: `smollm2`, or a folder of the tiny kind or transformers.

    adapter: of a transformers model, a new one or the folder of a saved one.
    """
    if name.startswith(("http://", "https://")):
        raise InvalidInput(f"the weights behind {name} are not here, so it cannot be trained; use a folder or {NAME!r}")
    if name == NAME:
        return LocalPolicy.open(smollm2_folder(), adapter=adapter, device=device, name=NAME)
    folder = Path(name).expanduser()
    if name.strip() and (folder / MANIFEST_FILE).is_file():
        if adapter is not None:
            raise InvalidInput(f"{folder} holds a tiny model, which trains whole; leave the adapter out")
        return TinyPolicy.open(folder, device=device)
    if name.strip() and (folder / "config.json").is_file():
        return LocalPolicy.open(folder, adapter=adapter, device=device)
    raise NotFound(
        f"there is no language model {name!r}; use {NAME!r}, the folder of a trained or transformers model, or the "
        "http(s) URL of a server"
    )
