"""`dllama warm`: compile the kernels ahead of the first run, into the cache that all runs share."""

import argparse
import importlib
import subprocess
import sys
import time
from pathlib import Path

from dllama_glm.runtime.machine import cores

_PROGRAM = Path(__file__).resolve().parents[2] / "dllama"
# Two halves of the kernels: when the first comes to what it calls of the second, that is in the cache already.
_HERE, _BESIDE = ("attention", "heads", "rooms"), ("routing", "products")


def run(options: argparse.Namespace) -> None:
    """Compile all kernels, on two cores if there are; what is in the cache already is not compiled again."""
    if options.beside:
        _compile(_BESIDE)
        return
    from dllama_glm.kernels.library import library

    began = time.monotonic()
    words = [sys.executable, str(_PROGRAM), "warm", "--beside"]
    helper = subprocess.Popen(words, stdin=subprocess.DEVNULL) if library.is_empty and cores() > 1 else None
    _compile(_HERE)
    if helper is not None:
        helper.wait()  # if it failed, its part is compiled here, and fails here with a message
    from dllama_glm.devices.cpu import threading
    from dllama_glm.kernels.level import LEVEL

    print(f"the kernels are ready ({LEVEL}, threads by {threading()}): {time.monotonic() - began:.1f} s", flush=True)


def _compile(files: tuple[str, ...]) -> None:
    for name in files:
        importlib.import_module(f"dllama_glm.kernels.{name}")
