"""From text to token ids, without padding and without torch."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetrail.models.errors import Damaged, InvalidInput

CHARACTERS_PER_TOKEN = 32
"""First guess of how much text can matter; a cut that yields too few tokens is widened, so no vector changes."""


def clean(text: str) -> str:
    """The text as valid Unicode: paired surrogates become their character, lone ones U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


@dataclass(frozen=True, slots=True)
class LocatedTokens:
    """Tokens of one text and where they come from: token i is the caller's characters [start[i], end[i]).

    ids, start, end: (t,) int64 · is_text: (t,) bool, False for special tokens and for those of the prefix, whose
    characters mean nothing.
    """

    ids: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    is_text: NDArray[np.bool_]


class Tokeniser:
    """A fast tokeniser with its prefix and maximum length (special tokens included)."""

    def __init__(self, path: Path | None, *, prefix: str, max_tokens: int, lowercase: bool) -> None:
        """Raises Damaged where the file cannot be read, InvalidInput where max_tokens leaves no room for text."""
        self._prefix, self._lowercase, self.max_tokens = prefix, lowercase, max_tokens
        self._tokenizer: Any = None
        self._counter: Any = None
        if path is not None:
            self._open(path, max_tokens)

    def _open(self, path: Path, max_tokens: int) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # the Rust binding raises bare Exception
            raise Damaged(f"the tokeniser {path} cannot be read ({error}); install the encoder again") from error
        n_special = self._tokenizer.num_special_tokens_to_add(False)
        if max_tokens <= n_special:
            raise InvalidInput(
                f"a maximum of {max_tokens} tokens leaves no room for text; ask for {n_special + 1} or more"
            )
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length=max_tokens)

    def with_prefix(self, prefix: str) -> "Tokeniser":
        """The same tokeniser with another prefix; what was read from disk is shared."""
        other = copy(self)
        other._prefix = prefix
        return other

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, 1 to max_tokens of them; a text without any token becomes the id 0 alone."""
        encodings = self._tokenizer.encode_batch_fast([self.prepare(text) for text in texts])
        return [encoding.ids or [0] for encoding in encodings]

    def located(self, texts: Sequence[str]) -> list[LocatedTokens]:
        """The same ids as `__call__`, with the place of every token in the text as it was given."""
        kept = [self._shortened(text) for text in texts]
        encodings = self._tokenizer.encode_batch([self._finished(text) for text in kept])
        return [self._locate(text, encoding) for text, encoding in zip(kept, encodings, strict=True)]

    def _locate(self, text: str, encoding: Any) -> LocatedTokens:
        if not encoding.ids:
            nothing = np.zeros(1, np.int64)
            return LocatedTokens(nothing, nothing, nothing, np.zeros(1, bool))
        places = np.asarray(encoding.offsets, np.int64)
        before = len(self._prefix.lower() if self._lowercase else self._prefix)
        is_text = (np.asarray(encoding.special_tokens_mask) == 0) & (places[:, 1] > before)
        start, end = np.clip(places - before, 0, None).T
        origin = _origin(text, lowercase=self._lowercase)
        if origin is not None:
            start, end = origin[start], np.maximum(origin[end], origin[np.maximum(end - 1, 0)] + 1)
        return LocatedTokens(np.asarray(encoding.ids, np.int64), start, end, is_text)

    def prepare(self, text: str) -> str:
        """The string that is tokenised: prefix and valid Unicode, cut where the rest cannot count."""
        return self._finished(self._shortened(text))

    def _finished(self, text: str) -> str:
        text = self._prefix + clean(text)
        return text.lower() if self._lowercase else text

    def _shortened(self, text: str) -> str:
        """The beginning of a huge text that still holds twice the tokens that can count."""
        size = CHARACTERS_PER_TOKEN * self.max_tokens
        while self._tokenizer is not None and size < len(text):
            if self._count(clean(text[:size])) >= 2 * self.max_tokens:
                return text[:size]
            size *= 4
        return text

    def _count(self, text: str) -> int:
        if self._counter is None:  # huge texts are rare: most encoders never need it
            counter = type(self._tokenizer).from_str(self._tokenizer.to_str())
            counter.no_truncation()
            self._counter = counter
        return len(self._counter.encode(text, add_special_tokens=False).ids)


def _origin(text: str, *, lowercase: bool) -> NDArray[np.int64] | None:
    """Where each character of the cleaned (and lowercased) text was before, the end included; None: nothing moved."""
    cleaned = clean(text)
    if len(cleaned) == len(text) and not (lowercase and len(cleaned.lower()) != len(cleaned)):
        return None
    origin, place = [], 0
    for character in cleaned:
        origin += [place] * (len(character.lower()) if lowercase else 1)
        place += 2 if character > "\uffff" and text[place] <= "\uffff" else 1  # what was a pair of surrogates
    return np.asarray([*origin, len(text)], np.int64)
