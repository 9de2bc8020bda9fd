"""What the text commands share: files opened, ranks formed, tokens turned into text."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dllama_glm.cli.options import existing
from dllama_glm.cli.ranks import Formation, gathered
from dllama_glm.formats.tokenizer_file import TokenizerError
from dllama_glm.runtime.architecture import Architecture
from dllama_glm.runtime.errors import UsageError
from dllama_glm.runtime.generate import Forward
from dllama_glm.runtime.machine import note

if TYPE_CHECKING:  # it loads the tokenizers library, which costs a start that only refuses something
    from dllama_glm.tokenizer.runtime import Tokenizer


@dataclass(frozen=True)
class Session:
    """A model that is ready on all its ranks, with its tokenizer.

    `n_tokens` are the tokens that both have.
    """

    model: Forward
    tokenizer: "Tokenizer"
    n_tokens: int
    formation: Formation

    @property
    def max_seq_len(self) -> int:
        """The positions that user and model allow."""
        return self.formation.capacity

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
    with gathered(options, path, architecture) as ranks:
        tokenizer = load_tokenizer(tokenizer_path, architecture)
        model, formation = ranks.load()
        n_tokens = min(tokenizer.n_tokens, architecture.vocab_size)
        yield Session(model, tokenizer, n_tokens, formation)


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
