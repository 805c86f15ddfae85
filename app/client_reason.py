"""What the client reads of an answer as it is written."""

from collections.abc import Iterator

from facetrail.app.client_http import Connection, ServiceProblem
from facetrail.app.reason_schemas import AnswerCitationShape, AnswerShape
from facetrail.app.shapes import Shape
from facetrail.models.errors import Unavailable


class RetrievedShape(Shape):
    """The passages that the model is about to read; their quotes come with the answer."""

    citations: list[AnswerCitationShape]


class TokenShape(Shape):
    """The next part of the answer; all parts together are its text."""

    text: str


ReasonEvent = RetrievedShape | TokenShape | AnswerShape
SHAPES: dict[str, type[RetrievedShape] | type[TokenShape] | type[AnswerShape]] = {
    "retrieved": RetrievedShape,
    "token": TokenShape,
    "done": AnswerShape,
}


def reason_events(connection: Connection, body: object) -> Iterator[ReasonEvent]:
    """The events of one streamed answer, the whole answer last.

    Raises as `Connection.ask`, at whatever event it happens, and Unavailable where the answer breaks off.
    """
    with connection.events("/v1/reason", body) as events:
        for name, data in events:
            if name == "error":
                raise ServiceProblem.of(int(data["status"]), data)
            yield SHAPES[name].model_validate(data)
            if name == "done":
                return
    raise Unavailable("the answer broke off before its end; ask again")
