"""Measuring speed: the same work several times after a warm-up, and the median of it."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

from dllama_glm.cli.session import Session
from dllama_glm.runtime.generate import Limits, Run, generate
from dllama_glm.runtime.machine import peak_memory_mib
from dllama_glm.runtime.sampler import Sampler

RUNS = 3
RUN_TOKENS = 64
RUN_SECONDS = 20.0  # a slow machine makes fewer tokens a run rather than keeping the user for hours


@dataclass(frozen=True)
class Figures:
    """Medians over the runs."""

    tokens_per_second: float
    prefill_tokens_per_second: float
    runs: tuple[float, ...]

    def speeds(self) -> dict[str, float]:
        """Return the figures as they are published."""
        return {
            "tokens_per_second": round(self.tokens_per_second, 2),
            "prefill_tokens_per_second": round(self.prefill_tokens_per_second, 2),
        }

    def as_dict(self, session: Session) -> dict[str, Any]:
        """Return the figures for a JSON document."""
        runs = [round(speed, 2) for speed in self.runs]
        return self.speeds() | {"benchmark_runs": runs} | session.formation.as_dict()

    def as_text(self, session: Session) -> str:
        """Return the figures for people."""
        formation = session.formation
        return (
            f"\nPrompt:     {self.prefill_tokens_per_second:.2f} tokens/s\n"
            f"Generation: {self.tokens_per_second:.2f} tokens/s (median of {len(self.runs)} runs after a warm-up)\n"
            f"Memory:     {peak_memory_mib()} MiB at most\n"
            f"Measured on {formation.place.measured_on}, {formation.ranks} rank(s) on {formation.hosts} host(s)"
        )


def measure(session: Session, ids: list[int], limits: Limits) -> Figures:
    """Read the prompt and make a fixed number of tokens, end tokens or not, several times.

    The caller has run the prompt once already: that was the warm-up.
    """
    runs = [_one_run(session, ids, limits) for _ in range(RUNS)]
    speeds = tuple(run.tokens_per_second for run in runs)
    return Figures(
        tokens_per_second=statistics.median(speeds),
        prefill_tokens_per_second=statistics.median(run.prompt_tokens_per_second for run in runs),
        runs=speeds,
    )


def _one_run(session: Session, ids: list[int], limits: Limits) -> Run:
    run = Run(prompt_tokens=len(ids))
    endless = replace(limits, max_tokens=min(limits.max_tokens, RUN_TOKENS), eos_ids=frozenset())
    deadline = monotonic() + RUN_SECONDS
    for _ in _until(deadline, generate(session.model, Sampler(session.n_tokens), ids, endless, run)):
        continue
    return run


def _until(deadline: float, tokens: Iterator[int]) -> Iterator[int]:
    for token in tokens:
        yield token
        if monotonic() > deadline:
            return
