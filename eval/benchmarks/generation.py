"""How fast completions are written beside transformers' own `generate`: the same weights, the same greedy tokens.

python -m facetrail.eval.benchmarks.generation [--prompts 32] [--samples 8] [--rounds 5] [--threads 1]

The weights are a small Llama of random numbers with the words of modchain, about as large as our tiny policy. Arms take
turns within each round, so that a busy moment of the machine hits all of them; medians over rounds are reported. One
thread is judged by CPU seconds, more by wall. Tokens are those that count: everything up to a row's end token. Both
sides give ids, texts and, where they sample, the log-probs that training needs; transformers without log-probs, and our
own decoder of about the same size, are shown beside them.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

from facetrail.eval.evidence import write_result
from facetrail.models.language.causal import LocalPolicy, TinyPolicy
from facetrail.models.language.causal_policy import CausalPolicy
from facetrail.models.language.huggingface import HuggingFaceTokenizer
from facetrail.models.language.modchain import ModChain
from facetrail.models.language.records import DrawKey, Prompt, Sampling
from facetrail.models.language.sampling import left_padded
from facetrail.models.language.vocabulary import WordTokenizer

PLAIN, BARE = "transformers-generate", "transformers-generate-tokens-only"
OURS, TINY = "facetrail-local", "facetrail-tiny"
SPEED_UP = 1.15
SCALE = 10.0
"""Of the random weights: the library's own are so small that every token is nearly as likely as any other."""
DESCRIPTIONS = {
    PLAIN: "LlamaForCausalLM.generate, prompts padded on the left, and compute_transition_scores where it samples",
    BARE: "the same without log-probs, which training would then need another pass for",
    OURS: "LocalPolicy.generate of the same weights",
    TINY: "TinyPolicy.generate: our own decoder of about the same size",
}
Clock = Callable[[], float]
Write = Callable[[Sampling], list[tuple[int, ...]]]


