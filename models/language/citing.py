"""Checking an answer against the passages it was made from: citations, quotations, and what carries each sentence.

Ours throughout. The rule of support is lexical: a sentence is supported by the passages it cites where they hold at
least `SUPPORT` of its content words (stems, without function words), each of its numbers, and each of its quotations
word by word. It knows nothing of negation and of who did what to whom: of SciFact's claims it accepts 74 % of 300 with
the abstract that supports them, 79 % of 150 with one that contradicts them, none of 120 with an abstract at random, and
48 % of 120 with the likest of all 5,183 others. It says whether the words were read, not whether they are true.
A sentence without a citation is given, afterwards, that of the passage that holds most of it, if that one supports it;
the answer says which citations are of which kind.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from facetrail.models.language.grounding import Passage, neutral
from facetrail.models.text.sentences import split_sentences

SUPPORT = 0.6
"""Share of a sentence's content words that its passages must hold."""
LONGEST_CITATION = 40

_CITATION = re.compile(r"[\[【]([\d\s,;]{1,40})[\]】]")
_CHECKED = re.compile(r"\[((?:\d+|\?)(?:, (?:\d+|\?))*)\]")
_OPENING = re.compile(rf"[\[【][\d\s,;]{{0,{LONGEST_CITATION}}}$")
_NAMED = re.compile(r"\b(?:passages?|sources?|documents?|references?) (?:no\.? |number )?\[?(\d{1,4})\b", re.IGNORECASE)
_QUOTED = re.compile(r"[\"“”]([^\"“”]{2,600})[\"“”]")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_WORD = re.compile(r"\w+(?:[.,]\d+)*")
_FUNCTION_WORDS = frozenset(
    """
    a about after all also although an and any are as at be because been before being between both but by can
    could did do does doing down during each either few for from further had has have having he her here his how
    however i if in into is it its itself just may me might more most much must my no nor not of off on once one
    only or other our out over own passage passages she should since so some such than that the their them then
    there these they this those through to too under until up upon us very was we were what when where whether
    which while who whom whose why will with within without would yet you your
    """.split()  # noqa: SIM905 - a hundred quotation marks read worse
)

Attributed = Literal["model", "afterwards"]


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of an answer, characters [start, end) of it, and what carries it.

    attributed: who put the citations there, the model or this module; None where there are none.
    """

    text: str
    start: int
    end: int
    is_supported: bool
    citations: tuple[int, ...]
    attributed: Attributed | None


@dataclass(frozen=True, slots=True)
class Citation:
    """A cited passage; `quote` is the sentence of it that says most of what is cited, characters [start, end)."""

    number: int
    id: str
    title: str
    quote: str
    start: int
    end: int
    score: float


class CitationFilter:
    """Lets an answer through piece by piece; a citation of a passage that does not exist becomes `[?]`.

    Whatever the pieces, what comes out is `checked_citations` of the whole.
    """

    def __init__(self, n_passages: int) -> None:
        self._n_passages = n_passages
        self._held = ""

    def feed(self, text: str) -> str:
        """What can be said by now: all but the beginning of a possible citation."""
        text = self._held + text
        opening = _OPENING.search(text)
        place = opening.start() if opening else len(text)
        self._held = text[place:]
        return checked_citations(text[:place], self._n_passages)

    def close(self) -> str:
        """The rest."""
        rest, self._held = self._held, ""
        return checked_citations(rest, self._n_passages)


def checked_citations(text: str, n_passages: int) -> str:
    """The text with its citations in one form, `[1, 2]`, and `?` for every number that is no passage's."""

    def checked(found: re.Match[str]) -> str:
        numbers = [int(number) for number in re.findall(r"\d+", found.group(1))]
        said = [str(number) if 1 <= number <= n_passages else "?" for number in numbers]
        return f"[{', '.join(dict.fromkeys(said))}]" if said else found.group()

    return _CITATION.sub(checked, text)


def check_answer(answer: str, passages: Sequence[Passage]) -> tuple[list[Sentence], list[Citation]]:
    """Every sentence with its citations, and the passages cited, by number.

    answer: after the `CitationFilter` · passages: those in the prompt, numbered from 1 without gaps.
    """
    by_number = {passage.number: passage for passage in passages}
    words = {number: _Words.of(_read(passage)) for number, passage in by_number.items()}
    found: list[Sentence] = []
    quotes: dict[int, tuple[float, tuple[int, int]]] = {}
    for start, end in sentence_spans(answer):
        text = answer[start:end]
        said = _Words.of(_CHECKED.sub(" ", text))
        written = tuple(dict.fromkeys(n for n in cited_numbers(text) if n in by_number))
        numbers, attributed = written, "model" if written else None
        if not written and (best := _best(said, words)):
            numbers, attributed = (best,), "afterwards"
        is_supported = _is_supported(text, said, [words[n] for n in numbers], [by_number[n] for n in numbers])
        if attributed == "afterwards" and not is_supported:
            numbers, attributed = (), None
        found.append(Sentence(text, start, end, is_supported, numbers, attributed))  # type: ignore[arg-type]
        for number in numbers:
            quotes[number] = max(quotes.get(number, (-1.0, (0, 0))), _best_span(said, by_number[number]))
    citations = [_citation(by_number[number], span) for number, (_, span) in sorted(quotes.items())]
    return found, citations


