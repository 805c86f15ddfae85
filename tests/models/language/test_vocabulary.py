"""Word tokenizers: what comes back, what does not, and how the second kind differs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetrail.models.errors import InvalidInput
from facetrail.models.language.modchain import ModChain
from facetrail.models.language.records import Tokenizer
from facetrail.models.language.tasks import open_tokenizer
from facetrail.models.language.vocabulary import WordTokenizer

TASK = ModChain(n=4, fillers=6)
PLAIN: Tokenizer = open_tokenizer(TASK)
MERGED: Tokenizer = open_tokenizer(TASK, merged_seed=7)
BOTH = pytest.mark.parametrize("tokenizer", [PLAIN, MERGED], ids=["plain", "merged"])


def test_the_table_of_modchain_has_19_tokens_and_25_with_fillers() -> None:
    assert open_tokenizer(ModChain()).n_tokens == 19
    assert PLAIN.n_tokens == 25
    assert MERGED.n_tokens == 35
    assert (PLAIN.pad_id, PLAIN.bos_id, PLAIN.eos_id) == (0, 1, 2)


@BOTH
@settings(max_examples=100, deadline=None)
@given(words=st.lists(st.sampled_from(TASK.vocabulary), max_size=30))
def test_any_text_over_the_vocabulary_comes_back(tokenizer: Tokenizer, words: list[str]) -> None:
    text = " ".join(words)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    framed = [tokenizer.pad_id, tokenizer.bos_id, *ids, tokenizer.eos_id, tokenizer.pad_id]
    assert tokenizer.decode([i for i in framed if i is not None]) == text


@BOTH
def test_the_end_of_thinking_is_text_and_control_tokens_are_not(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode([*tokenizer.encode("3 ; </think> 3"), tokenizer.eos_id]) == "3 ; </think> 3"
    assert len(tokenizer.encode("</think>")) == 1
    for control in ("<pad>", "<bos>", "<eos>"):
        with pytest.raises(InvalidInput, match=control):
            tokenizer.encode(f"3 {control}")


@BOTH
def test_a_prompt_begins_with_the_begin_token(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode_prompt("3 + 4 =")
    assert ids == [tokenizer.bos_id, *tokenizer.encode("3 + 4 =")]
    assert len(ids) == 5


def test_merged_ids_are_permuted_and_completions_shorter() -> None:
    text = "3 ; 8 ; 4 ; 4 ; </think> 4"
    assert len(PLAIN.encode(text)) == 10
    assert len(MERGED.encode(text)) == 6
    words = [*TASK.vocabulary]
    moved = [PLAIN.encode(word) != MERGED.encode(word) for word in words]
    assert sum(moved) > len(words) / 2
    assert MERGED.decode(MERGED.encode("3 ;")) == "3 ;"
    # The longest token wins: a digit before a semicolon is never two tokens.
    assert len(MERGED.encode("3 ; ; 3 3 ;")) == 4


def test_the_longest_of_several_merges_wins() -> None:
    tokenizer = WordTokenizer.of("abc").merged(["a b", "a b c", "b c"], seed=0)
    assert [tokenizer.decode([i]) for i in tokenizer.encode("a b c a b b c")] == ["a b c", "a b", "b c"]


def test_the_seed_decides_the_ids_and_the_fingerprint_tells() -> None:
    again, other = open_tokenizer(TASK, merged_seed=7), open_tokenizer(TASK, merged_seed=8)
    assert again.fingerprint == MERGED.fingerprint
    assert len({PLAIN.fingerprint, MERGED.fingerprint, other.fingerprint}) == 3
    assert WordTokenizer(again.table).encode("3 ; 4") == MERGED.encode("3 ; 4"), "the table is all there is to keep"


def test_unknown_words_and_ids_are_refused() -> None:
    with pytest.raises(InvalidInput, match="'%'"):
        PLAIN.encode("3 % 4")
    for outside in (-1, 25):
        with pytest.raises(InvalidInput, match=str(outside)):
            PLAIN.decode([3, outside])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (["<pad>", "<bos>", "a"], "<eos>"),
        (["<pad>", "<bos>", "<eos>", "a", "a"], "'a' twice"),
        (["<pad>", "<bos>", "<eos>", "a  b"], "'a  b'"),
        (["<pad>", "<bos>", "<eos>", ""], "no token"),
        (["<pad>", "<bos>", "<eos>", "a <eos>"], "no token"),
    ],
)
def test_a_table_that_could_not_decode_is_refused(table: list[str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        WordTokenizer(table)


def test_a_merge_of_unknown_words_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'x'"):
        WordTokenizer.of("ab").merged(["a x"], seed=0)
