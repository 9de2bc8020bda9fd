"""What the text commands share: files opened, ranks formed, tokens turned into text."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dllama_glm.cli.options import existing
from dllama_glm.formats.tokenizer_file import TokenizerError
from dllama_glm.parallel.addresses import parse_endpoints
from dllama_glm.runtime.architecture import Architecture
from dllama_glm.runtime.errors import UsageError
from dllama_glm.runtime.generate import Forward
from dllama_glm.runtime.machine import granted, has_nvidia_gpu, host_id, note, processor, threads_from

if TYPE_CHECKING:  # it loads the tokenizers library, which costs a start that only refuses something
    from dllama_glm.runtime.device import Group
    from dllama_glm.runtime.model import Model
    from dllama_glm.tokenizer.runtime import Tokenizer


@dataclass(frozen=True)
class Session:
    """A model that is ready on all its ranks, with its tokenizer.

    `n_tokens` are the tokens that both have; `max_seq_len` is what user and model allow; `runtime` is how rank 0
    computes (`model.Model.computed_by`).
    """

    model: Forward
    tokenizer: "Tokenizer"
    n_tokens: int
    max_seq_len: int
    ranks: int
    measured_on: str
    runtime: dict[str, Any]

    def runnable(self, ids: list[int]) -> list[int]:
        """Return the ids of a prompt; raise UsageError where the model has no row for one."""
        beyond = next((token_id for token_id in ids if token_id >= self.n_tokens), None)
        if beyond is None:
            return ids
        text = self.tokenizer.piece(beyond).decode("utf-8", "replace")
        raise UsageError(
            f"The prompt holds the token {text!r} (id {beyond}), and the model knows ids below {self.n_tokens} only: "
            "leave it out."
        )


@contextmanager
def open_session(options: argparse.Namespace) -> Iterator[Session]:
    """Open model and tokenizer and form the ranks that the options ask for; at the end the workers end too."""
    from dllama_glm.runtime.source import read_architecture

    path = existing(options.model, "model")
    tokenizer_path = existing(options.tokenizer, "tokenizer")
    architecture = read_architecture(path)
    workers = parse_endpoints(options.workers)
    if has_nvidia_gpu():
        note("a GPU is here, but this version computes on the CPU")
    if workers or options.port is not None:
        yield from _with_workers(options, path, tokenizer_path, architecture)
    else:
        yield _alone(options, path, tokenizer_path, architecture)


def _alone(options: argparse.Namespace, path: Path, tokenizer_path: Path, architecture: Architecture) -> Session:
    from dllama_glm.parallel.group import SingleGroup

    tokenizer = load_tokenizer(tokenizer_path, architecture)
    model = _model(options, path, architecture, SingleGroup(), threads_from(options.nthreads))
    return _session(model, model, tokenizer, architecture, 1)


def _model(
    options: argparse.Namespace, path: Path, architecture: Architecture, group: "Group", threads: int
) -> "Model":
    from dllama_glm.runtime.loader import load_model

    return load_model(
        path,
        architecture,
        group,
        threads,
        max_seq_len=_limit(options, architecture),
        exact=_exact(options),
        resident=False if options.low_memory else None,
    )


def _limit(options: argparse.Namespace, architecture: Architecture) -> int:
    return min(options.max_seq_len or architecture.max_seq_len, architecture.max_seq_len)


def _exact(options: argparse.Namespace) -> bool:
    return bool(options.buffer_float_type == "f32")


def _with_workers(
    options: argparse.Namespace, path: Path, tokenizer_path: Path, architecture: Architecture
) -> Iterator[Session]:
    from dllama_glm.parallel.meeting import assemble

    workers = assemble(path, architecture, parse_endpoints(options.workers), options.port)
    if not workers:
        yield _alone(options, path, tokenizer_path, architecture)
        return
    from dllama_glm.parallel.team import Leader, Team

    team = Team(workers)
    with team.at_work():
        tokenizer = load_tokenizer(tokenizer_path, architecture)
        group = team.form(architecture, _limit(options, architecture), exact=_exact(options))
        threads = threads_from(options.nthreads, team.ranks_on(host_id()))
        model = _model(options, path, architecture, group, threads)
        yield _session(Leader(model, team), model, tokenizer, architecture, team.ranks)
    group.close()


def _session(
    forward: Forward, model: "Model", tokenizer: "Tokenizer", architecture: Architecture, ranks: int
) -> Session:
    how = model.computed_by
    measured_on = (
        f"CPU ({processor()}{granted()}), {how['threads']} thread(s) a rank, {how['simd']}, {how['threading']}, "
        f"weights {how['weights']}"
    )
    n_tokens = min(tokenizer.n_tokens, architecture.vocab_size)
    return Session(forward, tokenizer, n_tokens, model.capacity, ranks, measured_on, how)


def load_tokenizer(path: Path, architecture: Architecture) -> "Tokenizer":
    """Open the tokenizer; one with more tokens than the model has rows runs, and it is said which text cannot."""
    from dllama_glm.tokenizer.runtime import load

    tokenizer = load(path)
    try:
        tokenizer.check_rows(architecture.vocab_size)
    except TokenizerError as error:
        raise UsageError(f"{path}: {error}") from None
    if tokenizer.n_tokens > architecture.vocab_size:
        note(
            f"{path} has {tokenizer.n_tokens} tokens, the model only {architecture.vocab_size} rows: "
            "text with the ids above cannot be run"
        )
    return tokenizer
