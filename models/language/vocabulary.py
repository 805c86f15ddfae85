"""Word-level tokenizers: a table of words, and a second kind whose ids and lengths differ for the same text.

A tokenizer is nothing but its table, so a checkpoint that keeps the table keeps the tokenizer. Ours throughout.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence

import numpy as np

from facetrail.models.errors import InvalidInput

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
CONTROLS = (PAD, BOS, EOS)
"""Tokens that stand for no text: they are never encoded and vanish in decoding. `</think>` is text."""


class WordTokenizer:
    """Words separated by one space ↔ ids. The id of a token is its place in the table.

    A token may hold several words (`7 ;`); encoding takes the longest token that fits, from left to right. Hence
    `decode(encode(text)) == text`, whereas ids that a model drew need not come back from their text.
    """

    pad_id: int
    bos_id: int | None
    eos_id: int

    def __init__(self, table: Sequence[str]) -> None:
        """Raises InvalidInput unless the table holds the control tokens, and each token once and cleanly spaced."""
        self.table = tuple(table)
        self._ids = {token: i for i, token in enumerate(self.table)}
        if missing := [token for token in CONTROLS if token not in self._ids]:
            raise InvalidInput(f"the token table lacks {', '.join(missing)}; make one with `WordTokenizer.of`")
        if len(self._ids) < len(self.table):
            twice = next(token for i, token in enumerate(self.table) if self._ids[token] != i)
            raise InvalidInput(f"the token table holds {twice!r} twice; list each token once")
        for token in self.table:
            words = token.split()
            if not words or " ".join(words) != token or (len(words) > 1 and not set(words).isdisjoint(CONTROLS)):
                raise InvalidInput(f"{token!r} is no token: words separated by one space, control tokens alone")
        self.pad_id, self.bos_id, self.eos_id = (self._ids[token] for token in CONTROLS)
        self._longest = max(token.count(" ") + 1 for token in self.table)

    @classmethod
    def of(cls, words: Iterable[str]) -> "WordTokenizer":
        """Control tokens first, then the words in their order."""
        return cls((*CONTROLS, *words))

    def merged(self, merges: Iterable[str], *, seed: int) -> "WordTokenizer":
        """A tokenizer of the same texts with further tokens of several words, and all ids permuted.

        Raises InvalidInput for a merge of words that are no tokens here.
        """
        table = list(self.table)
        for merge in merges:
            if unknown := [word for word in merge.split() if word not in self._ids]:
                raise InvalidInput(f"cannot merge {merge!r}: {unknown[0]!r} is no token; add it to the words first")
            table.append(merge)
        order = np.random.default_rng(seed).permutation(len(table))
        return WordTokenizer([table[i] for i in order])

    @property
    def n_tokens(self) -> int:
        return len(self.table)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the table."""
        return hashlib.sha256(json.dumps(self.table).encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Ids of the words, whatever blanks separate them. Raises InvalidInput for a word that is not in the table."""
        words, ids, start = text.split(), list[int](), 0
        while start < len(words):
            for n_words in range(min(self._longest, len(words) - start), 0, -1):
                token = " ".join(words[start : start + n_words])
                if token in self._ids and token not in CONTROLS:
                    ids.append(self._ids[token])
                    start += n_words
                    break
            else:
                raise InvalidInput(f"this vocabulary of {self.n_tokens} tokens cannot express {words[start]!r}")
        return ids

    def encode_prompt(self, text: str) -> list[int]:
        """The begin token, then the text."""
        return [self._ids[BOS], *self.encode(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """Words of the ids, control tokens left out. Raises InvalidInput for an id outside the table."""
        if outside := [i for i in ids if not 0 <= i < self.n_tokens]:
            raise InvalidInput(f"id {outside[0]} is outside the table of {self.n_tokens} tokens; use its own tokenizer")
        return " ".join(self.table[i] for i in ids if self.table[i] not in CONTROLS)
