"""The command line of `dllama compare`."""

import argparse
import gc
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from dllama_glm.formats.model_file import read_header
from dllama_glm.formats.tokenizer_file import TokenizerError
from dllama_glm.quantise.cache import loops_cache
from dllama_glm.runtime.architecture import Architecture
from dllama_glm.runtime.errors import DllamaError, UsageError
from dllama_glm.runtime.machine import processor, threads_from
from dllama_glm.verify.compare.figures import BOUNDS, Figures, Logits, Tally, Text
from dllama_glm.verify.compare.original import DTYPES, Original, check_installed
from dllama_glm.verify.compare.prompts import read_prompts
from dllama_glm.verify.compare.report import Comparison

_BEYOND, _NO_MEMORY, _INTERRUPTED = 3, 75, 130
_TOKENS = 16


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dllama compare",
        description="Compare a .m file's answers with the original's, computed by transformers.",
        allow_abbrev=False,
    )
    parser.add_argument("model", type=Path, metavar="M", help="the .m file")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the checkpoint that it was made of")
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="one prompt a line (default: eight built-in ones)")
    parser.add_argument(
        "--tokens", type=_count, default=_TOKENS, metavar="N", help=f"how far each prompt is continued ({_TOKENS})"
    )
    bounds = ", ".join(f"{bound:g} for {kind.name.lower()}" for kind, bound in BOUNDS.items())
    parser.add_argument("--bound", type=_share, metavar="E", help=f"largest relative error of the logits ({bounds})")
    parser.add_argument("--dtype", choices=DTYPES, default=DTYPES[0], help="what the original is computed in")
    parser.add_argument("--nthreads", type=_count, metavar="N", help="threads (default: all cores)")
    parser.add_argument("--json", action="store_true", help="the figures as one JSON document")
    return parser


def run(argv: Sequence[str]) -> int:
    """Compare as the arguments say and print the figures."""
    try:
        args = _parser().parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    try:
        found = _compare(args)
    except MemoryError:
        return _failed(
            "out of memory: the original takes that of all its weights; --dtype bfloat16 halves it", _NO_MEMORY
        )
    except KeyboardInterrupt:
        return _failed("interrupted", _INTERRUPTED)
    except DllamaError as error:
        return _failed(str(error), error.exit_code)
    except TokenizerError as error:
        return _failed(str(error), DllamaError.exit_code)
    print(json.dumps(found.as_json()) if args.json else found.as_text())
    return 0 if found.ok else _BEYOND


def _compare(args: argparse.Namespace) -> Comparison:
    check_installed()
    from dllama_glm.runtime.source import read_architecture

    architecture = read_architecture(args.model)
    weight_type = read_header(args.model).weight_type
    prompts = _tokenised(args.folder, read_prompts(args.prompts))
    _check_lengths(prompts, args.tokens, architecture)
    threads = threads_from(args.nthreads)
    texts, originals = _original(args, prompts, threads)
    if originals[0].shape[1] != architecture.vocab_size:
        raise UsageError(
            f"{args.model} has {architecture.vocab_size} tokens, {args.folder} {originals[0].shape[1]}: another model."
        )
    figures = _measured(args.model, architecture, texts, originals, threads)
    bound = BOUNDS[weight_type] if args.bound is None else args.bound
    measured_on = f"CPU ({processor()}), {threads} thread(s)"
    return Comparison(
        figures, bound, str(args.model), str(args.folder), weight_type.name.lower(), args.dtype, measured_on
    )


def _tokenised(folder: Path, prompts: Sequence[str]) -> list[list[int]]:
    """The prompts' ids by the checkpoint's own tokenizer, which both models are asked with."""
    from dllama_glm.tokenizer.build import convert
    from dllama_glm.tokenizer.folder import read_folder
    from dllama_glm.tokenizer.runtime import Tokenizer

    content, _ = convert(read_folder(folder), extended=True)
    tokenizer = Tokenizer(content)
    return [tokenizer.prompt_ids(prompt) for prompt in prompts]


def _check_lengths(prompts: Sequence[Sequence[int]], tokens: int, architecture: Architecture) -> None:
    for number, ids in enumerate(prompts, 1):
        if len(ids) < 2:
            raise UsageError(f"Prompt {number} has one token only: nothing can be scored.")
        if len(ids) + tokens > architecture.max_seq_len:
            raise UsageError(
                f"Prompt {number} has {len(ids)} tokens and is continued by {tokens}; the model has "
                f"{architecture.max_seq_len} positions: shorten it, or lower --tokens."
            )
        if max(ids) >= architecture.vocab_size:
            raise UsageError(f"Prompt {number} holds the token {max(ids)}, which the model has no row for.")


def _original(args: argparse.Namespace, prompts: Sequence[list[int]], threads: int) -> tuple[list[Text], list[Logits]]:
    """The texts and the original's logits; its weights are gone when this returns, since two models may not fit."""
    model = Original(args.folder, args.dtype, threads)
    texts = [Text(tuple(ids), model.greedy(ids, args.tokens)) for ids in prompts]
    found = [model.logits(text.ids) for text in texts]
    del model
    gc.collect()
    return texts, found


def _measured(
    path: Path, architecture: Architecture, texts: Sequence[Text], originals: Sequence[Logits], threads: int
) -> Figures:
    from dllama_glm.parallel.group import SingleGroup

    with loops_cache():
        from dllama_glm.runtime.loader import load_model

        longest = max(len(text.ids) for text in texts)
        # Exact: what differs is to be the file, not the arithmetic.
        model = load_model(path, architecture, SingleGroup(), threads, max_seq_len=longest, exact=True)
        tally = Tally()
        for text, theirs in zip(texts, originals, strict=True):
            model.reset()
            ours = model.forward(text.ids, 0, every=True)
            assert ours is not None, "one rank computes all"
            tally.add(text, ours, theirs)
    return tally.figures()


def _failed(message: str, code: int) -> int:
    print(f"dllama compare: {message}", file=sys.stderr)
    return code


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text[:10]) < 1 << 20:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 up")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 up")
    return value
