"""`dllama warm`: compile the kernels ahead of the first run, into the cache that all runs share."""

import argparse
import gc
import importlib
import multiprocessing
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from dllama_glm.runtime.machine import cores

_MOST = 4  # processes: the kernels are not many, and the longest takes a twentieth of them all


def run(options: argparse.Namespace) -> None:  # noqa: ARG001 - every mode takes its options
    """Compile all kernels, on several cores if there are; what is in the cache already is not compiled again."""
    began = time.monotonic()
    gc.disable()  # the compiler leaves much behind, all of which goes with the process
    from dllama_glm.kernels.library import library

    folder = library.empty_folder
    if folder is not None and cores() > 1 and sys.platform == "linux":  # elsewhere forks are not to be relied on
        with suppress(OSError):
            _compile_in_parts(min(cores(), _MOST), folder)
    from dllama_glm.devices.cpu import threading  # what failed in its part is compiled here, and fails with a message
    from dllama_glm.kernels.level import LEVEL

    print(f"the kernels are ready ({LEVEL}, threads by {threading()}): {time.monotonic() - began:.1f} s", flush=True)


def _compile_in_parts(processes: int, folder: Path) -> None:
    """Fill the cache from copies of this process, which has the compiler imported; each takes kernel by kernel."""
    from numba.core.registry import cpu_target

    importlib.import_module("dllama_glm.kernels.dot")
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as claims:
        fork = multiprocessing.get_context("fork")
        parts = [fork.Process(target=_compile, args=(Path(claims),), daemon=True) for _ in range(processes)]
        for part in parts:
            part.start()
        for part in parts:
            part.join()


def _compile(claims: Path) -> None:
    from dllama_glm.kernels.library import library

    library.share(claims)
    with suppress(Exception, KeyboardInterrupt):
        importlib.import_module("dllama_glm.kernels.layers")
