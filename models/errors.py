"""The errors a caller is expected to handle.

Every message is one sentence or two that names the cause and the cure. The command line turns a class into an exit
code and the service into an HTTP status; both tables stand in `facetrail.app.errors`, so that this tree knows neither.
"""


class FacetrailError(Exception):
    """Base of every error that is not a bug."""


class InvalidInput(FacetrailError):
    """What was asked cannot be done as asked: a wrong value, field, file or combination.

    `pointer` names the offending field as a JSON pointer (`/filter/must/0/range`), empty where there is none.
    """

    def __init__(self, message: str, *, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer


class NotFound(FacetrailError):
    """A named thing (path, collection, document, data set) does not exist."""


class Conflict(FacetrailError):
    """The state of the collection forbids it: another writer, another encoder, a target that already exists."""


class Gone(Conflict):
    """A cursor or generation that existed has been replaced."""


class Damaged(FacetrailError):
    """Stored bytes are not what was written. Nothing is wiped; the message says which file and how to rebuild it."""


class Unavailable(FacetrailError):
    """A part that the request needs is not installed, not loaded or too busy at present."""
