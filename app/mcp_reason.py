"""The tool `reason`: an answer by the language model that the service's settings name, with checked citations."""

from typing import Any

from pydantic import BaseModel, Field

from facetrail.app.mcp_tools import Arguments, Condition, Tool, Weights
from facetrail.app.settings import Settings
from facetrail.app.speaking import Speaking
from facetrail.indexing.answering import Answering
from facetrail.indexing.reason_request import MAX_PASSAGES, Answer, ReasonRequest
from facetrail.indexing.searcher import Searcher


class ReasonArguments(Arguments):
    """Of `reason`."""

    question: str = Field(min_length=1, max_length=10_000)
    limit: int = Field(default=5, ge=1, le=MAX_PASSAGES, description="How many passages to read.")
    max_tokens: int = Field(default=256, ge=1, le=4_096, description="The most that the answer may have.")
    facets: dict[str, float] | None = Weights
    filter: dict[str, Any] | None = Condition


class Cited(BaseModel):
    """A document that the answer rests on."""

    number: int = Field(description="As the answer names it, in brackets.")
    id: str
    title: str
    passage: str = Field(description="The sentence that says most of what is cited, word for word.")


class ReasonAnswer(BaseModel):
    """Of `reason`."""

    answer: str
    is_answered: bool = Field(description="False: nothing relevant was found, or the model does not know.")
    citations: list[Cited]
    unsupported: list[str] = Field(description="Sentences of the answer that no cited passage supports.")
    model: str = Field(description="Which model wrote it.")
    limits: str = Field(description="What held for this answer.")


def reason_tool(searcher: Searcher, settings: Settings) -> Tool:
    """The tool over an open collection. The model is loaded at the first question."""
    speaking = Speaking(settings)

    def run(given: ReasonArguments) -> ReasonAnswer:
        answering = Answering(
            searcher,
            speaking.speaker(),
            prompt_tokens=settings.language_prompt_tokens,
            timeout=settings.language_timeout,
        )
        return _told(answering.answer(ReasonRequest(**given.model_dump(exclude_unset=True))))

    return Tool(
        "reason",
        "Answers a question from the collection's documents with a small language model, in seconds: the answer, the "
        "passages it cites, and the sentences that no passage supports. To judge for yourself, use `search` instead.",
        ReasonArguments,
        ReasonAnswer,
        run,
    )


def _told(answer: Answer) -> ReasonAnswer:
    return ReasonAnswer(
        answer=answer.answer,
        is_answered=answer.is_answered,
        citations=[Cited(number=c.number, id=c.id, title=c.title, passage=c.quote) for c in answer.citations],
        unsupported=[sentence.text for sentence in answer.sentences if not sentence.is_supported],
        model=answer.model.name,
        limits=answer.model.limits,
    )
