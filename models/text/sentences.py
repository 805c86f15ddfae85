"""Where the sentences of a text are: rules for scientific prose, and for scripts with stops of their own.

One pass over the stops, each judged by the word before and the character after, so time grows with the text's length
alone. What rules cannot know ("vitamin C. Deficiency") is decided for the split that is right more often.
"""

import re
from collections.abc import Iterator

SPLITTER_VERSION = 1
"""Raised when a rule changes: encoders with facets see documents by their sentences."""
LINE_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_LINE = re.compile(f"[^{LINE_BREAKS}]+")
_CLOSING = "\"'”’»)\\]}"
# No part of the pattern can give back what it took, so there is nothing to backtrack over.
_STOP = re.compile(rf"(?P<wide>[。！？｡]+[」』】）”’]*)|[.!?…؟।]+[{_CLOSING}]*")
_SPACE = re.compile(r"\s*")
_WORD = re.compile(r"[A-Za-z]+")
_OPENING = "\"'“‘«([{¿¡•©†"
_LOOK_BACK = 24
"""Characters before a stop that can hold its word: longer than any abbreviation."""
_BEFORE_WORD = re.compile(rf"[\s{re.escape(_OPENING)}]")
_INITIALS = re.compile(r"[^\W\d_](?:\.-?[^\W\d_])*")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NEVER_LAST = _words(
    "e.g i.e eg ie vs cf viz dr prof mr mrs ms st approx ca resp esp incl excl wrt w.r.t a.k.a gen rev hon sr"
)
"""Abbreviations that always have something after them."""
_BEFORE_NUMBER = _words(
    "fig figs eq eqs eqn no nos sec sect ref refs vol vols p pp ch chap tab def thm alg app art ser pt jan feb mar apr "
    "jun jul aug sep sept oct nov dec"
)
"""Abbreviations when a number follows, else possibly the last word of a sentence."""
_STARTERS = _words(
    "A All Although An And As At Based Both But By Each Experimental Finally First For From Further Furthermore Given "
    "Hence Here How However If In It Its Many More Moreover Most On One Our Recent Recently Results Second Several "
    "Since Some Such That The Their Then There Therefore These They This Those Thus To Two Under Unlike Using We What "
    "When Where Whereas Which While With You"
)
"""Words that, capitalised, begin a sentence rather than a name."""


def split_sentences(text: str) -> list[tuple[int, int]]:
    """Characters [start, end) of each sentence, in order: never empty, without outer space, covering all other text."""
    return list(sentences(text))


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """`split_sentences` one at a time, for those who need only the beginning."""
    for line in _LINE.finditer(text):
        start, line_end = _space_end(text, line.start(), line.end()), line.end()
        while line_end > start and text[line_end - 1].isspace():
            line_end -= 1
        for stop in _STOP.finditer(text, start, line_end):
            # Stops inside what already began the next sentence ("... 'No.'") lie behind `start` and are judged there.
            if stop.start() < start or stop.end() >= line_end:
                continue
            following = _space_end(text, stop.end(), line_end)
            if stop["wide"] or (following > stop.end() and _ends(text, start, stop, following)):
                yield start, stop.end()
                start = following
        if start < line_end:
            yield start, line_end


def _space_end(text: str, start: int, end: int) -> int:
    found = _SPACE.match(text, start, end)
    return found.end() if found else start


def _ends(text: str, start: int, stop: re.Match[str], following: int) -> bool:
    """Whether a stop that has a space behind it ends the sentence that began at `start`."""
    after = text[following]
    if not (after.isdigit() or after in _OPENING or (after.isalpha() and not after.islower())):
        return False
    if stop.group() != ".":
        return True
    begin = max(start, stop.start() - _LOOK_BACK)
    word = _BEFORE_WORD.split(text[begin : stop.start()])[-1].strip(",;:")
    is_first = begin + len(word) == stop.start() and begin == start
    return not _goes_on(word, is_first, text, following)


def _goes_on(word: str, is_first: bool, text: str, following: int) -> bool:
    """Whether the stop after `word` belongs to an abbreviation, an initial or the number of a list."""
    lower = word.lower()
    if lower in _NEVER_LAST or (is_first and word.isdigit() and len(word) <= 3):
        return True
    if lower in _BEFORE_NUMBER and (text[following].isdigit() or text[following] in "(["):
        return True
    if lower == "al" and not text[following].isalpha():
        return True
    if lower == "al" or (_INITIALS.fullmatch(word) and word[-1].isupper()):
        begins = _WORD.match(text, following)
        return begins is not None and begins.group() not in _STARTERS
    return False
