"""Text to terms: a table of cases, and the promises around them."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from facetrail.indexing.analysis import LUCENE_STOP_WORDS, Analyser, AnalyserConfig
from facetrail.indexing.lexical import LexicalIndex

CASES = {
    "plain words are stemmed": ("Relational databases, indexing!", ["relat", "databas", "index"]),
    "stop words go": ("the state of the art", ["state", "art"]),
    "compatibility forms are folded": ("ﬁle Ｆｕｌｌ ２", ["file", "full", "2"]),
    "accents stay and meet": ("Café Cafe\u0301", ["café", "café"]),
    "other scripts": ("Привет мир", ["привет", "мир"]),
    "underscores and digits belong to words": ("foo_bar x86 3d", ["foo_bar", "x86", "3d"]),
    "apostrophes and hyphens separate": ("don't re-rank", ["don", "t", "re", "rank"]),
    "CJK becomes bigrams": ("情報検索", ["情報", "報検", "検索"]),
    "a single CJK character stays": ("猫 cat", ["猫", "cat"]),
    "CJK inside a word is split off": ("BM25検索法v2", ["bm25", "検索", "索法", "v2"]),
    "kana and hangul": ("カタカナ 검색어", ["カタ", "タカ", "カナ", "검색", "색어"]),
    "half-width kana is folded first": ("ｶﾅ", ["カナ"]),
    "tokens are cut": ("x" * 100, ["x" * 64]),
    "line separators and controls separate": ("a1\u2028b2\x00c3\x85d4", ["a1", "b2", "c3", "d4"]),
    "lone surrogates separate": ("good\ud800bad", ["good", "bad"]),
    "emoji are no words": ("search 🔎 me", ["search", "me"]),
    "nothing": ("", []),
    "nothing but marks": (" .,;!? \n\t…", []),
    "stop words only": ("to be or not to be", []),
}


@pytest.mark.parametrize("case", CASES)
def test_terms(case: str) -> None:
    text, expected = CASES[case]
    assert Analyser().terms(text) == expected


def test_every_term_can_be_written_as_utf8() -> None:
    everything = "".join(map(chr, range(0x11000)))
    for term in Analyser().terms(everything) + Analyser().terms(" ".join(everything)):
        assert 1 <= len(term.encode()) <= 4 * 64


def test_the_stop_list_is_lucenes() -> None:
    assert len(LUCENE_STOP_WORDS) == 33


def test_queries_of_stop_words_are_analysed_without_the_stop_list() -> None:
    index = LexicalIndex()
    index.add([0, 1], ["to be or not to be", "a whole new text"])
    assert index.analyse_query("To be?").terms == {"be": 1, "to": 1}
    empty = index.analyse_query("…")
    assert empty.terms == {}
    assert len(empty.warnings) == 1
    assert index.analyse_query("words").warnings == []


def test_a_megabyte_without_a_space_is_one_short_term() -> None:
    analyser, monster = Analyser(), "x" * 1_000_000
    assert analyser.terms(monster) == ["x" * 64]
    index = LexicalIndex()
    index.add([0, *range(1, 300)], [monster, *["short text"] * 299])
    assert index.search(monster, 5).ordinals.tolist() == [0]
    assert max(map(len, analyser._terms)) == 64


def test_the_memory_of_words_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facetrail.indexing.analysis._CACHED_WORDS", 100)
    analyser = Analyser()
    for first in range(0, 1000, 50):
        assert analyser.terms(f"running word{first}") == ["run", f"word{first}"]
        analyser.terms(" ".join(f"word{i}" for i in range(first, first + 50)))
        assert len(analyser._terms) <= 100


def test_without_stemmer_and_stop_list() -> None:
    plain = Analyser(AnalyserConfig(stemmer="none", stop_words="none", max_token_chars=5))
    assert plain.terms("The running databases") == ["the", "runni", "datab"]


def test_fingerprints_tell_configurations_apart() -> None:
    configs = [AnalyserConfig(), AnalyserConfig(stemmer="none"), AnalyserConfig(stop_words="none")]
    prints = {Analyser(config).fingerprint for config in configs}
    assert len(prints) == 3
    assert Analyser().fingerprint == Analyser().fingerprint
    assert all(len(each) == 64 for each in prints)


@pytest.mark.parametrize("text", [text for text, _ in CASES.values()])
def test_tokens_point_into_the_text_and_carry_the_same_terms(text: str) -> None:
    analyser = Analyser()
    tokens = analyser.tokens(text)
    for term, start, end in tokens:
        assert 0 <= start < end <= len(text)
        assert term in analyser.terms(text[start:end])
    if text.isascii() or "e\u0301" not in text:
        assert [term for term, _, _ in tokens] == analyser.terms(text)


def test_highlights_of_cjk_are_exact() -> None:
    assert [(start, end) for _, start, end in Analyser().tokens("ab検索法")] == [(0, 2), (2, 4), (3, 5)]


def test_threads_share_an_analyser() -> None:
    texts = [f"running databases {i} indexing relational{i}s" for i in range(400)]
    alone = [Analyser().terms(text) for text in texts]
    shared = Analyser()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(shared.terms, texts)) == alone
