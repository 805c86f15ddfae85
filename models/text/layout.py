"""From text to tokens that know their sentence and their paragraph, still without torch.

A paragraph is a line. Content is "title\ntext", so a document of a title and one block of text has two paragraphs: its
title and its abstract. That is wanted: the paragraph granularity then weighs one against the other.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from facetrail.models.text.sentences import LINE_BREAKS, sentences
from facetrail.models.text.tokenise import LocatedTokens, Tokeniser

if TYPE_CHECKING:
    from torch import Tensor

    from facetrail.models.text.unifar import Layout

Span = tuple[int, int]
_LINE_BREAK = re.compile(f"[{LINE_BREAKS}]")


@dataclass(frozen=True, slots=True)
class TokenisedText:
    """Tokens of one text and the sentence and paragraph, counted from 0, that each belongs to.

    ids, sentence, paragraph: (t,) int64, -1 where a token belongs to none (special tokens, the prefix).
    """

    ids: NDArray[np.int64]
    sentence: NDArray[np.int64]
    paragraph: NDArray[np.int64]
    n_sentences: int
    n_paragraphs: int
    spans: list[Span]
    """Characters [start, end) of each sentence in the caller's text; the last reaches to the end of what joined it."""


class LayoutTokeniser:
    """The ids of `Tokeniser`, with sentences and paragraphs; only those that have tokens count."""

    def __init__(
        self,
        path: Path,
        *,
        prefix: str = "",
        max_tokens: int,
        lowercase: bool = False,
        max_sentences: int = 32,
        max_paragraphs: int = 8,
    ) -> None:
        """Later sentences and paragraphs join the last one. Raises Damaged and InvalidInput as `Tokeniser` does."""
        self._tokens = Tokeniser(path, prefix=prefix, max_tokens=max_tokens, lowercase=lowercase)
        self.prefix, self.max_tokens = prefix, max_tokens
        self.max_sentences, self.max_paragraphs = max_sentences, max_paragraphs

    def __call__(self, texts: Sequence[str], spans: Sequence[Sequence[Span]] | None = None) -> list[TokenisedText]:
        """The texts' tokens and layout. `spans`: their sentences where they are known, ordered, without overlap."""
        if spans is not None and len(spans) != len(texts):
            raise ValueError(f"{len(spans)} lists of sentences for {len(texts)} texts")
        located = self._tokens.located(texts)
        known: Iterable[Sequence[Span] | None] = [None] * len(texts) if spans is None else spans
        return [self._lay_out(*parts) for parts in zip(texts, located, known, strict=True)]

    def _lay_out(self, text: str, tokens: LocatedTokens, known: Sequence[Span] | None) -> TokenisedText:
        nowhere = np.full(len(tokens.ids), -1, np.int64)
        # The last character decides: byte-level tokens may begin with the space before their word.
        places = np.maximum(tokens.end - 1, tokens.start)[tokens.is_text]
        spans = _spans_until(text, int(places.max()), known) if len(places) else []
        if not spans:
            return TokenisedText(tokens.ids, nowhere, nowhere, 0, 0, [])
        owner = np.searchsorted([start for start, _ in spans], places, side="right") - 1
        # What has no token (control characters, say) is no sentence, and numbers have no holes.
        kept, numbered = np.unique(np.maximum(owner, 0), return_inverse=True)
        spans = [spans[i] for i in kept]
        lines = _line_numbers(text, spans)
        sentence, paragraph = nowhere, nowhere.copy()
        sentence[tokens.is_text] = np.minimum(numbered, self.max_sentences - 1)
        paragraph[tokens.is_text] = np.minimum(lines[numbered], self.max_paragraphs - 1)
        n_sentences, n_paragraphs = min(len(spans), self.max_sentences), min(int(lines[-1]) + 1, self.max_paragraphs)
        joined = [*spans[: n_sentences - 1], (spans[n_sentences - 1][0], spans[-1][1])]
        return TokenisedText(tokens.ids, sentence, paragraph, n_sentences, n_paragraphs, joined)


def _spans_until(text: str, last: int, known: Sequence[Span] | None) -> list[Span]:
    """Sentences that begin at or before a character; a megabyte is split only as far as it was tokenised."""
    spans = []
    for span in sentences(text) if known is None else known:
        if span[0] > last:
            break
        spans.append(span)
    return spans


def _line_numbers(text: str, spans: Sequence[Span]) -> NDArray[np.int64]:
    """The line that each sentence begins on, counted over lines with sentences only, from 0."""
    breaks = [_LINE_BREAK.search(text, before[0], after[0]) is not None for before, after in pairwise(spans)]
    return np.cumsum([0, *breaks])


def batch_layout(texts: Sequence[TokenisedText], is_question: bool | Sequence[bool]) -> "tuple[Tensor, Layout]":
    """Texts as one padded batch: ids (b, t) int64, padding 0, and where their tokens belong."""
    import torch

    from facetrail.models.text.unifar import Layout

    shape = (len(texts), max((len(text.ids) for text in texts), default=0))
    ids, sentence, paragraph = np.zeros(shape, np.int64), np.full(shape, -1, np.int64), np.full(shape, -1, np.int64)
    lengths = np.asarray([len(text.ids) for text in texts], np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text.ids)] = text.ids
        sentence[row, : len(text.ids)] = text.sentence
        paragraph[row, : len(text.ids)] = text.paragraph
    questions = np.broadcast_to(np.asarray(is_question, bool), shape[:1]).copy()
    layout = Layout(
        mask=torch.from_numpy(np.arange(shape[1]) < lengths[:, None]),
        sentence=torch.from_numpy(sentence),
        paragraph=torch.from_numpy(paragraph),
        n_sentences=torch.tensor([text.n_sentences for text in texts], dtype=torch.int64),
        n_paragraphs=torch.tensor([text.n_paragraphs for text in texts], dtype=torch.int64),
        is_question=torch.from_numpy(questions),
    )
    return torch.from_numpy(ids), layout
