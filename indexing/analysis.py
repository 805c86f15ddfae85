"""Text to index terms: NFKC, lowercase, `\\w+`, Lucene's 33 stop words, Porter's stemmer.

Three choices of ours on top of that recipe:
1. runs of CJK characters become overlapping bigrams (a single one stays itself), since they carry no spaces;
2. tokens are cut to 64 characters, so that a megabyte without a space cannot fill the dictionary;
3. a query that consists of stop words only is analysed again without the stop list ("to be or not to be").
"""

import hashlib
import re
import threading
import unicodedata
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

VERSION = 1
"""Raised whenever the same configuration would give other terms; part of the fingerprint."""

LUCENE_STOP_WORDS = frozenset(
    [
        "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no", "not",
        "of", "on", "or", "such", "that", "the", "their", "then", "there", "these", "they", "this", "to", "was",
        "will", "with",
    ]
)  # fmt: skip
_CJK = "\u1100-\u11ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_CJK_WIDE = "\U00020000-\U0003ffff"
_WORDS = re.compile(r"\w+")
_HAS_CJK = re.compile(f"[{_CJK}{_CJK_WIDE}]")
_PIECES = re.compile(f"[{_CJK}{_CJK_WIDE}]+|[^{_CJK}{_CJK_WIDE}]+")
_CACHED_WORDS = 500_000


class AnalyserConfig(BaseModel):
    """What happens between a text and its terms; saved with every index and hashed into its fingerprint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stemmer: Literal["porter", "none"] = "porter"
    stop_words: Literal["lucene", "none"] = "lucene"
    max_token_chars: int = Field(default=64, ge=1, le=512)
    """Longer tokens are cut, not dropped."""


class Analyser:
    """Turns text into terms. Safe to share between threads; words seen before cost one dictionary look-up."""

    def __init__(self, config: AnalyserConfig | None = None) -> None:
        self.config = config or AnalyserConfig()
        self._stop = LUCENE_STOP_WORDS if self.config.stop_words == "lucene" else frozenset()
        self._lock = threading.Lock()  # Snowball's stemmer objects are not thread-safe
        self._stemmer: Any = None
        self._terms: dict[str, str] = {}

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the configuration and of the version of this code."""
        return hashlib.sha256(f"{VERSION}:{self.config.model_dump_json()}".encode()).hexdigest()

    def terms(self, text: str, *, keep_stop_words: bool = False) -> list[str]:
        """The terms of a text in reading order, with repetitions. Lone surrogates and punctuation separate words."""
        words = self.words(text)
        if not keep_stop_words:
            words = [word for word in words if word not in self._stop]
        known = self._terms
        return [known.get(word) or self.term(word) for word in words]

    def query_terms(self, text: str) -> list[str]:
        """`terms`, or where the stop list leaves nothing, the terms with the stop list off."""
        return self.terms(text) or self.terms(text, keep_stop_words=True)

    def words(self, text: str) -> list[str]:
        """Lowercase words with CJK as bigrams, before the stop list, the cut and the stemmer."""
        if text.isascii():
            return _WORDS.findall(text.lower())
        text = unicodedata.normalize("NFKC", text).lower()
        words: list[str] = _WORDS.findall(text)
        if _HAS_CJK.search(text):
            return [part for word in words for part, _, _ in _split_cjk(word, 0)]
        return words

    def is_stop_word(self, word: str) -> bool:
        """Whether the stop list drops this lowercase word."""
        return word in self._stop

    def term(self, word: str) -> str:
        """The stem of one word as `words` gives it, cut first."""
        word = word[: self.config.max_token_chars]
        known = self._terms.get(word)
        if known is not None:
            return known
        if self.config.stemmer == "none":
            stem = word
        else:
            with self._lock:
                if self._stemmer is None:
                    import Stemmer

                    self._stemmer = Stemmer.Stemmer("porter", maxCacheSize=0)
                stem = str(self._stemmer.stemWord(word)) or word
        if len(self._terms) >= _CACHED_WORDS:
            self._terms = {}
        self._terms[word] = stem
        return stem

    def tokens(self, text: str) -> list[tuple[str, int, int]]:
        """(term, start, end) of every word that is indexed; characters [start, end) of `text` as given."""
        found = []
        for start, end, word in _original_words(text):
            for part, left, right in _split_cjk(word, 0):
                if self.is_stop_word(part):
                    continue
                # Where normalising changed the length, positions inside the word mean nothing: mark the whole word.
                inside = (start + left, start + right) if len(word) == end - start else (start, end)
                found.append((self.term(part), *inside))
        return found


def _original_words(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, normalised word) for the words of the text as given.

    NFKC can join and split words only where compatibility characters stand; such a word may give several.
    """
    for match in _WORDS.finditer(text):
        start, end = match.span()
        word = match.group()
        if word.isascii():
            yield start, end, word.lower()
        else:
            for piece in _WORDS.findall(unicodedata.normalize("NFKC", word).lower()):
                yield start, end, piece


def _split_cjk(word: str, offset: int) -> Iterator[tuple[str, int, int]]:
    """(part, start, end): runs of CJK characters as bigrams, the rest whole."""
    if word.isascii() or not _HAS_CJK.search(word):
        yield word, offset, offset + len(word)
        return
    for match in _PIECES.finditer(word):
        start, piece = match.start() + offset, match.group()
        if not _HAS_CJK.match(piece) or len(piece) == 1:
            yield piece, start, start + len(piece)
        else:
            for i in range(len(piece) - 1):
                yield piece[i : i + 2], start + i, start + i + 2
