"""Which of a server's tokens and log-probs a policy may take over, on a table where `b c` can be one token or two."""

import pytest

from facetrail.models.errors import InvalidInput
from facetrail.models.language.endpoint import Written
from facetrail.models.language.served import Served, served
from facetrail.models.language.vocabulary import WordTokenizer

TABLE = WordTokenizer(("<pad>", "<bos>", "<eos>", "a", "b", "c", "b c"))
END = 2


@pytest.mark.parametrize(
    ("written", "found"),
    [
        (Written("a b", "eos", (), (3, 4, END), (-1, -2, -3)), Served((3, 4, END), (-1, -2, -3), "eos")),
        # sampled as two tokens, although encoding would make one of them
        (
            Written("a b c", "eos", (), (3, 4, 5, END), (-1, -2, -3, -4)),
            Served((3, 4, 5, END), (-1, -2, -3, -4), "eos"),
        ),
        (Written("b c", "eos", ("b", " c", ""), (), (-1, -2, -3)), Served((6, END), (), "eos")),
        (Written("a b c", "eos", ("a", " b c", "<eos>"), (), (-1, -2, -3)), Served((3, 6, END), (-1, -2, -3), "eos")),
        # the end token's log-prob was not told
        (Written("a b", "eos", ("a", " b"), (), (-1, -2)), Served((3, 4, END), (), "eos")),
        (Written("a b", "eos", (), (3, 4), (-1, -2)), Served((3, 4, END), (), "eos")),
        # ids of another table: outside it, or spelling something else
        (Written("a b", "length", (), (3, 99), (-1, -2)), Served((3, 4), (), "length")),
        (Written("a b", "length", ("a", " b"), (4, 3), (-1, -2)), Served((3, 4), (-1, -2), "length")),
        (Written("a b", "length", ("ab", " b"), (), (-1, -2)), Served((3, 4), (), "length")),
        (Written("a b", "length"), Served((3, 4), (), "length")),
        (Written("", "eos", ("",), (), (-1,)), Served((END,), (-1,), "eos")),
        (Written("", "forced"), Served((), (), "forced")),
        # more than was asked for
        (Written("a a a b", "eos", (), (3, 3, 3, 4, END), (-1,) * 5), Served((3, 3, 3, 4), (-1,) * 4, "length")),
    ],
)
def test_log_probs_are_kept_where_they_are_of_the_kept_tokens(written: Written, found: Served) -> None:
    assert served(written, TABLE, limit=4) == found


def test_text_without_tokens_is_refused() -> None:
    with pytest.raises(InvalidInput, match="cannot express 'hello'"):
        served(Written("a hello", "eos"), TABLE, limit=4)
