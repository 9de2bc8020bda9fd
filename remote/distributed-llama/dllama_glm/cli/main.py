"""The entry of `dllama` and `dllama-worker`."""

import argparse
import importlib
import os
import sys
from typing import NoReturn

from dllama_glm.cli.options import parse
from dllama_glm.formats.tokenizer_file import TokenizerError
from dllama_glm.quantise.cache import loops_cache
from dllama_glm.runtime.errors import DllamaError
from dllama_glm.runtime.machine import print_in_utf8

INTERRUPTED = 130
UNUSABLE = 1


def main(words: list[str]) -> NoReturn:
    """Run a command line (without the program's name) and end the process with its exit code."""
    print_in_utf8()
    code = run(words)
    if "torch" in sys.modules:  # gloo's threads abort a process that takes itself down after a peer has gone
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(words: list[str]) -> int:
    """Run a command line; return the exit code."""
    if words[:1] == ["verify"]:
        from dllama_glm.verify import main as verify

        return int(verify(words[1:]))
    if words[:1] == ["compare"]:
        from dllama_glm.verify.compare import main as compare

        return int(compare(words[1:]))
    options = parse(words)
    try:
        _run(options)
        sys.stdout.flush()
        return 0
    except DllamaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except TokenizerError as error:
        print(f"error: {error}", file=sys.stderr)
        return UNUSABLE
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _run(options: argparse.Namespace) -> None:
    with loops_cache():
        importlib.import_module(f"dllama_glm.cli.{options.mode}").run(options)
