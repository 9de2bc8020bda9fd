"""Generating one text: shown as it is made, or gathered for a JSON document."""

import argparse
import json
from typing import Any

from dllama_glm.cli.options import max_tokens
from dllama_glm.cli.session import Session
from dllama_glm.runtime.generate import Limits, Run, generate
from dllama_glm.runtime.machine import peak_memory_mib
from dllama_glm.runtime.sampler import Sampler


def sampler_of(options: argparse.Namespace, session: Session) -> Sampler:
    """Make the sampler that the options ask for."""
    return Sampler(session.n_tokens, options.temperature, options.topp, options.seed)


def limits_of(options: argparse.Namespace, session: Session, prompt_tokens: int) -> Limits:
    """Return when to stop."""
    eos = frozenset(session.tokenizer.eos_ids)
    return Limits(max_tokens(options, prompt_tokens), session.max_seq_len, eos)


def write_text(
    session: Session, sampler: Sampler, ids: list[int], limits: Limits, *, show: bool, start: int = 0
) -> tuple[str, Run]:
    """Continue `ids` (of which the cache holds the first `start`); print the text as it comes if `show`."""
    run = Run(prompt_tokens=len(ids) - start)
    stream = session.tokenizer.decode_stream()
    pieces = []
    for token in generate(session.model, sampler, ids[start:], limits, run, start=start):
        pieces.append(stream.push(token))
        if show:
            print(pieces[-1], end="", flush=True)
    pieces.append(stream.flush())
    if show:
        print(pieces[-1], flush=True)
    return "".join(pieces), run


def document(session: Session, prompt: str, text: str, run: Run) -> dict[str, Any]:
    """Return what `--json` prints of one generation."""
    stop: Any = "length"
    if run.stop_id is not None:
        stop = {"id": run.stop_id, "text": session.tokenizer.piece(run.stop_id).decode("utf-8", "replace")}
    return {
        "prompt": prompt,
        "text": text,
        "tokens": len(run.ids),
        "token_ids": run.ids,
        "prompt_tokens": run.prompt_tokens,
        "stop": stop,
        "tokens_per_second": round(run.tokens_per_second, 2),
        "prompt_tokens_per_second": round(run.prompt_tokens_per_second, 2),
        "seconds": round(run.prompt_seconds + run.seconds, 4),
        "ranks": session.ranks,
        "measured_on": session.measured_on,
        "runtime": session.runtime,
        "memory_mib": peak_memory_mib(),
    }


def print_json(value: dict[str, Any]) -> None:
    """Print one document on stdout."""
    print(json.dumps(value, ensure_ascii=False), flush=True)
