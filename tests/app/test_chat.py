"""OpenAI's own client against this service: whole, streamed, refused."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from contracts.scripted_server import ScriptedServer
from contracts.tiny_llama import save_tiny_llama

from facetrail.app.chatting import UntilStop

openai = pytest.importorskip("openai", reason="needs the extra `test`")
pytestmark = pytest.mark.usefixtures("imported")
TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Weather?"}]


@pytest.fixture
def service(start: Any, server: ScriptedServer) -> Any:
    return start(("lexical",), language_model=server.url, language_model_name="scripted", language_timeout=3.0)


@pytest.fixture
def client(service: Any) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{service.port}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def test_the_official_client_gets_an_answer(client: Any, server: ScriptedServer) -> None:
    found = client.chat.completions.create(model="scripted", messages=TURNS, max_tokens=9, temperature=0.5)
    assert found.choices[0].message.content == "It rains."
    assert (found.choices[0].finish_reason, found.object) == ("stop", "chat.completion")
    assert (found.usage.prompt_tokens, found.usage.completion_tokens, found.usage.total_tokens) == (7, 2, 9)
    assert server.asked[0]["messages"] == TURNS
    assert (server.asked[0]["max_tokens"], server.asked[0]["temperature"]) == (9, 0.5)


def test_the_official_client_hears_it_in_pieces(client: Any) -> None:
    stream = client.chat.completions.create(
        model="scripted", messages=TURNS, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content] == ["It ", "rains."]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.total_tokens == 9
    assert len({c.id for c in chunks}) == 1


def test_the_official_client_lists_the_model(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["scripted"]


def test_parts_of_text_and_a_stop_are_understood(client: Any, server: ScriptedServer) -> None:
    server.says = ["one, t", "wo, th", "ree"]
    turns = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    found = client.chat.completions.create(model="scripted", messages=turns, stop=["two", "three"])
    assert (found.choices[0].message.content, found.choices[0].finish_reason) == ("one, ", "stop")
    assert server.asked[0]["messages"] == [{"role": "user", "content": "a\nb"}]
    server.finish = "length"
    cut = client.chat.completions.create(model="scripted", messages=turns, max_completion_tokens=3)
    assert cut.choices[0].finish_reason == "length"


def test_refusals_are_the_clients_own_exceptions(client: Any, server: ScriptedServer) -> None:
    def refusal(kind: type[Exception], **asked: Any) -> str:
        with pytest.raises(kind) as error:
            client.chat.completions.create(**{"model": "scripted", "messages": TURNS, **asked})
        return str(error.value.body["detail"])  # type: ignore[attr-defined]

    assert refusal(openai.NotFoundError, model="gpt").startswith("there is no model 'gpt' here")
    assert "at /tools" in refusal(openai.UnprocessableEntityError, tools=[{"type": "function"}])
    assert "none of them empty" in refusal(openai.UnprocessableEntityError, stop=[""])
    server.manner = "nonsense"
    assert "does not speak the OpenAI protocol" in refusal(openai.InternalServerError)
    server.manner = "breaks off"
    with pytest.raises(openai.APIError, match="gave up while it wrote"):
        list(client.chat.completions.create(model="scripted", messages=TURNS, stream=True))
    server.manner = "stream"
    assert client.chat.completions.create(model="scripted", messages=TURNS).choices[0].message.content == "It rains."


def test_leaving_a_stream_ends_the_talk(client: Any, service: Any, server: ScriptedServer) -> None:
    server.says, server.pause = ["word "] * 2_000, 0.02
    stream = client.chat.completions.create(model="scripted", messages=TURNS, stream=True)
    next(iter(stream))
    stream.close()
    deadline = time.monotonic() + 1.0
    while service.platform.speaking.n_talks:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_folder_of_weights_answers_with_its_own_tokens(start: Any, tmp_path: Any) -> None:
    folder = save_tiny_llama(tmp_path / "tiny-llama", chat=True)
    service = start(("lexical",), language_model=str(folder))
    with openai.OpenAI(base_url=f"http://127.0.0.1:{service.port}/v1", api_key="none", max_retries=0) as client:
        turns = [{"role": "user", "content": "1+2"}]
        asked = {"model": "tiny-llama", "messages": turns, "max_tokens": 12, "temperature": 0}
        whole = client.chat.completions.create(**asked)
        assert whole.usage.completion_tokens <= 12
        parts = client.chat.completions.create(**asked, stream=True)
        said = "".join(c.choices[0].delta.content or "" for c in parts)
        assert said == whole.choices[0].message.content != ""
        with pytest.raises(openai.UnprocessableEntityError) as error:
            client.chat.completions.create(model="tiny-llama", messages=[{"role": "user", "content": "x" * 200}])
        assert "reads at most 96" in error.value.body["detail"]


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_stop_in_pieces_is_still_a_stop(cut: int) -> None:
    text = "aaab<end>tail"
    until = UntilStop(["<end>", "zzz"])
    said = until.feed(text[:cut])
    said += until.feed(text[cut:], is_last=True) if not until.is_over else ""
    assert (said, until.is_over) == ("aaab", True)
    almost = UntilStop(["<end>"])
    assert almost.feed("a<en") + almost.feed("x<", is_last=True) == "a<enx<"
