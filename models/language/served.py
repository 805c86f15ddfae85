"""A server's completions as a policy learns from them: in its own tokens, with log-probs only where they are of those.

Ours throughout. What is sampled by one tokenizer and encoded anew by another, or by the same one along another path,
has other tokens, and log-probs of other tokens would make every ratio wrong. So the server's ids are kept where they
decode to its text, its log-probs where they belong to each of the kept ids, the end token included; otherwise there are
none, and whoever trains computes them.
"""

from dataclasses import dataclass

from facetrail.models.language.endpoint import Written
from facetrail.models.language.records import Finish, Tokenizer


@dataclass(frozen=True, slots=True)
class Served:
    """A completion in the policy's tokens."""

    ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    """The server's, of each id; empty where it told those of other tokens, or none."""
    finish: Finish


def served(written: Written, tokenizer: Tokenizer, *, limit: int) -> Served:
    """At most `limit` tokens; a longer completion is cut, and finishes by "length".

    Raises InvalidInput for text that the tokenizer cannot express.
    """
    end = (tokenizer.eos_id,) if written.finish == "eos" else ()
    ids = _sampled(written, tokenizer)
    if ids is not None:
        is_exact = len(written.log_probs) == len(ids + end) and len(written.token_ids) == len(ids + end)
    else:
        ids = tuple(tokenizer.encode(written.text))
        is_exact = _spells(written, ids, tokenizer, has_end=bool(end))
    whole = ids + end
    log_probs = written.log_probs if is_exact else ()
    finish: Finish = "length" if len(whole) > limit else written.finish
    return Served(whole[:limit], log_probs[:limit], finish)


def _sampled(written: Written, tokenizer: Tokenizer) -> tuple[int, ...] | None:
    """The server's own ids without an end token; None where they do not spell its text in the policy's table."""
    ids = written.token_ids
    if ids and ids[-1] == tokenizer.eos_id and written.finish == "eos":
        ids = ids[:-1]
    elif not ids:
        return None
    if any(not 0 <= one < tokenizer.n_tokens or one == tokenizer.eos_id for one in ids):
        return None
    return ids if tokenizer.decode(ids) == written.text else None


def _spells(written: Written, ids: tuple[int, ...], tokenizer: Tokenizer, *, has_end: bool) -> bool:
    """Whether the server's tokens are those of the ids one by one, and it gave a log-prob of each and of the end."""
    if not len(written.tokens) == len(written.log_probs) == len(ids) + has_end:
        return False
    spelled = ""
    for n, token in enumerate(written.tokens[: len(ids)], start=1):
        spelled += token
        if tokenizer.decode(ids[:n]) != spelled:
            return False
    return spelled == written.text
