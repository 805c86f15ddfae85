"""Numbers in prose, and the two sets of problems on a made-up folder and on the real one."""

import gzip
import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetrail.models.errors import Damaged, InvalidInput, NotFound
from facetrail.models.language.answers import decimal, exact, mixed, number_after_mark, read_number, same_number
from facetrail.models.language.problems import ProblemTask
from facetrail.models.language.tasks import open_task, open_tokenizer


def write(path: Path, *rows: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


def problem(question: str, numbers: str, equation: str, answer: str) -> dict[str, str]:
    return {"Question": question, "Numbers": numbers, "Equation": equation, "Answer": answer}


def items(task: ProblemTask) -> dict[str, list[str]]:
    splits = ("train", "dev", "test")
    return {split: [p.prompt_id for p in task.prompts(task.count(split), seed=0, split=split)] for split in splits}


def opened(name: str, data: Path) -> ProblemTask:
    task = open_task(name, data=data)
    assert isinstance(task, ProblemTask)
    return task


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("72", 72),
        ("$1,234.50", Fraction("1234.5")),
        ("1,080,000 people", 1_080_000),
        ("-3", -3),
        ("-$3", -3),
        ("$-3", -3),
        ("−3 degrees", -3),
        (".5", Fraction(1, 2)),
        ("50 %", 50),
        ("72.", 72),
        ("**72**", 72),
        ("= 5/6", Fraction(5, 6)),
        ("2 1/3 cups", Fraction(7, 3)),
        ("-1/2", Fraction(-1, 2)),
        ("72 of 100", 72),
        ("1,5", None),
        ("1,0800", None),
        ("12:30", None),
        ("1e3", None),
        ("3/0", None),
        ("3.5.2", None),
        ("none", None),
        ("٣", None),
        ("9" * 5000, None),
    ],
)
def test_numbers_are_read_out_of_prose(text: str, value: Fraction | int | None) -> None:
    assert read_number(text) == value


@pytest.mark.parametrize(
    ("completion", "value"),
    [
        ("6 * 7 = 42\n#### 42", 42),
        ("#### 41\nNo, wait.\n#### 42 clips\nBye 7", 42),
        ("####42", 42),
        ("42", None),
        ("42 ####", None),
        ("#### forty\n42", None),
    ],
)
def test_the_answer_stands_after_the_last_mark(completion: str, value: int | None) -> None:
    assert number_after_mark(completion) == value


def test_whole_and_short_truths_are_exact_and_long_ones_may_be_rounded() -> None:
    assert same_number(Fraction("72.0"), Fraction(72))
    assert not same_number(Fraction("72.001"), Fraction(72))
    assert not same_number(Fraction("10.224"), Fraction("10.22"))
    assert same_number(Fraction("0.83"), Fraction(5, 6))
    assert not same_number(Fraction("0.82"), Fraction(5, 6))
    assert not same_number(Fraction(0), Fraction(1, 300))


def test_numbers_are_shown_as_a_person_writes_them() -> None:
    values = [Fraction(504), Fraction("-10.5"), Fraction(1, 8), Fraction(5, 6), Fraction(67, 6)]
    assert [decimal(value) for value in values] == ["504", "-10.5", "0.125", "0.83", "11.17"]
    assert [exact(value) for value in values] == ["504", "-10.5", "0.125", "5/6", "67/6"]
    assert [mixed(value) for value in values] == ["504", "-10.5", "0.125", "5/6", "11 1/6"]


@settings(deadline=None)
@given(st.fractions(-(10**9), 10**9, max_denominator=10**6))
def test_an_answer_as_text_is_the_number_again(value: Fraction) -> None:
    assert Fraction(exact(value)) == value
    assert read_number(exact(value)) == value
    assert read_number(mixed(value)) == value


def test_word_problems_get_their_numbers_and_a_solution(tmp_path: Path) -> None:
    write(
        tmp_path / "word-problems/train.jsonl.gz",
        problem("Ann has number1 cups , Bob did n't . She lost number0 of Tom 's", "2.0 7", "- number1 number0", "5.0"),
        problem("A number0 ton , number1 ton ( each $ number2 )", "0.16666666666666666 11.166666666666666 3",
                "* + number0 number1 number2", "34.0"),
        problem("ann has number1 cups , bob did n't . she lost number0 of tom 's", "2 7.0", "- number1 number0", "5"),
        problem("James has number0 balloons , Amy number1 .", "1222.0 513.0", "- number0 number1", "208.0"),
    )  # fmt: skip
    task = opened("word-problems", tmp_path)
    found = {
        p.prompt_id: p
        for split in ("train", "dev", "test")
        for p in task.prompts(task.count(split), seed=0, split=split)
    }
    assert sorted(found) == ["word-problems/0", "word-problems/1"]
    assert task.n_left_out == 2, "one repeats another, one contradicts itself"
    first, second = found["word-problems/0"], found["word-problems/1"]
    assert first.text.splitlines()[0] == "Ann has 7 cups, Bob didn't. She lost 2 of Tom's"
    assert task.canonical(first) == "7 - 2 = 5\n#### 5"
    assert second.text.splitlines()[0] == "A 1/6 ton, 11 1/6 ton (each $3)"
    assert task.canonical(second) == "1/6 + 11 1/6 = 11.33\n11.33 * 3 = 34\n#### 34"
    assert second.steps == ("11.33", "34")
    assert task.verify(first, "#### 5 cups", "eos").reward == 1.0


