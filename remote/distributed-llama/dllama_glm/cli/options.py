"""The options of every command; upstream's spellings are accepted beside the plan's."""

import argparse
from pathlib import Path

from dllama_glm.devices.choice import DEVICES
from dllama_glm.runtime.errors import UsageError

MODES = ("inference", "chat", "api", "perplexity", "bench", "worker", "warm", "verify", "compare")
DEFAULT_MAX_TOKENS = 128
_MOST_DIGITS = 100  # Python refuses to read numbers of thousands of digits
BENCHMARK_PROMPT = "What is artificial intelligence?"


def parse(words: list[str]) -> argparse.Namespace:
    """Read a command line (without the program's name); a wrong one ends with a message and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="dllama",
        description="Run .m models: text, chat, perplexity; alone or as one of several ranks.",
        allow_abbrev=False,
    )
    modes = parser.add_subparsers(dest="mode", required=True, metavar="{" + ",".join(MODES) + "}")
    inference = modes.add_parser("inference", help="continue a prompt", allow_abbrev=False)
    _add_model(inference)
    _add_prompt(inference)
    _add_text(inference)
    inference.add_argument("--benchmark", action="store_true", help="measure tokens per second, after a warm-up")
    chat = modes.add_parser(
        "chat", help="answer messages: one with --prompt, otherwise a conversation", allow_abbrev=False
    )
    _add_model(chat)
    _add_prompt(chat)
    _add_text(chat)
    _add_messages(chat)
    chat.add_argument("--system", help="system message")
    _add_api(modes.add_parser("api", help="answer OpenAI's clients over HTTP", allow_abbrev=False))
    perplexity = modes.add_parser("perplexity", help="score a text", allow_abbrev=False)
    _add_model(perplexity)
    _add_prompt(perplexity, required=True)
    _add_bench(modes.add_parser("bench", help="measure prefill, decode and memory bandwidth", allow_abbrev=False))
    _add_worker(modes.add_parser("worker", help="compute a part of a model for a root", allow_abbrev=False))
    modes.add_parser("warm", help="compile what the first run would compile", allow_abbrev=False)
    modes.add_parser("verify", help="compare a .m file with its source: dllama verify FILE.m FOLDER", add_help=False)
    modes.add_parser(
        "compare", help="answers beside the original's, by transformers: dllama compare FILE.m FOLDER", add_help=False
    )
    return parser.parse_args(words)


def existing(path: Path, what: str) -> Path:
    """Return the path of a file that is there: as given, or else in the converter's folder, where files are made."""
    beside = Path(__file__).resolve().parents[2] / "converter" / path
    for candidate in (path, beside):
        if candidate.is_file():
            return candidate
    raise UsageError(f"There is no {what} {path}: give the path of a file that the converter made.")


def max_tokens(options: argparse.Namespace, prompt_tokens: int) -> int:
    """How many tokens to make: --max-tokens, else --steps less the prompt (as upstream counts), else the default."""
    if options.max_tokens is not None:
        return int(options.max_tokens)
    if options.steps is not None:
        if options.steps <= prompt_tokens:
            raise UsageError(f"--steps {options.steps} counts the prompt's {prompt_tokens} tokens too: give more.")
        return int(options.steps) - prompt_tokens
    return DEFAULT_MAX_TOKENS


def _add_model(parser: argparse.ArgumentParser, *, waits: bool = True) -> None:
    parser.add_argument("--model", type=Path, required=True, help=".m file")
    parser.add_argument("--tokenizer", type=Path, required=True, help=".t file")
    _add_ranks(parser, waits=waits)


