"""From a name to a model that answers in conversation: `smollm2`, a folder, or a server's URL."""

from facetrail.models.language.conversation import Speaker
from facetrail.models.language.endpoint import EndpointModel
from facetrail.models.language.opening import open_policy


def open_speaker(
    name: str, *, model: str = "", api_key: str = "", timeout: float = 60.0, context: int = 4_096
) -> Speaker:
    """The speaker of a name.

    model, api_key, timeout (seconds without a byte), context (tokens): of a server, which needs the first. Raises
    NotFound for a name that means nothing, and whatever opening that kind raises.
    """
    if name.startswith(("http://", "https://")):
        return EndpointModel(name, model=model, api_key=api_key, timeout=timeout, context=context)
    return open_policy(name)
