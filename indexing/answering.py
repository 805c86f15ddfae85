"""Answers questions from a collection: retrieves, lets a language model speak, checks what it said.

What counts as relevant is decided before the model is asked. A retrieved document is read where it holds at least
`WORDS_HELD` of the question's content words, or where the encoder puts it at least `COSINE` near; with neither the
answer is "I don't know." and no model is asked. On the built-in sample with the default encoder this keeps the best
document of 92 % of its 38 queries (words alone: 63 %), and finds something for 15 % of 40 claims of SciFact, whose
biomedicine the sample touches, and for one of 8 everyday questions. Of another encoder, whose cosines lie elsewhere,
the threshold is no more than a guess.
"""

import time
from collections.abc import Generator, Mapping, Sequence

from facetrail.indexing.reason_request import (
    Answer,
    AnswerEvent,
    AnswerModel,
    ReasonRequest,
    Retrieved,
    Token,
)
from facetrail.indexing.recommend_request import RecommendRequest
from facetrail.indexing.recommending import Recommending
from facetrail.indexing.request import Hit, SearchRequest
from facetrail.indexing.searcher import Searcher
from facetrail.models.errors import InvalidInput, Unavailable
from facetrail.models.language.citing import Citation, CitationFilter, check_answer, content_words, share_held
from facetrail.models.language.conversation import Message, Piece, Speaker
from facetrail.models.language.grounding import DONT_KNOW, Grounded, Passage, ground
from facetrail.models.language.records import DrawKey, Sampling
from facetrail.models.recommend.records import Recommendation

WORDS_HELD = 0.5
COSINE = 0.35
PROMPT_TOKENS = 1_024
"""Of a prompt, by default: what a small model on two cores reads in about three seconds."""
UNKNOWN = ("i don't know", "i do not know", "i don’t know")