def _add_ranks(parser: argparse.ArgumentParser, *, waits: bool = True) -> None:
    parser.add_argument("--nthreads", type=_positive, help="threads of each rank (default: a fair share of the cores)")
    parser.add_argument("--max-seq-len", type=_positive, help="positions to use at most (default: the model's)")
    parser.add_argument(
        "--workers", nargs="+", default=[], metavar="HOST:PORT", help="workers to dial; tcp:// and commas are fine"
    )
    if waits:
        parser.add_argument(
            "--port", type=_port, help="without --workers: wait here for $GPUPLAN_NODES - 1 workers (else one)"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document instead of the text")
    parser.add_argument(
        "--buffer-float-type",
        choices=["f32", "f16", "q40", "q80"],
        default="q80",
        help="f32: all arithmetic in float32, exact and slow; others, upstream's spellings, all mean the fast way",
    )
    _add_device(parser)
    _add_low_memory(parser)


def _add_prompt(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    prompt = parser.add_mutually_exclusive_group(required=required)
    prompt.add_argument("--prompt", metavar="TEXT", help='the text to begin with; "-": what stdin holds')
    prompt.add_argument(
        "--prompt-file", type=Path, metavar="FILE", help="read it from a file, but for a line break at its end"
    )


def _add_text(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-tokens", type=_positive, help=f"tokens to make at most (default: {DEFAULT_MAX_TOKENS})")
    parser.add_argument("--steps", type=_positive, help="upstream's limit: prompt and new tokens together")
    _add_choice(parser)


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--temperature", type=_not_negative, default=0.0, help="0 (the default) always takes the best token"
    )
    parser.add_argument("--topp", "--top-p", type=_probability, default=0.9, help="share of probability to draw from")
    parser.add_argument("--top-k", type=_positive, default=0, help="tokens to draw from at most (default: any number)")
    parser.add_argument(
        "--min-p", type=_share, default=0.0, help="leave out tokens less probable than this share of the best one's"
    )
    parser.add_argument("--seed", type=_seed, help="makes random choices repeatable: a whole number from 0 to 2**64-1")
    parser.add_argument(
        "--stop",
        action="append",
        default=[],
        type=_filled,
        metavar="TEXT",
        help="end before this text; may be given several times",
    )


def _add_messages(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--thinking", choices=["on", "off"], help="tell the chat template to let the model think or not"
    )
    parser.add_argument(
        "--special-in-messages",
        action="store_true",
        help="a special token that a message writes out is the token, not text: for messages that you trust",
    )


def _add_api(parser: argparse.ArgumentParser) -> None:
    _add_model(parser, waits=False)
    parser.add_argument("--max-tokens", type=_positive, help="tokens of a reply at most (default: the context's room)")
    _add_choice(parser)
    _add_messages(parser)
    parser.set_defaults(port=None)
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; beyond loopback an API key is a must"
    )
    parser.add_argument("--port", dest="http_port", type=_port, default=9990, help="port to listen on (default: 9990)")
    parser.add_argument("--api-key", help="what clients must send as their key (default: $DLLAMA_API_KEY)")
    parser.add_argument("--queue", type=_positive, default=16, help="requests that may wait at once (default: 16)")


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help=".m file")
    parser.add_argument(
        "--context", type=_whole_number, help="tokens in the cache when decoding begins (default: the prompt's)"
    )
    parser.add_argument("--quick", action="store_true", help="short rounds, to see whether it works")
    _add_ranks(parser)


def _add_worker(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, help=".m file (default: the root's path)")
    meeting = parser.add_mutually_exclusive_group(required=True)
    meeting.add_argument("--port", type=_port, help="wait here for the root (on loopback and $GPUPLAN_PRIVATE_IP)")
    meeting.add_argument("--root-hostname", metavar="HOST:PORT", help="dial the root")
    parser.add_argument("--keep", action="store_true", help="with --port: listen again when the root has ended")
    parser.add_argument("--nthreads", type=_positive, help="threads (default: a fair share of the cores)")
    _add_device(parser)
    _add_low_memory(parser)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        choices=DEVICES,
        default="auto",
        help="cuda: a GPU, or an error; auto (the default): a GPU where there is one, and an error if it fails",
    )


def _add_low_memory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--low-memory",
        action="store_true",
        help="use weights where the file is mapped (default: only if they take over half of the free memory)",
    )


def _filled(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("is empty")
    return text


def _positive(text: str) -> int:
    return _whole(text, 1, 1 << 31, "a whole number above 0")


def _whole_number(text: str) -> int:
    return _whole(text, 0, 1 << 31, "a whole number from 0 up")


def _seed(text: str) -> int:
    return _whole(text, 0, (1 << 64) - 1, "a whole number from 0 to 2**64-1")


def _port(text: str) -> int:
    return _whole(text, 0, 65535, "a port from 0 (any) to 65535")


def _whole(text: str, lowest: int, highest: int, what: str) -> int:
    if not (text.isdecimal() and len(text) <= _MOST_DIGITS) or not lowest <= int(text) <= highest:
        raise argparse.ArgumentTypeError(f"'{text}' is not {what}")
    return int(text)


def _not_negative(text: str) -> float:
    value = _number(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0 up")
    return value


def _share(text: str) -> float:
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not from 0 to 1")
    return value


def _probability(text: str) -> float:
    value = _number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not above 0 and at most 1")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None
