"""What every policy with weights promises, held to the tiny kind and to a transformers folder; then each kind's own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from contracts.tiny_llama import save_tiny_llama
from contracts.tiny_tokenizer import CharTokenizer
from torch import Tensor

from facetrail.models.errors import Conflict, Damaged, InvalidInput, NotFound
from facetrail.models.language.causal import LocalPolicy, TinyPolicy
from facetrail.models.language.causal_policy import CausalPolicy
from facetrail.models.language.huggingface import AdapterConfig
from facetrail.models.language.opening import open_language_model, open_policy
from facetrail.models.language.records import DrawKey, Prompt, Rollout, Sampling
from facetrail.models.language.vocabulary import WordTokenizer

TEXTS = ["1+2*3=", "7=", "4-4+1*9-3=", "0-1="]
PROMPTS = [Prompt(f"p{i}", text, "") for i, text in enumerate(TEXTS)]
SAMPLING = Sampling(max_new_tokens=12)
KEY = DrawKey(3)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("llama") / "model")


def tiny(*, scale: float = 6.0, **shape: object) -> TinyPolicy:
    """Far from the nearly uniform start, where every mistake would be small."""
    policy = TinyPolicy.new(CharTokenizer(), seed=0, **shape)
    with torch.no_grad():
        for parameter in policy.module.parameters():
            if parameter.ndim == 2:
                parameter.mul_(scale)
    return policy


@pytest.fixture(params=["tiny", "local"])
def policy(request: pytest.FixtureRequest) -> CausalPolicy:
    return tiny() if request.param == "tiny" else LocalPolicy.open(request.getfixturevalue("llama"))


@pytest.mark.parametrize("adapter", [AdapterConfig(), None])
def test_logits_of_half_precision_are_not_rounded_to_it(llama: Path, adapter: AdapterConfig | None):
    policy = LocalPolicy.open(llama, adapter=adapter, dtype="bfloat16")
    head = policy.module.get_output_embeddings()
    states = torch.randn(5, head.in_features, generator=torch.Generator().manual_seed(0)).bfloat16()
    for _ in range(2):
        logits = head(states)
        assert logits.dtype == torch.float32
        assert torch.allclose(logits.double(), states.double() @ head.weight.double().T, rtol=1e-5, atol=1e-6)
        if adapter is None:  # a matrix that learns is read anew, and learns
            logits.sum().backward()
            assert head.weight.grad.abs().sum() > 0
            with torch.no_grad():
                head.weight.mul_(1.5)


def test_a_model_of_half_precision_learns_after_it_has_scored(llama: Path):
    policy = LocalPolicy.open(llama, adapter=AdapterConfig(), dtype="bfloat16")
    policy.score("1+2*3=", ["7", "8"])
    prompt, answer = (torch.tensor([policy.tokenizer.encode(text)]) for text in ("1+2*3=", "7"))
    read, said = torch.ones_like(prompt) > 0, torch.ones_like(answer) > 0
    policy.log_probs(prompt, read, answer, said, temperature=1.0).sum().backward()
    assert sum(float(weight.grad.abs().sum()) for _, weight in policy.trainable() if weight.grad is not None) > 0


def test_the_output_matrix_is_not_copied_for_the_last_logits(llama: Path):
    policy = LocalPolicy.open(llama, adapter=AdapterConfig(), dtype="bfloat16")  # torch spares weights that learn
    policy.score("1+2*3=", ["7"])  # a frozen matrix is widened once
    n_weights = policy.module.get_output_embeddings().weight.numel()
    with torch.profiler.profile(record_shapes=True) as seen:
        policy.score("1+2*3=", ["7", "8"])
        policy.generate(PROMPTS, 1, sampling=SAMPLING, key=KEY)
    copied = [np.prod(event.input_shapes[0]) for event in seen.events() if event.name == "aten::copy_"]
    assert copied
    assert max(copied) < n_weights


def batch(policy: CausalPolicy, rollouts: list[Rollout], *, padding: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    prompts = {prompt.prompt_id: policy.tokenizer.encode_prompt(prompt.text) for prompt in PROMPTS}
    left, right = [prompts[one.prompt_id] for one in rollouts], [list(one.completion_ids) for one in rollouts]
    p, t = max(map(len, left)) + 1, max(map(len, right)) + 1  # one column that is padding everywhere
    return (
        torch.tensor([[padding] * (p - len(row)) + row for row in left]),
        torch.tensor([[False] * (p - len(row)) + [True] * len(row) for row in left]),
        torch.tensor([row + [padding] * (t - len(row)) for row in right]),
        torch.tensor([[True] * len(row) + [False] * (t - len(row)) for row in right]),
    )


def greedy_in_full(policy: CausalPolicy, text: str, n_tokens: int) -> tuple[int, ...]:
    """One prompt at a time, every token by a whole pass over all before it."""
    prompt, written = policy.tokenizer.encode_prompt(text), list[int]()
    while len(written) < n_tokens and policy.tokenizer.eos_id not in written:
        ids = torch.tensor([prompt + written])
        with torch.inference_mode():
            written.append(int(policy._last_logits(ids, torch.ones_like(ids) > 0, 1)[0, -1].argmax()))
    return tuple(written)


def test_greedy_tokens_are_those_of_full_passes(policy: CausalPolicy) -> None:
    found = policy.generate(PROMPTS, 1, sampling=replace(SAMPLING, temperature=0), key=KEY)
    assert [one.completion_ids for one in found] == [greedy_in_full(policy, text, 12) for text in TEXTS]
    assert {(one.sampler, one.log_probs) for one in found} == {("greedy", ())}
    assert len({one.completion_ids for one in found}) > 1


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.3])
def test_recorded_log_probs_are_those_of_a_full_pass(policy: CausalPolicy, temperature: float) -> None:
    rollouts = policy.generate(PROMPTS, 3, sampling=replace(SAMPLING, temperature=temperature), key=KEY)
    prompt_ids, prompt_mask, ids, mask = batch(policy, rollouts)
    found = policy.log_probs(prompt_ids, prompt_mask, ids, mask, temperature=temperature)
    assert found.dtype == torch.float32
    assert (found[~mask] == 0).all()
    recorded = torch.zeros(mask.shape)
    for i, one in enumerate(rollouts):
        recorded[i, : len(one.log_probs)] = torch.tensor(one.log_probs)
    assert torch.allclose(found, recorded, atol=1e-5, rtol=0)
    assert found.min() < -1


def test_rollouts_say_who_wrote_them_and_how(policy: CausalPolicy) -> None:
    rollouts = policy.generate(PROMPTS, 3, sampling=SAMPLING, key=KEY)
    assert [(one.prompt_id, one.sample) for one in rollouts] == [(p.prompt_id, i) for p in PROMPTS for i in range(3)]
    eos = policy.tokenizer.eos_id
    for one in rollouts:
        assert one.text == policy.tokenizer.decode(one.completion_ids)
        assert (one.finish == "eos") == (one.completion_ids[-1] == eos)
        assert one.finish == "eos" or len(one.completion_ids) == 12
        assert (one.source_id, one.sampler, one.temperature) == (policy.name, "plain", 1.0)
    assert policy.generate(PROMPTS[:1], 1, sampling=SAMPLING, key=DrawKey(0, agent="b"))[0].source_id == "b"


def test_a_row_does_not_depend_on_its_neighbours(policy: CausalPolicy) -> None:
    together = policy.generate(PROMPTS, 4, sampling=SAMPLING, key=KEY)
    alone = policy.generate(PROMPTS[2:3], 4, sampling=SAMPLING, key=KEY)
    backwards = policy.generate(PROMPTS[::-1], 2, sampling=SAMPLING, key=KEY)
    policy.rows_at_once = 3
    in_parts = policy.generate(PROMPTS, 4, sampling=SAMPLING, key=KEY)
    ids = {(one.prompt_id, one.sample): one.completion_ids for one in together}
    for one in (*alone, *backwards, *in_parts):
        assert one.completion_ids == ids[one.prompt_id, one.sample]
    other = policy.generate(PROMPTS, 4, sampling=SAMPLING, key=replace(KEY, step=1))
    assert [one.completion_ids for one in other] != [one.completion_ids for one in together]


def test_top_p_leaves_no_log_probs(policy: CausalPolicy) -> None:
    rollouts = policy.generate(PROMPTS, 2, sampling=replace(SAMPLING, top_p=0.5), key=KEY)
    assert {(one.sampler, one.log_probs) for one in rollouts} == {("top-p", ())}


def test_any_padding_value_changes_nothing(policy: CausalPolicy) -> None:
    rollouts = policy.generate(PROMPTS, 2, sampling=SAMPLING, key=KEY)
    for call in (lambda *b: policy.log_probs(*b, temperature=1.0), policy.hidden_states):
        expected = call(*batch(policy, rollouts, padding=0))
        for value in (1, policy.tokenizer.eos_id, -100, 10**6):
            assert torch.equal(call(*batch(policy, rollouts, padding=value)), expected)


def test_log_probs_lead_back_to_the_weights(policy: CausalPolicy) -> None:
    rollouts = policy.generate(PROMPTS, 1, sampling=SAMPLING, key=KEY)
    policy.log_probs(*batch(policy, rollouts), temperature=1.0).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for _, p in policy.trainable())


def test_hidden_states_are_those_that_logits_are_made_of(policy: CausalPolicy) -> None:
    rollouts = policy.generate(PROMPTS, 1, sampling=SAMPLING, key=KEY)
    prompt_ids, prompt_mask, ids, mask = batch(policy, rollouts)
    with torch.no_grad():
        states = policy.hidden_states(prompt_ids, prompt_mask, ids, mask)
        log_probs = policy.log_probs(prompt_ids, prompt_mask, ids, mask, temperature=1.0)
        head = policy.module.tokens if policy.kind == "tiny" else policy.module.lm_head
        logits = states[:, :-1] @ head.weight.T
    assert states.shape == (*ids.shape, 64)
    assert (states[~mask] == 0).all()
    after = logits.log_softmax(-1).gather(2, ids[:, 1:, None]).squeeze(2)  # of each token but the first
    assert torch.allclose(after[mask[:, 1:]], log_probs[:, 1:][mask[:, 1:]], atol=1e-5)


def test_score_is_the_sum_of_log_probs(policy: CausalPolicy) -> None:
    texts = ["1", "", "12=4"]
    found = policy.score("1+2=", texts)
    assert found.dtype == np.float64
    assert found.shape == (3,)
    assert found[1] == 0
    prompt, row = policy.tokenizer.encode_prompt("1+2="), policy.tokenizer.encode("12=4")
    ids = torch.tensor([prompt + row])
    with torch.no_grad():
        log_p = policy._last_logits(ids, torch.ones_like(ids) > 0, ids.shape[1])[0].log_softmax(-1)
    by_hand = sum(log_p[len(prompt) + i - 1, token].item() for i, token in enumerate(row))
    assert found[2] == pytest.approx(by_hand, abs=1e-5)


@pytest.mark.parametrize("texts", [["1", "3", "1"], ["12=4", "", "1", "3+3"]])
def test_the_prompt_is_read_once_for_all_continuations(
    policy: CausalPolicy, monkeypatch: pytest.MonkeyPatch, texts: list[str]
) -> None:
    prompt, rows = policy.tokenizer.encode_prompt("1+2="), [policy.tokenizer.encode(text) for text in texts]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[place < len(row) for place in range(longest)] for row in rows])
    prompts = torch.tensor([prompt] * len(rows))
    with torch.no_grad():
        apart = policy.log_probs(prompts, torch.ones_like(prompts) > 0, ids, mask, temperature=1.0).sum(1)
    read: list[tuple[int, ...]] = []
    kind = type(policy._decoding(1))
    start = kind.start
    monkeypatch.setattr(kind, "start", lambda self, ids, mask: read.append(tuple(ids.shape)) or start(self, ids, mask))
    assert policy.score("1+2=", texts) == pytest.approx(apart.numpy(), abs=1e-5)
    assert read == [(1, len(prompt))]


def test_a_prompt_without_room_for_a_continuation_is_refused(policy: CausalPolicy) -> None:
    full = next(text for n in range(400) if len(policy.tokenizer.encode_prompt(text := "1" * n)) == policy.context)
    with pytest.raises(InvalidInput, match="shorten them"):
        policy.score(full, ["1"])


def test_prompts_beyond_the_context_are_refused_and_completions_end_there(policy: CausalPolicy) -> None:
    long = Prompt("long", "1+" * 200, "")
    with pytest.raises(InvalidInput, match=r"prompt 'long' has \d+ tokens, and .* reads at most \d+"):
        policy.generate([long], 1, sampling=SAMPLING, key=KEY)
    n_free = 5
    full = next(
        Prompt("full", "1" * n, "")
        for n in range(400)
        if len(policy.tokenizer.encode_prompt("1" * n)) == policy.context - n_free
    )
    rollouts = policy.generate([full, *PROMPTS], 2, sampling=SAMPLING, key=KEY)
    assert all(len(one.completion_ids) <= n_free for one in rollouts[:2])
    assert {one.finish for one in rollouts[:2] if len(one.completion_ids) == n_free} <= {"length", "eos"}
    ids = torch.ones(1, policy.context, dtype=torch.int64)
    with pytest.raises(InvalidInput, match="shorten them"):
        policy.log_probs(ids, ids > 0, ids[:, :1], ids[:, :1] > 0, temperature=1.0)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_log_probs_need_a_temperature(policy: CausalPolicy, temperature: float) -> None:
    ids = torch.ones(1, 2, dtype=torch.int64)
    with pytest.raises(InvalidInput, match="mean nothing"):
        policy.log_probs(ids, ids > 0, ids, ids > 0, temperature=temperature)


def test_a_prompt_padded_on_the_wrong_side_is_refused(policy: CausalPolicy) -> None:
    ids = torch.ones(1, 3, dtype=torch.int64)
    with pytest.raises(InvalidInput, match="pad prompts on the left"):
        policy.log_probs(ids, torch.tensor([[True, True, False]]), ids, ids > 0, temperature=1.0)


def test_the_fingerprint_follows_the_weights(policy: CausalPolicy) -> None:
    before = policy.fingerprint
    assert policy.fingerprint == before
    with torch.no_grad():
        next(iter(policy.trainable()))[1].view(-1)[0] += 1e-3
    assert policy.fingerprint != before


def test_a_saved_policy_opens_as_it_was(policy: CausalPolicy, tmp_path: Path) -> None:
    folder = tmp_path / policy.name
    policy.save(folder)
    again = open_saved(policy, folder)
    assert again.fingerprint == policy.fingerprint
    written = [p.generate(PROMPTS, 1, sampling=SAMPLING, key=KEY) for p in (policy, again)]
    assert written[0] == written[1]
    with pytest.raises(Conflict, match="exists already"):
        policy.save(folder)
    assert [path.name for path in tmp_path.iterdir()] == [policy.name]


def open_saved(policy: CausalPolicy, folder: Path) -> CausalPolicy:
    if policy.kind == "tiny":
        return TinyPolicy.open(folder, tokenizer=policy.tokenizer)
    return open_policy(str(folder))


def test_the_tiny_kind_in_float64_answers_in_float64() -> None:
    policy = tiny(dtype="float64")
    rollouts = policy.generate(PROMPTS, 2, sampling=SAMPLING, key=KEY)
    prompt_ids, prompt_mask, ids, mask = batch(policy, rollouts)
    found = policy.log_probs(prompt_ids, prompt_mask, ids, mask, temperature=1.0)
    assert found.dtype == torch.float64
    recorded = [torch.tensor(one.log_probs, dtype=torch.float64) for one in rollouts]
    assert torch.allclose(found[mask], torch.cat(recorded), atol=1e-12, rtol=0)


def test_a_tiny_folder_keeps_a_table_of_words(tmp_path: Path) -> None:
    policy = TinyPolicy.new(WordTokenizer.of(["1", "+", "="]).merged(["1 +"], seed=2), seed=0)
    policy.save(tmp_path / "words", figures={"accuracy": 0.5})
    again = open_language_model(str(tmp_path / "words"))
    assert isinstance(again, TinyPolicy)
    assert (again.kind, again.name, again.fingerprint) == ("tiny", "words", policy.fingerprint)


def test_a_tiny_folder_refuses_another_tokenizer_and_changed_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    tiny().save(folder)
    with pytest.raises(InvalidInput, match="give it as tokenizer="):
        TinyPolicy.open(folder)
    with pytest.raises(InvalidInput, match="another tokenizer"):
        TinyPolicy.open(folder, tokenizer=CharTokenizer("0123456789+-*=;_"))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    with pytest.raises(Damaged, match="not byte for byte"):
        TinyPolicy.open(folder, tokenizer=CharTokenizer())


def test_a_tokenizer_of_another_size_is_refused() -> None:
    with pytest.raises(InvalidInput, match="knows 19 tokens and the tokenizer has 5"):
        TinyPolicy(tiny().module, CharTokenizer("01"))


def test_an_adapter_is_all_that_learns_and_all_that_is_saved(llama: Path, tmp_path: Path) -> None:
    plain, policy = LocalPolicy.open(llama), LocalPolicy.open(llama, adapter=AdapterConfig(rank=4, seed=1))
    names = [name for name, _ in policy.trainable()]
    assert len(names) == 2 * 2 * 7  # two matrices beside each of seven linear layers of two blocks
    assert all("lora" in name for name in names)
    rollouts = policy.generate(PROMPTS, 2, sampling=SAMPLING, key=KEY)
    assert [one.completion_ids for one in rollouts] == [
        one.completion_ids for one in plain.generate(PROMPTS, 2, sampling=SAMPLING, key=KEY)
    ]
    policy.log_probs(*batch(policy, rollouts), temperature=1.0).sum().backward()
    with torch.no_grad():
        for _, parameter in policy.trainable():
            parameter += 0.1
    policy.save(tmp_path / "adapter")
    assert not list((tmp_path / "adapter").glob("model*"))
    again = open_policy(str(llama), adapter=tmp_path / "adapter")
    assert again.fingerprint == policy.fingerprint != plain.fingerprint
    assert [name for name, _ in again.trainable()] == names
    scores = [one.score("1+", ["2", "3="]).tolist() for one in (plain, policy, again)]
    assert scores[1] == scores[2] != scores[0]


def test_equal_seeds_make_equal_adapters_and_leave_the_global_generator_alone(llama: Path) -> None:
    state = torch.get_rng_state()
    first, second, other = (LocalPolicy.open(llama, adapter=AdapterConfig(seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.fingerprint == second.fingerprint != other.fingerprint


def test_a_chat_template_wraps_the_prompt(tmp_path: Path) -> None:
    tokenizer = LocalPolicy.open(save_tiny_llama(tmp_path / "chat", chat=True)).tokenizer
    ids = tokenizer.encode_prompt("1 + 2")
    whole = tokenizer._tokenizer.decode(ids)
    assert whole == "<|user|>1 + 2<|end|><|assistant|>"


def test_a_transformers_tokenizer_keeps_what_is_text(llama: Path) -> None:
    tokenizer = LocalPolicy.open(llama).tokenizer
    for text in ("12 ; </think> 12", " leading, é\n\ttabs", "it says <|end|> and <|pad|>", ""):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    ids = tokenizer.encode("12 </think> 3")
    assert tokenizer.decode([*ids, tokenizer.eos_id, tokenizer.pad_id]) == "12 </think> 3"


def test_two_tokenizers_of_different_families_stand_side_by_side(llama: Path) -> None:
    words = TinyPolicy.new(WordTokenizer.of(["12", ";", "</think>", "1", "2", "+", "="]), seed=0)
    pieces = LocalPolicy.open(llama)
    text = "12 ; </think> 12"
    ids = [policy.tokenizer.encode(text) for policy in (words, pieces)]
    assert len(ids[0]) == 4 != len(ids[1])
    assert [p.tokenizer.decode(row) for p, row in zip((words, pieces), ids, strict=True)] == [text, text]
    prompt = [Prompt("p", "1 + 2 =", "")]
    for writer, reader in ((words, pieces), (words, words), (pieces, pieces)):
        text = writer.generate(prompt, 1, sampling=SAMPLING, key=KEY)[0].text
        assert np.isfinite(reader.score("1 + 2 =", [text])).all()
    assert words.tokenizer.fingerprint != pieces.tokenizer.fingerprint


def test_what_is_no_language_model_is_refused(tmp_path: Path, llama: Path) -> None:
    with pytest.raises(NotFound, match="no language model 'nowhere'"):
        open_language_model("nowhere")
    with pytest.raises(NotFound, match=r"adapter_config\.json"):
        open_policy(str(llama), adapter=tmp_path)
    with pytest.raises(InvalidInput, match="cannot be trained"):
        open_policy("http://127.0.0.1:1/v1")
    with pytest.raises(InvalidInput, match="which model"):
        open_language_model("http://127.0.0.1:1/v1")
    (tmp_path / "config.json").write_text('{"model_type": "llama", "num_hidden_layers": 1}')
    with pytest.raises(Damaged, match="incomplete or unreadable"):
        open_language_model(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "nothing-known"}')
    with pytest.raises(InvalidInput, match="cannot be opened"):
        open_language_model(str(tmp_path))