def sentence_spans(answer: str) -> list[tuple[int, int]]:
    """Characters [start, end) of an answer's sentences; citations behind a full stop belong to what they follow."""
    spans: list[tuple[int, int]] = []
    for start, end in split_sentences(answer):
        leading = re.match(rf"(?:{_CHECKED.pattern}\s*)+", answer[start:end])
        if leading and spans and not _CHECKED.search(answer, *spans[-1]):
            spans[-1] = (spans[-1][0], start + len(leading.group().rstrip()))
            start += leading.end()
        if start < end:
            spans.append((start, end))
    return spans


def cited_numbers(text: str) -> list[int]:
    """The numbers in the citations of a checked text, in order."""
    return [int(number) for found in _CHECKED.finditer(text) for number in re.findall(r"\d+", found.group(1))]


def content_words(text: str) -> frozenset[str]:
    """Stems of the words that say something: neither function words nor single letters. Numbers stay as they are."""
    import Stemmer

    words = _WORD.findall(unicodedata.normalize("NFKC", text).lower())
    kept = [w for w in words if w not in _FUNCTION_WORDS and (len(w) > 1 or w.isdigit() or not w.isascii())]
    return frozenset(Stemmer.Stemmer("porter").stemWords(kept))


def share_held(words: frozenset[str], others: frozenset[str]) -> float:
    """Share of the words that are among the others; 0 of no words."""
    return len(words & others) / len(words) if words else 0.0


@dataclass(frozen=True, slots=True)
class _Words:
    content: frozenset[str]
    numbers: frozenset[str]

    @classmethod
    def of(cls, text: str) -> "_Words":
        # 1,080 and 1080 are one number; 0.5 and 5 are two.
        numbers = (re.sub(r",(?=\d{3}\b)", "", number).rstrip(".,") for number in _NUMBER.findall(text))
        return cls(content_words(text), frozenset(numbers))


def _read(passage: Passage) -> str:
    return f"{passage.title}\n{passage.shown}"


def _best(said: _Words, words: dict[int, _Words]) -> int | None:
    """The passage that holds most of what is said, of equals the better ranked; None where none holds enough."""
    shares = {n: share_held(said.content, held.content) for n, held in words.items() if said.numbers <= held.numbers}
    best = max(shares, key=lambda n: (shares[n], -n), default=None)
    return best if best is not None and shares[best] >= SUPPORT else None


def _is_supported(text: str, said: _Words, held: Sequence[_Words], passages: Sequence[Passage]) -> bool:
    if not held or "?" in "".join(_CHECKED.findall(text)):
        return False
    numbers = {passage.number for passage in passages}
    if any(int(named) not in numbers for named in _NAMED.findall(text)):
        return False
    named = {str(n) for n in map(int, _NAMED.findall(text))}
    content = frozenset[str]().union(*(words.content for words in held))
    if not said.numbers - named <= frozenset[str]().union(*(words.numbers for words in held)):
        return False
    sources = [_plain(_read(passage)) for passage in passages]
    quotations = [_plain(quoted).rstrip(".,;: ") for quoted in _QUOTED.findall(text)]
    if not all(any(quoted in source for source in sources) for quoted in quotations):
        return False
    return share_held(said.content - named, content) >= SUPPORT


def _plain(text: str) -> str:
    """What a quotation may differ in from its source: case, spaces, and what the prompt's neutral form changed."""
    return re.sub(r"\s+", " ", _CHECKED.sub("", neutral(text))).strip().casefold()


def _best_span(said: _Words, passage: Passage) -> tuple[float, tuple[int, int]]:
    """The sentence of the passage with most of what is said, the first of equals, and its share."""
    shares = [share_held(said.content, content_words(passage.text[a:b])) for a, b in passage.spans]
    best = max(shares, default=0.0)
    return best, passage.spans[shares.index(best)] if shares else (0, 0)


def _citation(passage: Passage, span: tuple[int, int]) -> Citation:
    start, end = span
    return Citation(passage.number, passage.id, passage.title, passage.text[start:end], start, end, passage.score)
