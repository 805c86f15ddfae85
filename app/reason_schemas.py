"""What requests for answers and conversations bring, and the shapes of what comes back."""

from typing import Literal

from pydantic import ConfigDict, Field

from facetrail.app.schemas import COLLECTION, Body
from facetrail.app.shapes import Shape
from facetrail.indexing.reason_request import ReasonRequest


class ReasonBody(ReasonRequest):
    """One question, answered from the collection with checked citations."""

    model_config = ConfigDict(
        allow_inf_nan=False,
        json_schema_extra={
            "examples": [
                {"question": "does contrastive training help when labels are scarce?", "limit": 3},
                {"question": "how are citations predicted", "facets": {"method": 1.0}, "stream": True},
                {"question": "why these?", "about": "recommendations", "user": "ann"},
            ]
        },
    )

    stream: bool = Field(
        default=False, description="True: server-sent events `retrieved`, `token`, `done` and, where it fails, `error`."
    )
    collection: str | None = Field(default=None, description=COLLECTION)


class AnswerSentenceShape(Shape):
    """Characters [start, end) of the answer. `is_supported` compares words with the cited passages.

    `attributed` says who put the citations there: the model, or the check afterwards.
    """

    text: str
    start: int
    end: int
    is_supported: bool
    citations: list[int]
    attributed: Literal["model", "afterwards"] | None


class AnswerCitationShape(Shape):
    """A cited passage; `quote` is characters [start, end) of its text, the sentence that says most of what is cited."""

    number: int
    id: str
    title: str
    quote: str
    start: int
    end: int
    score: float


class AnswerModelShape(Shape):
    """Which model spoke, the most tokens it reads and writes, and what held for this answer."""

    name: str
    kind: Literal["local", "endpoint", "tiny"]
    context: int
    limits: str


class AnswerShape(Shape):
    """An answer and its checked citations.

    `is_answered` is false where nothing relevant was retrieved or the model does not know. `dropped`: ids of passages
    that were retrieved and are not in the prompt.
    """

    answer: str
    is_answered: bool
    sentences: list[AnswerSentenceShape]
    citations: list[AnswerCitationShape]
    model: AnswerModelShape
    dropped: list[str]
    took_ms: float


class TextPart(Body):
    """A part of a message; text is the only kind that is read here."""

    type: Literal["text"]
    text: str


class ChatMessage(Body):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    @property
    def text(self) -> str:
        """The content, its parts one below the other."""
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)


class StreamOptions(Body):
    """What a stream tells beside the text."""

    include_usage: bool = False


class ChatBody(Body):
    """The request of OpenAI's `/v1/chat/completions`, as far as it is about text."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "smollm2", "messages": [{"role": "user", "content": "Greet me."}], "max_tokens": 16}]
        }
    )

    model: str = Field(description="One that GET /v1/models lists.")
    messages: list[ChatMessage] = Field(min_length=1, max_length=1_000)
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1, description="Left out: 512, or what the context has room for.")
    max_completion_tokens: int | None = Field(default=None, ge=1, description="The newer name of the same.")
    n: Literal[1] | None = Field(default=None, description="One answer a request.")
    stop: str | list[str] | None = Field(default=None, description="Up to four texts that end the answer before them.")
    seed: int | None = Field(default=None, ge=0, lt=2**63, description="Left out: 0, so equal requests repeat.")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None


class ChatMessageShape(Shape):
    """The answer."""

    role: Literal["assistant"]
    content: str


class ChatChoiceShape(Shape):
    """The one choice."""

    index: int
    message: ChatMessageShape
    finish_reason: Literal["stop", "length"]


class ChatUsageShape(Shape):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatShape(Shape):
    """OpenAI's answer; `usage` is null where a server behind this one does not tell."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoiceShape]
    usage: ChatUsageShape | None


class ModelShape(Shape):
    """A model by name; `created` is 0, since nobody knows."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelsShape(Shape):
    """The language model that answers here."""

    object: Literal["list"]
    data: list[ModelShape]
