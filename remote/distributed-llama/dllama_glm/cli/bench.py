"""`dllama bench`: prefill and decode, and how much of the memory's bandwidth decoding reaches."""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dllama_glm.cli.options import existing
from dllama_glm.cli.ranks import gathered
from dllama_glm.formats.model_header import Header
from dllama_glm.formats.model_layout import EMBEDDING, layout
from dllama_glm.runtime.bandwidth import plain_read
from dllama_glm.runtime.errors import UsageError
from dllama_glm.runtime.generate import PREFILL, Forward
from dllama_glm.runtime.machine import note

_SEED = 1  # the tokens are random ones, the same in every run


@dataclass(frozen=True)
class Size:
    """Of the measurement: tokens, rounds, and the bytes of a plain read."""

    prefill: int
    decode: int
    rounds: int
    read_bytes: int


FULL = Size(prefill=512, decode=128, rounds=3, read_bytes=1 << 30)
QUICK = Size(prefill=32, decode=8, rounds=2, read_bytes=1 << 26)


def run(options: argparse.Namespace) -> None:
    """Measure, publish, and print the figures."""
    from dllama_glm.formats.model_file import read_header
    from dllama_glm.runtime.source import read_architecture

    path = existing(options.model, "model")
    architecture, header = read_architecture(path), read_header(path)
    size = QUICK if options.quick else FULL
    with gathered(options, path, architecture) as ranks:
        model, formation = ranks.load()
        context = context_within(formation.capacity, size, options.context)
        needed = max(size.prefill, context + size.decode)
        ids = np.random.default_rng(_SEED).integers(0, architecture.vocab_size, needed).tolist()
        figures = measure(model, ids, size, context)
        prefill, decode = (figures[name]["tokens_per_second"] for name in ("prefill", "decode"))
        told = {"tokens_per_second": decode, "prefill_tokens_per_second": prefill, "context": context}
        formation.publish(told)
        document = {"model": path.name, **figures, "load": round(os.getloadavg()[0], 2), **formation.as_dict()}
        # Only now: the memory that it takes is not the model's.
        read = plain_read(size.read_bytes, formation.computed_by)
        wide = options.buffer_float_type == "f32"
        token_bytes = bytes_per_token(header, context + size.decode // 2, 4 if wide else 2)
        document["bandwidth"] = share_of_bandwidth(token_bytes, decode, read)
    print(json.dumps(document, ensure_ascii=False) if options.json else _text(document), flush=True)


def context_within(capacity: int, size: Size, asked: int | None) -> int:
    """How many tokens to decode behind: as asked for, or where there are fewer positions as many as there are, said."""
    wanted, most = size.prefill if asked is None else asked, capacity - size.decode
    if capacity < max(size.prefill, size.decode):
        raise UsageError(f"This takes {size.prefill} positions, and there are {capacity}: give --quick.")
    if wanted > most:
        note(f"{capacity} positions are all that there are: decoding behind {most} tokens, not {wanted}.")
    return min(wanted, most)


def measure(model: Forward, ids: list[int], size: Size, context: int) -> dict[str, Any]:
    """Read the first `ids`, then make tokens behind `context` of them, in turn; each round reads the same."""

    def read(start: int, stop: int) -> None:
        for first in range(start, stop, PREFILL):
            model.greedy(ids[first : min(first + PREFILL, stop)], first)

    def decode() -> None:
        for position in range(context, context + size.decode):
            model.greedy(ids[position : position + 1], position)

    read(0, max(size.prefill, context))  # a warm-up, and the cache for what follows
    model.greedy(ids[context : context + 1], context)
    prefills, decodes = [], []
    for _ in range(size.rounds):
        prefills.append(size.prefill / _seconds(lambda: read(0, size.prefill)))
        decodes.append(size.decode / _seconds(decode))
    return {
        "prefill": {"tokens": size.prefill, **summary(prefills)},
        "decode": {"tokens": size.decode, "context": context, **summary(decodes)},
    }


def summary(speeds: list[float]) -> dict[str, Any]:
    """Median of the rounds, their spread as a share of it, and all of them: tokens a second."""
    middle = statistics.median(speeds)
    return {
        "tokens_per_second": round(middle, 2),
        "spread": round((max(speeds) - min(speeds)) / middle, 3),
        "rounds": [round(speed, 2) for speed in speeds],
    }


def bytes_per_token(header: Header, position: int, cached_bytes: int = 2) -> int:
    """How many bytes all ranks together read to make one token at a position: weights that it uses, and the cache.

    The cache holds each value in `cached_bytes`.
    """
    weights = 0.0
    for slot in layout(header):
        if slot.name != EMBEDDING:
            share = header.n_active_experts / header.n_experts if ".mlp.experts." in slot.name else 1.0
            weights += slot.nbytes * share
    seen = min(position, header.window or position)
    cached = 2 * header.n_layers * header.kv_dim * seen  # keys and values
    return round(weights) + cached_bytes * cached


def share_of_bandwidth(token_bytes: int, tokens_per_second: float, read: float) -> dict[str, Any]:
    """Decoding's traffic beside that of a plain read (10^9 bytes a second each)."""
    used = token_bytes * tokens_per_second / 1e9
    return {
        "bytes_per_token": token_bytes,
        "decode_gb_per_s": round(used, 2),
        "plain_read_gb_per_s": round(read, 2),
        "share": round(used / read, 3),
    }


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _text(found: dict[str, Any]) -> str:
    lines = [
        f"{name.capitalize()} {found[name]['tokens']} tokens: {found[name]['tokens_per_second']:.2f} tokens/s "
        f"(median of {len(found[name]['rounds'])}, spread {found[name]['spread']:.0%})"
        for name in ("prefill", "decode")
    ]
    band = found["bandwidth"]
    lines[1] += f", behind {found['decode']['context']} tokens"
    lines.append(
        f"Memory: {band['bytes_per_token'] / 1e6:.1f} MB a token, {band['decode_gb_per_s']} GB/s of the "
        f"{band['plain_read_gb_per_s']} GB/s that a plain read reaches ({band['share']:.0%}); "
        f"{found['peak_memory_mib']} MiB at most"
    )
    where = f"{found['ranks']} rank(s) on {found['hosts']} host(s), load {found['load']}"
    lines.append(f"Measured on {found['measured_on']}, {where}")
    return "\n".join(lines)
