"""What actions mean to a recommender: which events speak for an item, and which are left out of the fit."""

import operator
import re
from collections.abc import Callable, Iterable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.records import Event

_RULE = re.compile(r"(?P<action>.*?)\s*(?:(?P<sign>>=|<=|>|<)\s*(?P<bound>-?\d+(?:\.\d+)?))?", re.DOTALL)
_SIGNS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


def _checked(rule: str) -> str:
    _read(rule)
    return rule


def _read(rule: str) -> tuple[str, str | None, float]:
    """`rating>=4` → ("rating", ">=", 4.0)."""
    found = _RULE.fullmatch(rule.strip())
    if found is None or not found["action"] or any(sign in found["action"] for sign in "<>="):
        raise ValueError(f"{rule!r} is no action; write its name, or a bound on its value as in rating>=4")
    return found["action"], found["sign"], float(found["bound"] or 0)


class Actions(BaseModel):
    """Which events a recommender learns from. Nothing named: all of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    positive: tuple[Annotated[str, AfterValidator(_checked)], ...] = ()
    """Actions that speak for an item: `order`, or with a bound on the value, `rating>=4`."""
    ignored: tuple[str, ...] = ()
    """Actions that mean nothing here. Their items still count as seen."""

    def keeps(self, event: Event) -> bool:
        """Whether an event speaks for its item. An event without a value is within no bound."""
        if not self.positive:
            return event.action not in self.ignored
        for rule in self.positive:
            action, sign, bound = _read(rule)
            if action == event.action and (
                sign is None or (event.value is not None and _SIGNS[sign](event.value, bound))
            ):
                return True
        return False

    @property
    def whatever_their_value(self) -> "Actions":
        """The same without bounds: for what learns from dislikes too."""
        return Actions(positive=tuple(dict.fromkeys(_read(rule)[0] for rule in self.positive)), ignored=self.ignored)

    def require_known(self, actions: Iterable[str]) -> None:
        """Raises InvalidInput for an action that nothing was said about: dropping it silently would hide a typo."""
        if not self.positive:
            return
        named = {*self.ignored, *(_read(rule)[0] for rule in self.positive)}
        unknown = sorted(set(actions) - named)
        if unknown:
            raise InvalidInput(
                f"nothing was said about the actions {', '.join(map(repr, unknown[:5]))}; name each as positive or "
                "ignored, for instance --positive order --ignore view",
                pointer="/history",
            )
