"""Generating one text: shown as it is made, or gathered for a JSON document."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from dllama_glm.cli.options import max_tokens
from dllama_glm.cli.session import Session
from dllama_glm.runtime.errors import UsageError
from dllama_glm.runtime.generate import Limits, Run, generate
from dllama_glm.runtime.sampler import Sampler
from dllama_glm.tokenizer.stops import StopTexts


class Writer:
    """Writes texts with a session's model; the beginning of a prompt that the model's cache holds is not read again."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._held: list[int] = []

    def write(
        self, ids: list[int], sampler: Sampler, limits: Limits, run: Run, stops: Sequence[str] = ()
    ) -> Iterator[str]:
        """Continue the tokens `ids`; yield the text piece by piece, whole characters only and no stop text.

        `run` is kept up to date; of the prompt it counts the tokens that are read.
        """
        start = min(_common(ids, self._held), len(ids) - 1)
        run.cached_tokens, run.prompt_tokens = max(start, 0), len(ids) - max(start, 0)
        del self._held[run.cached_tokens :]
        decoded, ends = self._session.tokenizer.decode_stream(), StopTexts(stops)
        fresh = ids[run.cached_tokens :]
        try:
            for token in generate(self._session.model, sampler, fresh, limits, run, start=run.cached_tokens):
                yield ends.push(decoded.push(token))
                if ends.found is not None:
                    run.stop_text = ends.found
                    return
            yield ends.push(decoded.flush()) + ends.flush()
        finally:
            self._held += (fresh + run.ids)[: run.read]


def sampler_of(options: argparse.Namespace, session: Session) -> Sampler:
    """Make the sampler that the options ask for."""
    return Sampler(
        session.n_tokens,
        options.temperature,
        options.topp,
        options.seed,
        topk=options.top_k,
        minp=options.min_p,
        never=session.tokenizer.holes,
    )


def limits_of(options: argparse.Namespace, session: Session, prompt_tokens: int) -> Limits:
    """Return when to stop."""
    eos = frozenset(session.tokenizer.eos_ids)
    return Limits(max_tokens(options, prompt_tokens), session.max_seq_len, eos)


def prompt_of(options: argparse.Namespace) -> str | None:
    """Return --prompt's text, that of --prompt-file, or stdin's for "-"; None where none is given."""
    if options.prompt_file is None and options.prompt != "-":
        return None if options.prompt is None else str(options.prompt)
    where = "stdin" if options.prompt_file is None else str(options.prompt_file)
    try:
        data = sys.stdin.buffer.read() if options.prompt_file is None else options.prompt_file.read_bytes()
        text = data.decode()
    except OSError as error:
        raise UsageError(f"The prompt cannot be read from {where}: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"The prompt in {where} is not UTF-8 (byte {error.start}): save it so.") from None
    return text.removesuffix("\n").removesuffix("\r")


def write_text(
    writer: Writer, sampler: Sampler, ids: list[int], limits: Limits, stops: Sequence[str], *, show: bool
) -> tuple[str, Run]:
    """Continue `ids`; print the text as it comes if `show`."""
    run = Run(prompt_tokens=len(ids))
    pieces = []
    for piece in writer.write(ids, sampler, limits, run, stops):
        pieces.append(piece)
        if show:
            print(piece, end="", flush=True)
    if show:
        print(flush=True)
    return "".join(pieces), run


def document(session: Session, prompt: str, text: str, run: Run, sampler: Sampler) -> dict[str, Any]:
    """Return what `--json` prints of one generation."""
    stop: Any = "length"
    if run.stop_id is not None:
        stop = _token(session, run.stop_id)
    elif run.stop_text is not None:
        stop = {"id": None, "text": run.stop_text}
    return {
        "prompt": prompt,
        "text": text,
        "tokens": len(run.ids),
        "token_ids": run.ids,
        "prompt_tokens": run.prompt_tokens,
        "stop": stop,
        "eos": [_token(session, token_id) for token_id in session.tokenizer.eos_ids],
        "seed": None if sampler.greedy else sampler.seed,
        "tokens_per_second": round(run.tokens_per_second, 2),
        "prefill_tokens_per_second": round(run.prompt_tokens_per_second, 2),
        "seconds": round(run.prompt_seconds + run.seconds, 4),
        **session.formation.as_dict(),
    }


def publish_run(session: Session, run: Run) -> None:
    """Publish how fast one generation was, and on what."""
    session.formation.publish(
        {
            "tokens_per_second": round(run.tokens_per_second, 2),
            "prefill_tokens_per_second": round(run.prompt_tokens_per_second, 2),
        }
    )


def print_json(value: dict[str, Any]) -> None:
    """Print one document on stdout."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def _token(session: Session, token_id: int) -> dict[str, Any]:
    return {"id": token_id, "text": session.tokenizer.piece(token_id).decode("utf-8", "replace")}


def _common(first: list[int], second: list[int]) -> int:
    """Return how many items both lists begin with."""
    length = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        length += 1
    return length
