"""Making tokens from tokens, and timing it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dllama_glm.runtime.errors import UsageError
from dllama_glm.runtime.sampler import Sampler

PREFILL = 512  # prompt tokens read at a time: bounds the memory of a long prompt
_SCORED = 128  # tokens scored at a time: each has a row of logits


class Forward(Protocol):
    """A model, on one rank or many."""

    def reset(self) -> None:
        """Forget all tokens."""

    def forward(self, ids: list[int], position: int, *, every: bool = False) -> npt.NDArray[np.float32] | None:
        """Read tokens; see `model.Model.forward`."""

    def greedy(self, ids: list[int], position: int) -> int:
        """Read tokens and return the best next one of all rows, the first of equals; for rank 0."""


@dataclass
class Run:
    """One generation: what came out so far, why it ended (an end token, a stop text, or else a limit), and its times.

    `prompt_tokens` are those that are read, `cached_tokens` those in front of them that the model's cache held already,
    `read` the tokens, of the prompt and made, that it has got since.
    Setting `cancelled`, from any thread, ends the generation after the pass that is under way.
    """

    prompt_tokens: int
    ids: list[int] = field(default_factory=list)
    stop_id: int | None = None
    stop_text: str | None = None
    cached_tokens: int = 0
    read: int = 0
    cancelled: bool = False
    prompt_seconds: float = 0.0
    seconds: float = 0.0
    passes: int = 0  # forward passes after the prompt's, which `seconds` covers

    @property
    def tokens_per_second(self) -> float:
        """Passes a second after the prompt; 0 if there was none."""
        return self.passes / self.seconds if self.passes else 0.0

    @property
    def prompt_tokens_per_second(self) -> float:
        """Prompt tokens read a second."""
        return self.prompt_tokens / self.prompt_seconds if self.prompt_seconds else 0.0


@dataclass(frozen=True)
class Limits:
    """When to stop: `eos_ids` end the text and are not part of it; `max_tokens` counts without them."""

    max_tokens: int
    max_seq_len: int
    eos_ids: frozenset[int]


def generate(
    model: Forward, sampler: Sampler, prompt: list[int], limits: Limits, run: Run, *, start: int = 0
) -> Iterator[int]:
    """Yield tokens one by one, keeping `run` up to date; the prompt begins at position `start` of the cache."""
    check_prompt(prompt, start, limits.max_seq_len)
    began = time.perf_counter()
    token = _after_prompt(model, sampler, prompt, run, start)
    run.prompt_seconds = time.perf_counter() - began
    while token is not None:
        if token in limits.eos_ids:
            run.stop_id = token
            return
        if len(run.ids) == limits.max_tokens:
            return
        run.ids.append(token)
        yield token
        if run.cancelled or start + run.read == limits.max_seq_len:
            return
        began = time.perf_counter()
        token = next_token(model, sampler, [token], start + run.read)
        run.seconds += time.perf_counter() - began
        run.passes += 1
        run.read += 1


def next_token(model: Forward, sampler: Sampler, ids: list[int], position: int) -> int:
    """Read tokens and return the next one; logits are asked for only where the best token alone does not tell it."""
    if sampler.greedy:
        token = model.greedy(ids, position)
        if sampler.may_choose(token):
            return token
        position += len(ids) - 1  # a row without a token is best: read the last one again, and choose among the others
        ids = ids[-1:]
    logits = model.forward(ids, position)
    assert logits is not None, "only rank 0 chooses tokens"
    return sampler.choose(logits[-1])


def _after_prompt(model: Forward, sampler: Sampler, prompt: list[int], run: Run, start: int) -> int | None:
    """Read the prompt in parts; return the token after it, None where the run was cancelled before."""
    while len(prompt) - run.read > PREFILL and not run.cancelled:
        model.forward(prompt[run.read : run.read + PREFILL], start + run.read)
        run.read += PREFILL
    if run.cancelled:
        return None
    token = next_token(model, sampler, prompt[run.read :], start + run.read)
    run.read = len(prompt)
    return token


def check_prompt(prompt: list[int], start: int, max_seq_len: int) -> None:
    """Refuse a prompt without tokens, or one that leaves no room for an answer."""
    if not prompt:
        raise UsageError("The prompt has no tokens: give some text with --prompt.")
    if start + len(prompt) > max_seq_len:
        raise UsageError(
            f"The prompt has {len(prompt)} tokens, and {max_seq_len - start} positions are left: "
            "shorten it or raise --max-seq-len (the model's own limit cannot be passed)."
        )


def log_probabilities(model: Forward, ids: list[int]) -> list[float]:
    """Return the log-probability of every token but the first, given those before it."""
    found: list[float] = []
    for at in range(0, len(ids) - 1, _SCORED):
        part = ids[at : min(at + _SCORED, len(ids) - 1)]
        logits = model.forward(part, at, every=True)
        assert logits is not None
        wide = logits.astype(np.float64)
        wide -= wide.max(axis=1, keepdims=True)
        total = np.log(np.exp(wide).sum(axis=1))
        following = ids[at + 1 : at + 1 + len(part)]
        found.extend((wide[np.arange(len(part)), following] - total).tolist())
    return found
