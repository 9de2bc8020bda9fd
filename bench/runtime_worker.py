"""One program under measurement, as a process that does what it is told: a JSON line in, its seconds as one out.

usage: python bench/runtime_worker.py (ours|mapped|llama) MODEL THREADS [FOLDER of llama-cpp-python]

"pass": read so many tokens at a position in one go; "decode": so many tokens one by one, each the best of the last.
Seconds are of the wall and of the processor, of all threads; compiling and the first use of pages are not measured.
"""
# ruff: noqa: T201 - a script whose output is its interface

import ctypes
import importlib.util
import json
import os
import sys
import time
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from runtime_models import CONTEXT

_IDS = np.random.default_rng(3).integers(0, 31000, CONTEXT).tolist()


class Program(Protocol):
    """What can be measured."""

    about: str

    def use(self, threads: int) -> None:
        """Compute with so many threads from now on."""

    def read(self, ids: list[int], position: int) -> int:
        """Read tokens; return the best next one."""


class Ours:
    """This runtime."""

    def __init__(self, path: Path, threads: int, *, resident: bool) -> None:
        from dllama_glm.parallel.group import SingleGroup
        from dllama_glm.runtime.loader import load_model
        from dllama_glm.runtime.source import read_architecture

        self._model = load_model(path, read_architecture(path), SingleGroup(), threads, resident=resident)
        self.about = json.dumps(self._model.computed_by)

    def use(self, threads: int) -> None:
        """Compute with so many threads from now on."""
        self._model.use_threads(threads)

    def read(self, ids: list[int], position: int) -> int:
        """Read tokens; return the best next one."""
        return self._model.greedy(ids, position)


class Llama:
    """llama.cpp, as llama-cpp-python builds it; weights repacked as it sees fit, cache in halves."""

    def __init__(self, path: Path, threads: int, folder: Path) -> None:
        self._api = api = _llama_module(folder)
        said: list[str] = []
        self._log = api.llama_log_callback(lambda _level, text, _data: said.append(text.decode("utf-8", "replace")))
        api.llama_log_set(self._log, ctypes.c_void_p(0))
        api.llama_backend_init()
        self._parameters = api.llama_model_default_params()
        self._model = api.llama_model_load_from_file(os.fsencode(path), self._parameters)
        if not self._model:
            raise SystemExit("llama.cpp could not load the model:\n" + "".join(said[-20:]))
        settings = api.llama_context_default_params()
        settings.n_ctx, settings.n_batch, settings.n_ubatch = CONTEXT, 512, 512
        settings.n_threads = settings.n_threads_batch = threads
        self._context = api.llama_init_from_model(self._model, settings)
        self._memory = api.llama_get_memory(self._context)
        text = "".join(said)
        self.about = json.dumps({"repacked": "CPU_REPACK" in text, "system": _system(api)})

    def use(self, threads: int) -> None:
        """Compute with so many threads from now on."""
        self._api.llama_set_n_threads(self._context, threads, threads)

    def read(self, ids: list[int], position: int) -> int:
        """Read tokens; return the best next one."""
        api = self._api
        api.llama_memory_seq_rm(self._memory, 0, position, -1)
        for start in range(0, len(ids), 512):
            part = ids[start : start + 512]
            tokens = (api.llama_token * len(part))(*part)  # the batch only points to them
            if api.llama_decode(self._context, api.llama_batch_get_one(tokens, len(part))):
                raise SystemExit("llama.cpp could not decode")
        logits = api.llama_get_logits_ith(self._context, -1)
        return int(np.ctypeslib.as_array(logits, (32000,)).argmax())


def _llama_module(folder: Path) -> Any:
    """llama-cpp-python's own declarations, without the rest of the package and what that would need."""
    sys.path.append(str(folder))
    package = types.ModuleType("llama_cpp")
    package.__path__ = [str(folder / "llama_cpp")]
    sys.modules["llama_cpp"] = package
    return importlib.import_module("llama_cpp.llama_cpp")


def _system(api: Any) -> str:
    """What llama.cpp was compiled for."""
    return api.llama_print_system_info().decode("ascii", "replace").strip()


def _timed(work: Callable[[], int]) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    token = work()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "token": token}


def _decode(program: Program, position: int, tokens: int) -> int:
    token = _IDS[position]
    for step in range(tokens):
        token = program.read([token], position + step)
    return token


def _load(kind: str, path: Path, threads: int, folder: str) -> Program:
    if kind == "llama":
        return Llama(path, threads, Path(folder))
    return Ours(path, threads, resident=kind == "ours")


def main() -> None:
    """Load, say so, and obey until the input ends."""
    kind, path, threads, *folder = sys.argv[1:]
    program = _load(kind, Path(path), int(threads), *folder, *([] if folder else [""]))
    print(json.dumps({"about": program.about}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        program.use(asked["threads"])
        position, tokens = asked["position"], asked["tokens"]
        if asked["do"] == "pass":
            ids = _IDS[position : position + tokens]
            result = _timed(partial(program.read, ids, position))
        else:
            result = _timed(partial(_decode, program, position, tokens))
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
