"""Whether a text is a question or a document, where nobody says so."""

QUESTION_TOKENS = 40
"""Longer texts are documents, whatever they end with; special tokens count."""
_QUESTION_MARKS = ("?", "？", "؟")


def is_question(text: str, n_tokens: int) -> bool:
    """A short text that ends with a question mark, or has one line and thus no title."""
    text = text.strip()
    return n_tokens <= QUESTION_TOKENS and (text.endswith(_QUESTION_MARKS) or "\n" not in text)
