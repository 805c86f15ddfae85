"""From text to token ids, without padding and without torch."""

from collections.abc import Sequence
from pathlib import Path

from facetrail.models.errors import Damaged, InvalidInput

CHARACTERS_PER_TOKEN = 32
"""First guess of how much text can matter; a cut that yields too few tokens is widened, so it never changes a vector."""


def clean(text: str) -> str:
    """The text as valid Unicode: paired surrogates become their character, lone ones U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class Tokeniser:
    """A fast tokeniser with its prefix and maximum length (special tokens included)."""

    def __init__(self, path: Path, *, prefix: str, max_tokens: int, lowercase: bool) -> None:
        """Raises Damaged where the file cannot be read, InvalidInput where max_tokens leaves no room for text."""
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # noqa: BLE001  the Rust binding raises bare Exception
            raise Damaged(f"the tokeniser {path} cannot be read ({error}); install the encoder again") from error
        n_special = self._tokenizer.num_special_tokens_to_add(False)
        if max_tokens <= n_special:
            raise InvalidInput(f"a maximum of {max_tokens} tokens leaves no room for text; ask for {n_special + 1} or more")
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length=max_tokens)
        self._counter = Tokenizer.from_str(self._tokenizer.to_str())
        self._counter.no_truncation()
        self._prefix, self._lowercase, self._max_tokens = prefix, lowercase, max_tokens

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, 1 to max_tokens of them; a text without any token becomes the id 0 alone."""
        encodings = self._tokenizer.encode_batch_fast([self._prepare(text) for text in texts])
        return [encoding.ids or [0] for encoding in encodings]

    def _prepare(self, text: str) -> str:
        if not isinstance(text, str):
            raise InvalidInput(f"a text to encode must be a string, not {type(text).__name__}")
        text = self._prefix + clean(self._shortened(text))
        return text.lower() if self._lowercase else text

    def _shortened(self, text: str) -> str:
        """The beginning of a huge text that still holds twice the tokens that can count."""
        size = CHARACTERS_PER_TOKEN * self._max_tokens
        while size < len(text):
            if len(self._counter.encode(clean(text[:size]), add_special_tokens=False).ids) >= 2 * self._max_tokens:
                return text[:size]
            size *= 4
        return text
