"""Answers piece by piece: the same tokens as in one go, stopped when the reader stops, from every kind of model."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from contracts.scripted_server import ScriptedServer
from contracts.tiny_llama import save_tiny_llama
from contracts.tiny_tokenizer import CharTokenizer

from facetrail.models.errors import InvalidInput, NotFound, Unavailable
from facetrail.models.language import sampling
from facetrail.models.language.causal import LocalPolicy, TinyPolicy
from facetrail.models.language.causal_policy import CausalPolicy
from facetrail.models.language.conversation import Message, Piece, Speaker
from facetrail.models.language.records import DrawKey, Prompt, Sampling
from facetrail.models.language.speakers import open_speaker

pytestmark = pytest.mark.usefixtures("no_running_loop")

GREEDY = Sampling(temperature=0, max_new_tokens=12)
ASKED = [Message("user", "1+2*3=" * 5)]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("llama") / "model", chat=True)


@pytest.fixture(params=["tiny", "local"])
def policy(request: pytest.FixtureRequest) -> CausalPolicy:
    torch.set_num_threads(1)
    if request.param == "local":
        return LocalPolicy.open(request.getfixturevalue("llama"))
    tiny = TinyPolicy.new(CharTokenizer(), seed=0)
    with torch.no_grad():
        for parameter in tiny.module.parameters():
            if parameter.ndim == 2:
                parameter.mul_(6.0)
    return tiny


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer().running() as running:
        yield running


def heard(speaker: Speaker, sampling: Sampling = GREEDY, messages: list[Message] = ASKED) -> list[Piece]:
    return list(speaker.stream(messages, sampling=sampling, key=DrawKey(3)))


# -- weights that are here -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("part", [4, 128])
def test_a_stream_says_what_generate_says_however_the_prompt_is_parted(
    policy: CausalPolicy, part: int, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "PART", part)
    how = Sampling(temperature=temperature, max_new_tokens=12)
    pieces = heard(policy, how)
    # `generate` names its stream of random numbers by the prompt's id.
    whole = policy.generate([Prompt("chat", ASKED[0].content, "")], 1, sampling=how, key=DrawKey(3))[0]
    assert "".join(piece.text for piece in pieces) == whole.text
    assert [piece.finish for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert pieces[-1].finish == whole.finish
    usage = pieces[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (policy.count(ASKED), len(whole.completion_ids))
    n_parts = -(-usage.prompt_tokens // part)
    assert [piece.text for piece in pieces[: n_parts - 1]] == [""] * (n_parts - 1)


def test_a_character_of_several_tokens_comes_whole(llama: Path) -> None:
    policy = LocalPolicy.open(llama)
    for seed in range(5):
        how = Sampling(temperature=2.0, max_new_tokens=40)
        pieces = list(policy.stream([Message("user", "é")], sampling=how, key=DrawKey(seed)))
        said = "".join(piece.text for piece in pieces)
        whole = policy.generate([Prompt("chat", "é", "")], 1, sampling=how, key=DrawKey(seed))[0].text
        assert said == whole


def test_closing_a_stream_stops_the_model(policy: CausalPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    draw = sampling.draw
    monkeypatch.setattr(sampling, "draw", lambda *a, **k: drawn.append(1) or draw(*a, **k))
    stream = policy.stream(ASKED, sampling=GREEDY, key=DrawKey(0))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert len(drawn) == 1


def test_roles_reach_the_template(llama: Path) -> None:
    policy = LocalPolicy.open(llama)
    turns = [Message("system", "a"), Message("user", "b"), Message("assistant", "c"), Message("user", "d")]
    text = policy.tokenizer._tokenizer.decode(policy.tokenizer.encode_chat(turns))
    assert text == "<|system|>a<|end|><|user|>b<|end|><|assistant|>c<|end|><|user|>d<|end|><|assistant|>"


def test_messages_without_room_for_an_answer_are_refused(policy: CausalPolicy) -> None:
    with pytest.raises(InvalidInput, match=r"tokens, and .* reads at most"):
        heard(policy, messages=[Message("user", "1" * 500)])


def test_a_template_that_refuses_a_role_says_so(llama: Path) -> None:
    policy = LocalPolicy.open(llama)
    policy.tokenizer._tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    with pytest.raises(InvalidInput, match=r"refuses these messages \(no system role\)") as error:
        policy.count(ASKED)
    assert error.value.pointer == "/messages"


# -- a server ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("manner", ["stream", "whole"])
def test_a_server_is_heard_as_it_writes_or_as_a_whole(server: ScriptedServer, manner: str) -> None:
    server.manner = manner  # type: ignore[assignment]
    speaker = open_speaker(server.url, model="scripted")
    turns = [Message("system", "Be brief."), Message("user", "Weather?")]
    pieces = [piece for piece in heard(speaker, messages=turns) if piece != Piece()]
    assert "".join(piece.text for piece in pieces) == "It rains."
    assert pieces[-1].finish == "eos"
    assert [piece.text for piece in pieces[:-1]] == (["It ", "rains."] if manner == "stream" else ["It rains."])
    asked = server.asked[0]
    assert asked["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Weather?"}]
    assert (asked["model"], asked["max_tokens"], asked["temperature"], asked["stream"]) == ("scripted", 12, 0, True)


@pytest.mark.parametrize(
    ("manner", "sentence"),
    [
        ("nonsense", "does not speak the OpenAI protocol: its answer is no JSON"),
        ("no json", "does not speak the OpenAI protocol: a part of its stream is no JSON"),
        ("busy", "is too busy .status 503.; try again later"),
        ("unknown", "knows no model 'scripted'"),
        ("breaks off", "gave up while it wrote: .*out of memory"),
    ],
)
def test_a_server_that_misbehaves_is_unavailable(server: ScriptedServer, manner: str, sentence: str) -> None:
    server.manner = manner  # type: ignore[assignment]
    with pytest.raises(Unavailable, match=sentence):
        heard(open_speaker(server.url, model="scripted"))


def test_a_server_that_is_down_or_silent_is_unavailable(server: ScriptedServer) -> None:
    with pytest.raises(Unavailable, match=r"does not answer to the end \(ConnectError\)"):
        heard(open_speaker("http://127.0.0.1:9/v1", model="scripted"))
    server.manner = "silent"
    with pytest.raises(Unavailable, match=r"said nothing for 0\.3 s"):
        heard(open_speaker(server.url, model="scripted", timeout=0.3))


@pytest.mark.parametrize("manner", ["stream", "silent"])
def test_a_reader_who_leaves_hangs_up_on_the_server_within_a_second(server: ScriptedServer, manner: str) -> None:
    server.manner, server.says, server.pause = manner, ["a "] * 1_000, 0.05  # type: ignore[assignment]
    stream = open_speaker(server.url, model="scripted").stream(ASKED, sampling=GREEDY, key=DrawKey(0))
    for _ in range(3):
        next(stream)  # a breath comes every tenth of a second, so a silent server blocks nobody
    started = time.monotonic()
    stream.close()  # type: ignore[attr-defined]
    assert time.monotonic() - started < 1
    if manner == "stream":
        deadline = time.monotonic() + 2
        while server.open:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_name_that_means_nothing_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no language model"):
        open_speaker(str(tmp_path))