def test_one_template_is_in_one_split_whatever_its_numbers(tmp_path: Path) -> None:
    rows = [problem("a has number0 .", str(i), "+ number0 1", str(i + 1)) for i in range(30)]
    write(tmp_path / "word-problems/train.jsonl.gz", *rows)
    task = opened("word-problems", tmp_path)
    assert sorted(task.count(split) for split in ("train", "dev", "test")) == [0, 0, 30]


def gsm(question: str, answer: str) -> dict[str, str]:
    return {"question": question, "answer": answer}


def test_gsm8k_keeps_its_test_file_and_loses_its_calculator_marks(tmp_path: Path) -> None:
    solution = "She sold 48/2 = <<48/2=24>>24.\nIn all 48+24 = <<48+24=72>>72.\n#### 1,072"
    write(tmp_path / "gsm8k/test.jsonl.gz", gsm("How many?", solution))
    write(tmp_path / "gsm8k/train.jsonl.gz", gsm("How many?", solution), *(gsm(f"q {i}", "#### 1") for i in range(200)))
    task = opened("gsm8k", tmp_path)
    assert task.count("test") == 1
    assert task.n_left_out == 1
    assert task.count("train") + task.count("dev") == 200
    assert 5 <= task.count("dev") <= 40
    prompt = task.prompts(1, seed=0, split="test")[0]
    assert task.canonical(prompt) == "She sold 48/2 = 24.\nIn all 48+24 = 72.\n#### 1,072"
    assert prompt.answer == "1072"
    assert prompt.steps == ("24", "72")
    verdicts = [
        task.verify(prompt, "#### $1072.00", "eos"),
        task.verify(prompt, "#### 1071", "eos"),
        task.verify(prompt, "1072", "eos"),
        task.verify(prompt, "#### 1072", "length"),
    ]
    failures = ["", "wrong answer", "no number after ####", "truncated"]
    assert [(v.reward, v.failure) for v in verdicts] == [(float(not failure), failure) for failure in failures]


def test_the_seed_orders_the_items_and_too_many_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "gsm8k/test.jsonl.gz", *(gsm(f"t {i}", "#### 1") for i in range(30)))
    write(tmp_path / "gsm8k/train.jsonl.gz", gsm("q", "#### 1"))
    task = opened("gsm8k", tmp_path)
    draws = [task.prompts(30, seed=seed, split="test") for seed in (0, 0, 1)]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]
    assert task.prompts(5, seed=0, split="test") == draws[0][:5]
    with pytest.raises(InvalidInput, match="holds 30 items, not 31"):
        task.prompts(31, seed=0, split="test")
    with pytest.raises(InvalidInput, match="train, dev, test"):
        task.prompts(1, seed=0, split="validation")
    with pytest.raises(InvalidInput, match="no vocabulary of its own"):
        open_tokenizer(task)


def test_missing_and_broken_files_say_which(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"word-problems.train\.jsonl\.gz"):
        open_task("word-problems", data=tmp_path)
    path = tmp_path / "word-problems/train.jsonl.gz"
    good = problem("a has number0 .", "1", "+ number0 1", "2")
    for rows, message in [
        ([good, {"Question": "a"}], "row 2 .* lacks one of Question"),
        ([good | {"Equation": "+ number0 number9"}], "row 1 .* is no word problem"),
        ([good | {"Equation": "number0 number0"}], "row 1 .* is no word problem"),
        ([good | {"Equation": "+ number0"}], "row 1 .* is no word problem"),
        ([good | {"Numbers": "one"}], "row 1 .* is no word problem"),
    ]:
        write(path, *rows)
        with pytest.raises(Damaged, match=message):
            open_task("word-problems", data=tmp_path)
    for broken in (b"not gzip", gzip.compress(b"not json\n"), gzip.compress(json.dumps(good).encode() * 99)[:40]):
        path.write_bytes(broken)
        with pytest.raises(Damaged, match="cannot be read"):
            open_task("word-problems", data=tmp_path)
    write(tmp_path / "gsm8k/test.jsonl.gz", gsm("q", "no answer"))
    with pytest.raises(Damaged, match=r"row 1 .* no number after"):
        open_task("gsm8k", data=tmp_path)


@pytest.mark.parametrize(
    ("name", "counts", "n_left_out"),
    [("word-problems", (2220, 291, 310), 317), ("gsm8k", (6731, 742, 1319), 0)],
)
def test_the_real_problems_are_all_solved_by_their_solutions(
    data_folder: Path, name: str, counts: tuple[int, ...], n_left_out: int
) -> None:
    task = opened(name, data_folder)
    splits = ("train", "dev", "test")
    assert tuple(task.count(split) for split in splits) == counts
    assert task.n_left_out == n_left_out
    texts: set[str] = set()
    for split in splits:
        for prompt in task.prompts(task.count(split), seed=0, split=split):
            assert task.verify(prompt, task.canonical(prompt), "eos").reward == 1.0, prompt
            texts.add(prompt.text)
    assert len(texts) == sum(counts)
