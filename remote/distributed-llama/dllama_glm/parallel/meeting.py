"""The root's first act: find the workers and make sure that all of them fit."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dllama_glm.formats.fingerprint import fingerprint
from dllama_glm.parallel import patience
from dllama_glm.parallel.addresses import Endpoint, listen
from dllama_glm.parallel.channel import Channel
from dllama_glm.parallel.dialling import dial
from dllama_glm.parallel.door import Door
from dllama_glm.parallel.group import require_torch
from dllama_glm.parallel.shard import check_rank_count
from dllama_glm.runtime.architecture import Architecture
from dllama_glm.runtime.errors import DllamaError
from dllama_glm.runtime.machine import note


@dataclass(frozen=True)
class Worker:
    """A worker that has proven itself: its connection, what tells its host's cores from others, and the host's name.

    `cards` is how many of its host's cards it may compute on.
    """

    channel: Channel
    host: str
    name: str
    cards: int


def nodes_of_plan() -> int | None:
    """Return $GPUPLAN_NODES, or None where it is not set to a number."""
    nodes = os.environ.get("GPUPLAN_NODES", "")
    return int(nodes) if nodes.isdecimal() and int(nodes) > 0 else None


def expected_workers(workers: list[Endpoint], port: int | None) -> int:
    """How many workers the root needs: those named; with a port alone, $GPUPLAN_NODES - 1 (one without that)."""
    if workers or port is None:
        return len(workers)
    nodes = nodes_of_plan()
    return 1 if nodes is None else nodes - 1


def assemble(model: Path, architecture: Architecture, workers: list[Endpoint], port: int | None) -> list[Worker]:
    """Connect all workers and make sure that all hold the same model; raises, and tells each of them, if one does not.

    Named workers are dialled; without any, they dial in at `port`. A count that cannot work is refused before.
    """
    count = expected_workers(workers, port)
    refusal = None
    try:
        check_rank_count(architecture, count + 1)
    except DllamaError as error:
        refusal = error
    channels: list[Channel] = []
    try:
        seconds = patience.REFUSAL if refusal else patience.DIAL if workers else patience.JOIN
        source = _dial(workers, seconds) if workers else _accept(port or 0, count, seconds)
        for channel in source:
            channels.append(channel)  # noqa: PERF402 - one by one, so that those met before an error can be told
        if refusal is not None:
            raise refusal
        return _check(channels, model)
    except DllamaError as error:
        first = refusal or error
        for channel in channels:
            channel.tell({"refuse": str(first)})
        raise first from None


def _dial(workers: list[Endpoint], seconds: float) -> Iterator[Channel]:
    deadline = time.monotonic() + seconds
    for worker in workers:
        yield dial(worker, "root", deadline - time.monotonic())


def _accept(port: int, count: int, seconds: float) -> Iterator[Channel]:
    if not count:
        return
    door = Door(listen(port, other_hosts=True), "root")
    deadline = time.monotonic() + seconds
    note(f"waiting for {count} worker(s) on port {door.port}")
    try:
        for joined in range(count):
            channel = door.next(max(0.0, deadline - time.monotonic()))
            if channel is None:
                raise DllamaError(f"Only {joined} of {count} workers joined within {seconds:g} s.")
            yield channel
    finally:
        door.close()


def _check(channels: list[Channel], model: Path) -> list[Worker]:
    require_torch()
    ours = fingerprint(model)
    found = []
    for channel in channels:
        channel.tell({"ask": {"model": str(model.resolve())}})
    for channel in channels:
        channel.wait_until(patience.READY)
        ready = channel.expect("ready")
        channel.wait_until(None)
        if ready["model"] != ours:
            raise DllamaError(
                f"The worker at {channel.peer} has another model file than the root: {ready['model']['bytes']} bytes "
                f"there, {ours['bytes']} here, or other contents. Copy the root's {model.name} to it."
            )
        found.append(Worker(channel, str(ready["host"]), str(ready["name"]), int(ready.get("cards", 0))))
    return found
