"""Tasks that are drawn: what every one of them promises, and each verifier on right and wrong completions."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetrail.models.errors import InvalidInput
from facetrail.models.language.brackets import Brackets
from facetrail.models.language.countdown import Countdown3, evaluate, reachable
from facetrail.models.language.linear import Linear
from facetrail.models.language.modchain import OPERATORS, ModChain, chain
from facetrail.models.language.records import Finish, Prompt, Task
from facetrail.models.language.splits import split_of
from facetrail.models.language.tasks import TASKS, open_task, open_tokenizer
from facetrail.models.language.word_tasks import WordTask

WORD_TASKS = {
    "modchain": ModChain(n=4),
    "modchain5 with fillers": ModChain(n=5, fillers=6),
    "countdown3": Countdown3(),
    "linear": Linear(),
    "brackets": Brackets(),
}
EVERY = pytest.mark.parametrize("task", WORD_TASKS.values(), ids=WORD_TASKS)


@EVERY
def test_canonical_completions_are_right_under_both_tokenizers(task: WordTask) -> None:
    for tokenizer in (open_tokenizer(task), open_tokenizer(task, merged_seed=1)):
        for prompt in task.prompts(60, seed=0):
            completion = task.canonical(prompt)
            assert tokenizer.decode(tokenizer.encode(completion)) == completion
            assert tokenizer.decode(tokenizer.encode_prompt(prompt.text)) == prompt.text
            verdict = task.verify(prompt, completion, "eos")
            assert (verdict.reward, verdict.failure) == (1.0, "")
            assert verdict.parts == ({"process": 1.0} if prompt.steps else {})


@EVERY
def test_splits_never_meet_and_prompts_never_repeat(task: WordTask) -> None:
    found = {split: task.prompts(100, seed=3, split=split) for split in ("train", "dev", "test")}
    found["other seed"] = task.prompts(100, seed=4, split="train")
    for prompts in found.values():
        assert len({prompt.text for prompt in prompts}) == len({prompt.prompt_id for prompt in prompts}) == 100
    train = {prompt.text for prompt in (*found["train"], *found["other seed"])}
    dev, test = ({prompt.text for prompt in found[split]} for split in ("dev", "test"))
    assert train.isdisjoint(dev)
    assert train.isdisjoint(test)
    assert dev.isdisjoint(test)


@EVERY
def test_the_seed_decides_the_prompts_and_fewer_are_the_beginning_of_more(task: WordTask) -> None:
    assert task.prompts(5, seed=1) == task.prompts(20, seed=1)[:5]
    assert task.prompts(20, seed=1) != task.prompts(20, seed=2)
    assert task.prompts(0, seed=1) == []


@EVERY
@pytest.mark.parametrize(
    ("completion", "finish", "failure"),
    [
        ("{canonical}", "length", "truncated"),
        ("", "length", "truncated"),
        ("", "eos", "no </think>"),
        ("{answer}", "eos", "no </think>"),
        ("{answer} </think>", "eos", "nothing after </think>"),
    ],
)
def test_a_completion_without_an_answer_fails_for_a_named_reason(
    task: WordTask, completion: str, finish: Finish, failure: str
) -> None:
    prompt = task.prompts(1, seed=0)[0]
    text = completion.format(canonical=task.canonical(prompt), answer=prompt.answer)
    verdict = task.verify(prompt, text, finish)
    assert (verdict.reward, verdict.failure) == (0.0, failure)


def test_modchain_reads_from_left_to_right_modulo_10() -> None:
    prompt = chain([3, 4, 5, 9, 2], ["+", "*", "-", "-"])
    assert prompt.text == "3 + 4 * 5 - 9 - 2 ="
    assert prompt.steps == ("7", "5", "6", "4")
    assert prompt.answer == "4"
    assert ModChain(n=4).canonical(prompt) == "7 ; 5 ; 6 ; 4 ; </think> 4"


@pytest.mark.parametrize("n", [1, 4, 5])
def test_prompts_and_canonical_completions_of_modchain_have_2n_plus_3_tokens(n: int) -> None:
    task = ModChain(n=n)
    tokenizer = open_tokenizer(task)
    for prompt in task.prompts(10, seed=0):
        assert len(tokenizer.encode_prompt(prompt.text)) == 2 * n + 3
        assert len(tokenizer.encode(task.canonical(prompt))) + 1 == 2 * n + 3, "the end token counts"


CHAIN = chain([3, 4, 5, 9, 2], ["+", "*", "-", "-"])


@pytest.mark.parametrize(
    ("completion", "finish", "failure", "process"),
    [
        ("7 ; 5 ; 6 ; 4 ; </think> 4", "eos", "", 1.0),
        ("7 ; 5 ; 6 ; 4 ; </think> 4", "forced", "", 1.0),
        ("</think> 4", "eos", "", 0.0),
        ("7 ; 1 ; 6 ; 4 ; </think> 4", "eos", "", 0.75),
        ("5 ; 6 ; 4 ; </think> 4", "eos", "", 0.0),
        ("7 ; 5 ; 6 ; 4 ; </think> 5", "eos", "wrong answer", 1.0),
        ("7 ; 5 ; 6 ; 4 ; </think> 4 4", "eos", "extra tokens after the answer", 1.0),
        ("7 ; 5 ; 6 ; 4 ; </think> 4 </think> 4", "eos", "extra tokens after the answer", 1.0),
        ("7 ; 5 ; </think> 1 ; 6 ; 4 ; </think> 4", "eos", "extra tokens after the answer", 0.5),
        ("7 ; 5 ; 6 ; 4 ; </think> ;", "eos", "wrong answer", 1.0),
        ("7 ; 5 ; 6 ; 4", "eos", "no </think>", 1.0),
        ("7 ; 5 ; 6 ; 4 ; </think> 4", "length", "truncated", 1.0),
    ],
)
def test_the_verifier_of_modchain(completion: str, finish: Finish, failure: str, process: float) -> None:
    verdict = ModChain(n=4).verify(CHAIN, completion, finish)
    assert (verdict.reward, verdict.failure) == (float(not failure), failure)
    assert verdict.parts == {"process": process}


def test_always_answering_0_scores_18_percent() -> None:
    assert ModChain(n=4).answer_shares()[0] == pytest.approx(0.180004, abs=1e-6)
    assert ModChain(n=5).answer_shares()[0] == pytest.approx(0.180313, abs=1e-6)
    answers = [
        chain(list(digits), list(operators)).answer
        for digits in product(range(10), repeat=3)
        for operators in product(OPERATORS, repeat=2)
    ]
    shares = [answers.count(str(digit)) / len(answers) for digit in range(10)]
    assert ModChain(n=2).answer_shares() == pytest.approx(shares)


def test_held_out_items_of_modchain_are_as_many_and_as_hard_as_promised() -> None:
    task = ModChain(n=4)
    answers = [prompt.answer for prompt in task.prompts(1000, seed=0, split="test")]
    # Four standard errors of 18.0 % at 1,000 items.
    assert answers.count("0") / 1000 == pytest.approx(0.18, abs=0.049)


def test_a_mix_weights_the_operators_and_its_shares_are_exact() -> None:
    rich = ModChain(n=4, mix={"+": 2, "-": 2, "*": 1})
    operators = "".join(prompt.text for prompt in rich.prompts(500, seed=0))
    assert operators.count("*") / 2000 == pytest.approx(0.2, abs=0.036)
    assert ModChain(n=2, mix={"*": 1}).answer_shares()[0] == pytest.approx(
        sum(a * b * c % 10 == 0 for a, b, c in product(range(10), repeat=3)) / 1000
    )
    products = ModChain(n=4, mix={"*": 1}).prompts(50, seed=0)
    assert all(set(prompt.text.split()) <= {*"0123456789*="} for prompt in products)


def test_a_mix_never_draws_what_is_held_out_of_the_uniform_task() -> None:
    rich = ModChain(n=1, mix={"*": 1})
    train = {prompt.text for prompt in rich.prompts(60, seed=0)}
    held_out = {prompt.text for prompt in ModChain(n=1).prompts(20, seed=0, split="test")}
    assert train.isdisjoint(held_out)


def test_a_split_that_is_too_small_says_how_much_it_holds() -> None:
    with pytest.raises(InvalidInput, match=r"no 200 different items for test: \d+ were found"):
        ModChain(n=1).prompts(200, seed=0, split="test")


def test_splits_are_shares_of_all_items() -> None:
    splits = [split_of(str(i)) for i in range(5000)]
    for split, share in (("train", 0.8), ("dev", 0.1), ("test", 0.1)):
        assert splits.count(split) / 5000 == pytest.approx(share, abs=0.02)
    assert {split_of(str(i), test=0.0) for i in range(500)} == {"train", "dev"}


def linear(a: int, b: int, c: int) -> Prompt:
    facts = {"a": a, "b": b, "c": c}
    return Prompt("", f"{a} * x + {b} = {c} mod 11 ; x =", answer="", steps=("5", "9"), facts=facts)


def test_linear_substitutes() -> None:
    # 3 * 9 + 5 = 32 = 10 modulo 11
    task, prompt = Linear(), linear(3, 5, 10)
    rewards = [task.verify(prompt, f"5 ; {x} ; </think> {x}", "eos").reward for x in range(12)]
    assert rewards == [float(x == 9) for x in range(12)]
    assert task.verify(prompt, "</think> 9 9", "eos").failure == "extra tokens after the answer"
    assert task.verify(prompt, "</think> mod", "eos").failure == "wrong answer"


def test_every_linear_equation_is_solved() -> None:
    task = Linear()
    prompts = [prompt for split in ("dev", "test") for prompt in task.prompts(90, seed=0, split=split)]
    assert all((p.facts["a"] * int(p.answer) + p.facts["b"] - p.facts["c"]) % 11 == 0 for p in prompts)


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (") )", ""),
        ("( ) ) )", ""),
        (") ( ) )", ""),
        (")", "brackets left open"),
        (") ) )", "closes more than is open"),
        (") ) ) (", "closes more than is open"),
        (") ; )", "other words among the brackets"),
    ],
)
def test_brackets_count_depth(answer: str, failure: str) -> None:
    prompt = Prompt("", "( ( ) ( =", answer=") )", steps=("1", "2", "1", "2"))
    assert Brackets(length=4).verify(prompt, f"</think> {answer}", "eos").failure == failure


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        ("5 * 9 - 2", ""),
        ("(9*5)-2", ""),
        ("9 * 5 + 2", "wrong answer"),
        ("43", "does not use each number once"),
        ("5 * 9 - 2 - 2", "does not use each number once"),
        ("5 * 9", "does not use each number once"),
        ("5 * 9 - 02", "does not use each number once"),
        ("5 * 9 2 -", "not an expression"),
        ("- 2 + 5 * 9", "not an expression"),
        ("( 5 * 9 - 2", "not an expression"),
        ("5 * 9 ) - 2", "not an expression"),
        ("5 * * 9 - 2", "not an expression"),
        ("5 * 9 - 2 = 43", "does not use each number once"),
        ("__import__ 5 * 9 - 2", "not an expression"),
        ("٥ * 9 - 2", "does not use each number once"),
        ("5 * 9 - 2 " + "9" * 5000, "does not use each number once"),
        ("( " * 5000 + "5 * 9 - 2" + " )" * 5000, ""),
    ],
)
def test_countdown_evaluates_and_counts_the_numbers(answer: str, failure: str) -> None:
    prompt = Prompt("", "2 5 9 ; 43 =", answer="43", facts={"numbers": [2, 5, 9]})
    verdict = Countdown3().verify(prompt, f"5 * 9 = 45 ; </think> {answer}", "eos")
    assert (verdict.reward, verdict.failure) == (float(not failure), failure)


EXPRESSION = st.recursive(
    st.integers(0, 30).map(str),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*"), inner).map(" ".join), inner.map(lambda text: f"( {text} )")
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(EXPRESSION)
def test_the_parser_agrees_with_python(expression: str) -> None:
    assert evaluate(expression.split()) == eval(expression)


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*"+-*()", "3", "12"]), max_size=9))
def test_the_parser_refuses_what_python_refuses(words: list[str]) -> None:
    # A sign, a call and a tuple are Python's but not ours.
    try:
        expected = eval(" ".join(words)) if words else None
    except (SyntaxError, TypeError):
        expected = None
    found = evaluate(words)
    assert found is None or found == expected


def test_targets_are_reached_by_their_expressions() -> None:
    for numbers in ((2, 5, 9), (1, 1, 1), (7, 13, 20)):
        for target, (first, result, expression) in reachable(*numbers).items():
            assert evaluate(expression.split()) == target
            assert evaluate(first.split()) == result
            assert sorted(int(word) for word in expression.split() if word.isdecimal()) == sorted(numbers)
    assert 43 in reachable(2, 5, 9)


def test_tasks_open_by_name_with_options() -> None:
    task: Task = open_task("modchain", n=5, mix={"+": 1})
    assert task.name == "modchain5"
    assert set(TASKS) == {"modchain", "countdown3", "linear", "brackets", "word-problems", "gsm8k"}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("modchian", {}, "did you mean modchain"),
        ("zzz", {}, "modchain or countdown3"),
        ("modchain", {"length": 3}, "no option 'length'; its options are n, mix, fillers"),
        ("linear", {"n": 3}, "it has no options"),
        ("gsm8k", {}, "needs the option 'data'"),
        ("modchain", {"n": 0}, "at least 1"),
        ("modchain", {"fillers": 7}, "0 to 6"),
        ("modchain", {"mix": {"/": 1}}, "'/'"),
        ("modchain", {"mix": {"+": -1, "*": 2}}, "weights of 0 or more"),
        ("modchain", {"mix": {"+": float("nan")}}, "weights of 0 or more"),
        ("modchain", {"mix": {}}, "above 0"),
        ("brackets", {"length": 0}, "at least 1"),
        ("countdown3", {"largest": 100}, "2 to 99"),
    ],
)
def test_what_cannot_be_opened_is_refused_with_a_cure(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        open_task(name, **options)


def test_unknown_splits_and_negative_counts_are_refused() -> None:
    with pytest.raises(InvalidInput, match="train, dev, test"):
        ModChain().prompts(1, seed=0, split="validation")
    with pytest.raises(InvalidInput, match="-1"):
        ModChain().prompts(-1, seed=0)


def test_brackets_always_leave_something_to_complete() -> None:
    for length in (1, 2, 5, 14):
        task, rng = Brackets(length=length), np.random.default_rng(0)
        for _ in range(50):
            prompt = task.draw(rng)
            assert int(prompt.steps[-1]) == len(prompt.answer.split()) >= 1
            assert min(int(step) for step in prompt.steps) >= 0
