"""What whoever asks wants of the hints: which relations may be looked at, and which hints are shown and read. Ours.

A denied relation is gone before anything is counted or selected, for attributes about people can be sensitive, and so
is a muted attribute. What is told of an attribute counts like events, at once and for this request alone: nothing is
fitted or stored, so that leaving it out takes it back. The number, side and polarity of hints are a matter of showing,
and the order of items without a language model is not theirs to change.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.hint_prompts import Asked
from facetrail.models.recommend.hint_statistics import Told
from facetrail.models.recommend.hint_text import Hint, Polarity
from facetrail.models.recommend.knowledge import Attributes

Verdict = Literal["likes", "dislikes", "mute"]


@dataclass(frozen=True, slots=True)
class HintFeedback:
    """What a user says of an attribute, by its readable names. `mute`: it is neither counted nor selected nor shown."""

    relation: str
    value: str
    verdict: Verdict


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
    feedback: tuple[HintFeedback, ...] = ()

    def seen(self, attributes: Attributes) -> Attributes:
        """What may be looked at. Raises InvalidInput for a relation or an attribute that is none of theirs."""
        muted = self._numbers(attributes, ("mute",))
        if not self.allow and not self.deny and not muted:
            return attributes
        names = attributes.relation_names
        known = {name for name in names if name is not None}
        for field, wanted in (("relations_allow", self.allow), ("relations_deny", self.deny)):
            if unknown := sorted(set(wanted) - known):
                raise InvalidInput(
                    f"the model of hints knows no relation {unknown[0]!r}; it knows {', '.join(sorted(known))}",
                    pointer=f"/hints/{field}",
                )
        kept = np.array([name not in self.deny and (not self.allow or name in self.allow) for name in names])
        kept[list(muted)] = False
        return attributes.only(kept)

    def told(self, user: int, attributes: Attributes) -> Told | None:
        """What the user likes and dislikes in so many words; the last word on one holds. attributes: `seen`."""
        found = self._numbers(attributes, ("likes", "dislikes"))
        there = set(attributes.rows.tolist()) if found else set()  # a denied one may not come back by being liked
        found = {number: verdict for number, verdict in found.items() if number in there}
        signs = [1.0 if verdict == "likes" else -1.0 for verdict in found.values()]
        return Told(user, np.array(list(found), np.int64), np.array(signs)) if found else None

    def _numbers(self, attributes: Attributes, verdicts: tuple[Verdict, ...]) -> dict[int, Verdict]:
        """Attribute → its last verdict, if it is among these. An attribute under one name may be several."""
        if not self.feedback:
            return {}
        of_name: dict[tuple[str | None, str | None], list[int]] = {}
        for number, name in enumerate(zip(attributes.relation_names, attributes.tail_names, strict=True)):
            of_name.setdefault(name, []).append(number)
        found: dict[int, Verdict] = {}
        for place, one in enumerate(self.feedback):
            numbers = of_name.get((one.relation, one.value))
            if numbers is None:
                raise InvalidInput(
                    f"the model of hints knows no attribute '{one.relation}: {one.value}'; give relation and value as "
                    "its hints show them",
                    pointer=f"/hints/feedback/{place}",
                )
            found |= dict.fromkeys(numbers, one.verdict)
        return {number: verdict for number, verdict in found.items() if verdict in verdicts}

    def kept(self, asked: Asked) -> Asked:
        """With the hints that are wanted, the most credible of each side."""

        def wanted(hints: tuple[Hint, ...]) -> tuple[Hint, ...]:
            return tuple(one for one in hints if self.polarity in ("both", one.polarity))[: self.most]

        hints = asked.hints
        item = wanted(hints.item) if self.sides != "user" else ()
        user = wanted(hints.user) if self.sides != "item" else ()
        return replace(asked, hints=replace(hints, item=item, user=user))
