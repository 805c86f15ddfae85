"""Which split an item belongs to: decided by the item alone, so that no seed can let splits meet."""

import hashlib
from typing import Literal, cast, get_args

from facetrail.models.errors import InvalidInput

Split = Literal["train", "dev", "test"]


def open_split(name: str) -> Split:
    """Raises InvalidInput for an unknown split."""
    if name not in get_args(Split):
        raise InvalidInput(f"there is no split {name!r}; use one of {', '.join(get_args(Split))}", pointer="/split")
    return cast(Split, name)


def split_of(key: str, *, dev: float = 0.1, test: float = 0.1) -> Split:
    """The split of an item, by the hash of what makes it the item it is; dev and test are shares of all items."""
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    if place < test:
        return "test"
    return "dev" if place < test + dev else "train"
