"""The part of a document's text that is shown for a search: whole sentences with as many of its words as fit."""

from collections.abc import Sequence

from facetrail.indexing.request import Highlight
from facetrail.models.text.sentences import split_sentences

LONGEST = 600
"""Characters; abstracts of three or four sentences."""


def passage_of(text: str, highlights: Sequence[Highlight] = ()) -> str:
    """Neighbouring sentences of up to `LONGEST` characters, those with the most distinct highlighted words; the first
    such, and the beginning where nothing is highlighted. A longer sentence is cut at its end."""
    spans = [(h.start, h.end) for h in highlights if h.field == "text"]
    best, most = (0, 0), -1
    sentences = split_sentences(text)
    for first, (start, end) in enumerate(sentences):
        for _, next_end in sentences[first + 1 :]:
            if next_end - start > LONGEST:
                break
            end = next_end
        n_words = len({text[s:e].lower() for s, e in spans if start <= s and e <= end})
        if n_words > most:
            best, most = (start, end), n_words
    start, end = best
    return text[start : min(end, start + LONGEST)]
