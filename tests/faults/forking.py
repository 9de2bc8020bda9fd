"""Much work in few processes: what one leaves in threads and memory goes with its process."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
MEMORY = Path("/dev/shm")  # thousands of transactions then wait for no disk


def in_processes(
    work: Callable[[T, Path], Any], items: Sequence[T], *, jobs: int, batch: int
) -> Iterator[tuple[T, Any, str]]:
    """Each item with what `work` made of it, as JSON; or None and why nothing came of it. Each has a folder of its own.

    `jobs`: processes at the same time; `batch`: items for each. The order is that of the items.
    """
    batches, living = (
        [items[at : at + batch] for at in range(0, len(items), batch)],
        list[tuple[int, int, Sequence[T]]](),
    )
    gc.collect()
    gc.freeze()  # a child that collects touches, and so copies, every page
    try:
        while batches or living:
            while batches and len(living) < jobs:
                living.append(_begun(work, batches.pop(0)))
            yield from _ended(*living[0])
            living.pop(0)
    finally:
        gc.unfreeze()
        for pid, _, _ in living:  # whoever asked has heard enough
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _begun(work: Callable[[T, Path], Any], items: Sequence[T]) -> tuple[int, int, Sequence[T]]:
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, read, items
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        for item in items:
            folder = Path(tempfile.mkdtemp(dir=MEMORY if os.access(MEMORY, os.W_OK) else None, prefix="gpuplan-"))
            try:
                said = [work(item, folder), ""]
            except BaseException:  # noqa: BLE001  whatever it is, it is said
                said = [None, traceback.format_exc()]
            shutil.rmtree(folder, ignore_errors=True)
            pipe.write(json.dumps(said) + "\n")
            pipe.flush()
    os._exit(0)


def _ended(pid: int, read: int, items: Sequence[T]) -> Iterator[tuple[T, Any, str]]:
    with os.fdopen(read) as pipe:
        for item in items:
            line = pipe.readline()
            result, why = json.loads(line) if line else (None, "its process died without a word")
            yield item, result, why
    os.waitpid(pid, 0)
