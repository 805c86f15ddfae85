"""A tokenizer of single characters, for tests of what reads and writes tokens."""

import hashlib
from collections.abc import Sequence

PAD, BOS, EOS, FIRST = 0, 1, 2, 3


class CharTokenizer:
    """Each character of the alphabet is one token, behind the three control tokens."""

    pad_id, bos_id, eos_id = PAD, BOS, EOS

    def __init__(self, alphabet: str = "0123456789+-*=; ") -> None:
        self.alphabet = alphabet

    @property
    def n_tokens(self) -> int:
        return FIRST + len(self.alphabet)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.alphabet.encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        return [FIRST + self.alphabet.index(character) for character in text]

    def encode_prompt(self, text: str) -> list[int]:
        return [BOS, *self.encode(text)]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.alphabet[i - FIRST] for i in ids if i >= FIRST)
