"""Tokens and the sentences they belong to, in the caller's own characters."""

from pathlib import Path

import numpy as np
import pytest
import torch

from facetrail.models.text.layout import LayoutTokeniser, batch_layout
from facetrail.models.text.tokenise import Tokeniser

TEXTS = [
    "A title\nFirst sentence here. Second one, e.g. this.",
    "",
    " \n ",
    "word",
    "这是第一句。这是第二句。",
    "no boundary at all " * 40,
    "\x00\x01",
    "Café \ud83d\ude00 naïve. Then İstanbul \ud800 ends.\r\n\r\nLast line",
]


def opened(folder: Path, **options: object) -> LayoutTokeniser:
    return LayoutTokeniser(folder / "tokenizer.json", **{"max_tokens": 64, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("prefix", ["", "query: ", "Über 😀: "])
@pytest.mark.parametrize("lowercase", [False, True])
def test_ids_are_those_of_the_encoder(base_folder: Path, prefix: str, lowercase: bool) -> None:
    texts = [*TEXTS, "many words. " * 90_000]
    plain = Tokeniser(base_folder / "tokenizer.json", prefix=prefix, max_tokens=64, lowercase=lowercase)
    ours = opened(base_folder, prefix=prefix, lowercase=lowercase)(texts)
    assert [text.ids.tolist() for text in ours] == plain(texts)


@pytest.mark.parametrize("prefix", ["", "passage: "])
@pytest.mark.parametrize("lowercase", [False, True])
def test_sentences_are_characters_of_the_callers_text(base_folder: Path, prefix: str, lowercase: bool) -> None:
    pair = TEXTS[4]
    tokens = opened(base_folder, prefix=prefix, lowercase=lowercase)
    told = [[text[a:b] for a, b in out.spans] for text, out in zip(TEXTS, tokens(TEXTS), strict=True)]
    assert told[0] == ["A title", "First sentence here.", "Second one, e.g. this."]
    assert told[1] == told[2] == []
    assert told[4] == [pair[:6], pair[6:]]
    assert told[6] == []
    assert told[7] == ["Café \ud83d\ude00 naïve.", "Then İstanbul \ud800 ends.", "Last line"]


def test_tokens_know_sentence_and_paragraph(base_folder: Path) -> None:
    (out,) = opened(base_folder)([TEXTS[0]])
    # [CLS] a title first sentence here . second one , e . g . this . [SEP]
    assert out.sentence.tolist() == [-1, 0, 0, 1, 1, 1, 1, *[2] * 9, -1]
    assert out.paragraph.tolist() == [-1, 0, 0, *[1] * 13, -1]
    assert (out.n_sentences, out.n_paragraphs) == (3, 2)


def test_the_prefix_belongs_to_no_sentence(base_folder: Path) -> None:
    (bare,), (prefixed,) = opened(base_folder)(["One. Two."]), opened(base_folder, prefix="query: ")(["One. Two."])
    assert prefixed.sentence.tolist() == [-1, -1, -1, *bare.sentence[1:].tolist()]
    assert prefixed.spans == bare.spans


def test_late_sentences_and_paragraphs_join_the_last(base_folder: Path) -> None:
    text = "One. Two. Three.\n\nFour\nFive"
    (out,) = opened(base_folder, max_sentences=2, max_paragraphs=2)([text])
    assert [text[a:b] for a, b in out.spans] == ["One.", "Two. Three.\n\nFour\nFive"]
    assert set(out.sentence.tolist()) == {-1, 0, 1}
    assert out.paragraph.tolist() == [-1, *[0] * 6, 1, 1, -1]
    assert (out.n_sentences, out.n_paragraphs) == (2, 2)


def test_sentences_behind_the_cut_do_not_count(base_folder: Path) -> None:
    text = "One two three. Four five six. Seven."
    (out,) = opened(base_folder, max_tokens=8)([text])
    assert [text[a:b] for a, b in out.spans] == ["One two three.", "Four five six."]
    assert (out.n_sentences, int(out.sentence.max())) == (2, 1)


def test_a_sentence_without_tokens_leaves_no_hole(base_folder: Path) -> None:
    text = "One.\n\x01\x02\nTwo."
    (out,) = opened(base_folder)([text])
    assert [text[a:b] for a, b in out.spans] == ["One.", "Two."]
    assert out.sentence.tolist() == [-1, 0, 0, 1, 1, -1]
    assert out.paragraph.tolist() == out.sentence.tolist()


def test_known_sentences_are_taken_as_they_are(base_folder: Path) -> None:
    text = "one two. three Four"
    (out,) = opened(base_folder)([text], [[(0, 3), (4, 14), (15, 19)]])
    assert out.spans == [(0, 3), (4, 14), (15, 19)]
    assert out.sentence.tolist() == [-1, 0, 1, 1, 1, 2, -1]
    assert out.n_paragraphs == 1


def test_a_batch_is_padded_with_nothing(base_folder: Path) -> None:
    texts = opened(base_folder)(TEXTS)
    ids, layout = batch_layout(texts, [True, *[False] * 7])
    lengths = [len(text.ids) for text in texts]
    assert ids.shape == (8, max(lengths))
    assert ids.dtype == torch.int64
    assert layout.mask.sum(1).tolist() == lengths
    for row, text in enumerate(texts):
        n = len(text.ids)
        assert ids[row, :n].tolist() == text.ids.tolist()
        assert layout.sentence[row, :n].tolist() == text.sentence.tolist()
        assert layout.paragraph[row, :n].tolist() == text.paragraph.tolist()
        assert not ids[row, n:].any()
        assert (layout.sentence[row, n:] == -1).all()
        assert (layout.paragraph[row, n:] == -1).all()
    assert layout.n_sentences.tolist() == [text.n_sentences for text in texts]
    assert layout.is_question.tolist() == [True, *[False] * 7]


def test_a_megabyte_is_split_only_where_it_is_read(base_folder: Path) -> None:
    text = "A sentence of five words. " * 40_000
    (out,) = opened(base_folder)([text])
    assert len(out.ids) == 64
    assert out.n_sentences == len(out.spans) == int(np.max(out.sentence)) + 1
    assert out.spans[-1][1] < 500
