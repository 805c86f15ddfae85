"""What whoever asks wants of the hints: which relations may be looked at, and which hints are shown and read. Ours.

A denied relation is gone before anything is counted or selected, for attributes about people can be sensitive; the
number, side and polarity of hints are a matter of showing, and the order of items without a language model is not
theirs to change.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.hint_prompts import Asked
from facetrail.models.recommend.hint_text import Hint, Polarity
from facetrail.models.recommend.knowledge import Attributes


@dataclass(frozen=True, slots=True)
class HintChoice:
    """most: hints of each side, None: as many as the network selects · relations, by readable name: `allow` empty
    allows all, and `deny` wins over it.
    """

    most: int | None = None
    sides: Literal["item", "user", "both"] = "both"
    polarity: Polarity | Literal["both"] = "both"
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    def seen(self, attributes: Attributes) -> Attributes:
        """What may be looked at. Raises InvalidInput for a relation that is none of theirs."""
        if not self.allow and not self.deny:
            return attributes
        names = attributes.relation_names
        known = {name for name in names if name is not None}
        for field, wanted in (("relations_allow", self.allow), ("relations_deny", self.deny)):
            if unknown := sorted(set(wanted) - known):
                raise InvalidInput(
                    f"the model of hints knows no relation {unknown[0]!r}; it knows {', '.join(sorted(known))}",
                    pointer=f"/hints/{field}",
                )
        return attributes.only(
            np.array([name not in self.deny and (not self.allow or name in self.allow) for name in names])
        )

    def kept(self, asked: Asked) -> Asked:
        """With the hints that are wanted, the most credible of each side."""

        def wanted(hints: tuple[Hint, ...]) -> tuple[Hint, ...]:
            return tuple(one for one in hints if self.polarity in ("both", one.polarity))[: self.most]

        hints = asked.hints
        item = wanted(hints.item) if self.sides != "user" else ()
        user = wanted(hints.user) if self.sides != "item" else ()
        return replace(asked, hints=replace(hints, item=item, user=user))