@dataclass
class Timing:
    """Of each round: seconds and tokens."""

    seconds: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Tokens a second, the median of the rounds."""
        return median(n / s for n, s in zip(self.tokens, self.seconds, strict=True))


def small_llama(task: ModChain, *, seed: int, scale: float = SCALE) -> tuple[Any, HuggingFaceTokenizer]:
    """Random weights, scaled, and a tokenizer of the task's words, of which each is one token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    table = WordTokenizer.of(task.vocabulary).table
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(table)}, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    kind: Any = PreTrainedTokenizerFast  # its signature is untyped
    wrapped = kind(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>")
    tokenizer = HuggingFaceTokenizer(wrapped)
    config = LlamaConfig(
        vocab_size=len(table),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_id,
        pad_token_id=tokenizer.pad_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = LlamaForCausalLM(config)
    _spread(model, scale)
    return model.eval(), tokenizer


def by_policy(policy: CausalPolicy, prompts: Sequence[Prompt], samples: int, *, seed: int) -> Write:
    """Our way: from texts to ids, texts and log-probs."""

    def write(sampling: Sampling) -> list[tuple[int, ...]]:
        found = policy.generate(prompts, samples, sampling=sampling, key=DrawKey(seed))
        return [one.completion_ids for one in found]

    return write


def by_transformers(
    model: Any, tokenizer: HuggingFaceTokenizer, prompts: Sequence[Prompt], samples: int, *, log_probs: bool
) -> Write:
    """transformers as its documentation says to use it; texts are decoded here too, as ours are."""

    def write(sampling: Sampling) -> list[tuple[int, ...]]:
        ids, mask = left_padded([tokenizer.encode_prompt(prompt.text) for prompt in prompts], tokenizer.pad_id)
        ids, mask = ids.repeat_interleave(samples, 0), mask.repeat_interleave(samples, 0)
        drawn: dict[str, Any] = {"do_sample": False}
        if sampling.temperature:
            drawn = {"do_sample": True, "temperature": sampling.temperature, "top_k": 0, "top_p": 1.0}
        with torch.inference_mode():
            found = model.generate(
                input_ids=ids,
                attention_mask=mask.long(),
                max_new_tokens=sampling.max_new_tokens,
                return_dict_in_generate=True,
                output_scores=log_probs and sampling.is_plain,
                **drawn,
            )
            if log_probs and sampling.is_plain:
                model.compute_transition_scores(found.sequences, found.scores, normalize_logits=True).tolist()
        rows = [_until(row, tokenizer.eos_id) for row in found.sequences[:, ids.shape[1] :].tolist()]
        for row in rows:
            tokenizer.decode(row)
        return rows

    return write


def measured(arms: dict[str, Write], sampling: Sampling, rounds: int, clock: Clock) -> dict[str, Timing]:
    """Every arm once a round, in turn, after one call to warm up."""
    timings = {name: Timing() for name in arms}
    for write in arms.values():
        write(sampling)
    for number in range(rounds):
        for name in list(arms) if number % 2 == 0 else list(reversed(arms)):
            start = clock()
            rows = arms[name](sampling)
            timings[name].seconds.append(clock() - start)
            timings[name].tokens.append(sum(map(len, rows)))
    return timings


def judged(measures: dict[str, dict[str, float]], lengths: Sequence[int]) -> list[dict[str, Any]]:
    """The demands: sampling speed at every length, and equal greedy tokens."""
    rows: list[dict[str, Any]] = []
    for length in lengths:
        measure = _rate("sampled", length)
        mine, theirs = measures[OURS][measure], measures[PLAIN][measure]
        demand = f"at least {SPEED_UP} times; measured {mine / theirs:.2f}"
        rows.append(_row(measure, mine - theirs, demand, met=mine >= SPEED_UP * theirs))
        bare = measures[BARE][_rate("sampled", length)]
        rows.append({"a": OURS, "b": BARE, "measure": measure, "difference": mine - bare})
        measure = f"same greedy tokens ({length})"
        rows.append(
            _row(measure, measures[OURS][measure] - 1.0, "every row identical", met=measures[OURS][measure] == 1.0)
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark and writes eval/results/generation.json; exit code 1 where a demand is not met."""
    parser = argparse.ArgumentParser(
        prog="python -m facetrail.eval.benchmarks.generation", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--lengths", type=int, nargs="+", default=[14, 54], help="most tokens of a completion")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None, help="folder of the result; default eval/results")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    task = ModChain()
    # Chains of two lengths, so that padding is part of what is measured.
    chains = (task, ModChain(n=2))
    prompts = [one for chain in chains for one in chain.prompts(options.prompts // 2, seed=options.seed)]
    model, tokenizer = small_llama(task, seed=options.seed)
    local = LocalPolicy(model, tokenizer, name=OURS, rows_at_once=4096)
    tiny = TinyPolicy.new(WordTokenizer.of(task.vocabulary), seed=options.seed)
    _spread(tiny.module, SCALE)
    arms: dict[str, Write] = {
        PLAIN: by_transformers(model, tokenizer, prompts, options.samples, log_probs=True),
        BARE: by_transformers(model, tokenizer, prompts, options.samples, log_probs=False),
        OURS: by_policy(local, prompts, options.samples, seed=options.seed),
        TINY: by_policy(tiny, prompts, options.samples, seed=options.seed),
    }
    measures: dict[str, dict[str, float]] = {name: {} for name in arms}
    for length in options.lengths:
        greedy = Sampling(temperature=0, max_new_tokens=length)
        rows = {name: arms[name](greedy) for name in (PLAIN, OURS)}
        same = [mine == theirs for mine, theirs in zip(rows[OURS], rows[PLAIN], strict=True)]
        measures[OURS][f"same greedy tokens ({length})"] = sum(same) / len(same)
        for way, sampling in (("greedy", greedy), ("sampled", Sampling(max_new_tokens=length))):
            for name, timing in measured(arms, sampling, options.rounds, clock).items():
                measures[name][_rate(way, length)] = timing.rate
    sizes = {PLAIN: model, BARE: model, OURS: model, TINY: tiny.module}
    found = judged(measures, options.lengths)
    path = write_result(
        "generation",
        claim="The same weights write faster than with transformers' generate, and the same greedy tokens.",
        data=[{"name": "modchain(4) and modchain(2), generated", "sha256": ""}],
        arms={
            name: {
                "description": DESCRIPTIONS[name],
                "measures": measures[name],
                "meters": {"weights": sum(p.numel() for p in sizes[name].parameters())},
            }
            for name in arms
        },
        comparisons=found,
        seeds=[options.seed],
        meter={"name": "weights", "equal_within": 0.1},
        command=" ".join(["python -m facetrail.eval.benchmarks.generation", *(arguments or sys.argv[1:])]),
        notes=f"Medians of {options.rounds} interleaved rounds on {options.threads} thread(s), "
        f"{'CPU' if options.threads == 1 else 'wall'} seconds; random weights.",
        folder=options.out,
    )
    demanded = [row for row in found if "demand" in row]
    for row in demanded:
        print(f"{'met ' if row['met'] else 'MISS'} {row['a']}: {row['measure']} {row['demand']}")
    print(path)
    return 0 if all(row["met"] for row in demanded) else 1


def _rate(way: str, length: int) -> str:
    return f"{way} tokens/s (at most {length})"


def _row(measure: str, difference: float, demand: str, *, met: bool) -> dict[str, Any]:
    return {"a": OURS, "b": PLAIN, "measure": measure, "difference": difference, "demand": demand, "met": met}


def _spread(module: torch.nn.Module, scale: float) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 2:
                parameter.mul_(scale)


def _until(row: list[int], eos_id: int) -> tuple[int, ...]:
    return tuple(row[: row.index(eos_id) + 1] if eos_id in row else row)


if __name__ == "__main__":
    sys.exit(main())