class Answering:
    """Thread-safe as far as the speaker is; every answer is an iterator of its own."""

    def __init__(
        self,
        searcher: Searcher,
        speaker: Speaker,
        *,
        recommending: Recommending | None = None,
        prompt_tokens: int = PROMPT_TOKENS,
        timeout: float = 60.0,
        guarded: bool = True,
    ) -> None:
        """prompt_tokens: the most that a prompt may have, whatever the model could read · timeout: seconds for one
        answer · guarded: False shows the model passages as they are, to measure what the guard is worth.
        """
        self._searcher, self._speaker = searcher, speaker
        self._recommending = recommending or Recommending(searcher)
        self._prompt_tokens, self._timeout, self._guarded = prompt_tokens, timeout, guarded

    def answer(self, request: ReasonRequest) -> Answer:
        """The whole answer. Raises what `events` does."""
        last = None
        for event in self.events(request):
            last = event or last
        assert isinstance(last, Answer)
        return last

    def events(self, request: ReasonRequest) -> Generator[AnswerEvent | None, None, None]:
        """`Retrieved`, a `Token` for each part of the answer, and the `Answer`; None where the reader may stop.

        Closing the iterator stops the model. A timeout ends an answer where it stands and says so in its limits.
        Raises InvalidInput (a question longer than the prompt may be, what searching and recommending refuse),
        NotFound, Conflict, and Unavailable (a server that is down, slow or talks nonsense; nothing said in time).
        """
        started = time.monotonic()
        room = min(self._prompt_tokens, self._speaker.context - request.max_tokens)
        if room < 1:
            raise InvalidInput(
                f"{self._speaker.name} reads and writes {self._speaker.context:,} tokens together, and an answer of "
                f"{request.max_tokens:,} leaves none for the question; ask for fewer",
                pointer="/max_tokens",
            )
        grounded = ground(
            request.question, self._passages(request), room=room, count=self._speaker.count, guarded=self._guarded
        )
        yield Retrieved([_unquoted(passage) for passage in grounded.passages])
        text, stopped = DONT_KNOW, ""
        if grounded.passages:
            text, stopped = yield from self._spoken(grounded.messages, request, len(grounded.passages), started)
        else:
            yield Token(text)
        yield self._checked(text, grounded, request, stopped, time.monotonic() - started)

    # -- what is read ------------------------------------------------------------------------------------------------

    def _passages(self, request: ReasonRequest) -> list[Passage]:
        if request.about == "recommendations":
            return self._recommended(request)
        if request.user is not None or request.history is not None:
            field = "user" if request.user is not None else "history"
            raise InvalidInput(
                f"`{field}` belongs to questions about recommendations; leave it out or send "
                '"about": "recommendations"',
                pointer=f"/{field}",
            )
        search = SearchRequest(
            query=request.question,
            mode=request.mode,
            facets=request.facets,
            filter=request.filter,
            limit=request.limit,
            explain=True,
        )
        asked = content_words(request.question)
        hits = [hit for hit in self._searcher.search(search).hits if is_relevant(hit, asked)]
        return [
            Passage(number, hit.id, hit.payload.title, hit.payload.text, hit.score)
            for number, hit in enumerate(hits, start=1)
            if hit.payload is not None
        ]

    def _recommended(self, request: ReasonRequest) -> list[Passage]:
        found = self._recommending.recommend(
            RecommendRequest(
                user=request.user, history=request.history, filter=request.filter, limit=request.limit, explain=True
            )
        )
        named = {one.id for one in found.items} | {i for one in found.items for r in one.reasons for i in r.evidence}
        ids = sorted(named)
        documents = self._searcher.collection.get_many(ids)
        titles = {i: document.title for i, document in zip(ids, documents, strict=True) if document is not None}
        return [
            Passage(one.rank, one.id, titles.get(one.id, ""), reasons_in_words(one, titles), one.score)
            for one in found.items
        ]

    # -- what is said ------------------------------------------------------------------------------------------------

    def _spoken(
        self, messages: Sequence[Message], request: ReasonRequest, n_passages: int, started: float
    ) -> Generator[Token | None, None, tuple[str, str]]:
        """The tokens; returns the text, and why it was cut where it was."""
        sampling = Sampling(temperature=request.temperature, max_new_tokens=request.max_tokens)
        through, parts, stopped = CitationFilter(n_passages), list[str](), ""
        pieces = self._speaker.stream(messages, sampling=sampling, key=DrawKey(0, stream="reason"))
        for piece in pieces:
            said = through.feed(piece.text)
            said += through.close() if piece.finish else ""
            parts.append(said)
            yield Token(said) if said else None
            stopped = self._why_cut(piece, started, has_text=any(parts))
            if stopped:
                break
        return "".join(parts), stopped

    def _why_cut(self, piece: Piece, started: float, *, has_text: bool) -> str:
        if piece.finish == "length":
            return "; it was cut at the most tokens it may have"
        if piece.finish is None and time.monotonic() - started > self._timeout:
            if not has_text:
                raise Unavailable(
                    f"{self._speaker.name} said nothing within {self._timeout:g} seconds; ask for less, or give it "
                    "more time"
                )
            return f"; it was cut after {self._timeout:g} seconds"
        return ""

    def _checked(self, text: str, grounded: Grounded, request: ReasonRequest, stopped: str, seconds: float) -> Answer:
        sentences, citations = check_answer(text, grounded.passages)
        is_answered = bool(text.strip()) and not text.strip().lower().startswith(UNKNOWN)
        if not is_answered:
            sentences, citations = [], []
        room = min(self._prompt_tokens, self._speaker.context - request.max_tokens)
        limits = (
            f"it read at most {room:,} tokens and might write {request.max_tokens:,}{stopped}; the check of its "
            "sentences compares words and knows nothing of negation"
        )
        return Answer(
            answer=text,
            is_answered=is_answered,
            sentences=sentences,
            citations=citations,
            model=AnswerModel(self._speaker.name, self._speaker.kind, self._speaker.context, limits),
            dropped=grounded.dropped,
            took_ms=seconds * 1e3,
        )


def is_relevant(hit: Hit, asked: frozenset[str]) -> bool:
    """Whether a hit, with its explanation and payload, may answer a question of these content words."""
    if hit.payload is None:
        return False
    if share_held(asked, content_words(hit.payload.content)) >= WORDS_HELD:
        return True
    sources = hit.explanation.sources if hit.explanation is not None else ()
    return any(s.name != "lexical" and s.raw is not None and s.raw >= COSINE for s in sources)


def reasons_in_words(found: Recommendation, titles: Mapping[str, str]) -> str:
    """What was measured of a recommendation, a sentence each: its place, each source, each reason with its titles."""
    sentences = [f"It is recommended at rank {found.rank} with score {found.score:.4g}."]
    sentences += [f"The scorer {s.name} puts it at rank {s.rank} with score {s.score:.4g}." for s in found.sources]
    for reason in found.reasons:
        known = [f"{i} is {titles[i]}" for i in reason.evidence if titles.get(i)]
        names = f", where {', and '.join(known)}" if known else ""
        sentences.append(f"Its weight is {reason.weight:.4g} {reason.text}{names}.")
    return "\n".join(sentences)


def _unquoted(passage: Passage) -> Citation:
    return Citation(passage.number, passage.id, passage.title, "", 0, 0, passage.score)
