"""The root's first act: find the workers and make sure that all of them fit."""

import os
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dllama_glm.formats.fingerprint import fingerprint
from dllama_glm.parallel.addresses import Endpoint, listen
from dllama_glm.parallel.channel import Channel, HandshakeError, Refused, admit, authenticate
from dllama_glm.parallel.group import require_torch
from dllama_glm.parallel.shard import check_rank_count
from dllama_glm.runtime.architecture import Architecture
from dllama_glm.runtime.errors import DllamaError
from dllama_glm.runtime.machine import note

DIAL_PATIENCE = 60.0  # seconds for workers that were started together with the root
JOIN_PATIENCE = 600.0  # seconds for workers that dial in
REFUSAL_PATIENCE = 1.0  # seconds in which workers are told that the count cannot work


@dataclass(frozen=True)
class Worker:
    """A worker that has proven itself: its connection, and what tells its host from others."""

    channel: Channel
    host: str


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
        patience = REFUSAL_PATIENCE if refusal else DIAL_PATIENCE if workers else JOIN_PATIENCE
        source = _dial(workers, patience) if workers else _accept(port or 0, count, patience)
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


def _dial(workers: list[Endpoint], patience: float) -> Iterator[Channel]:
    deadline = time.monotonic() + patience
    for worker in workers:
        channel = Channel(_connect(worker, deadline))
        authenticate(channel, "root")
        yield channel


def _connect(worker: Endpoint, deadline: float) -> socket.socket:
    while True:
        try:
            return socket.create_connection((worker.host, worker.port), timeout=max(0.5, deadline - time.monotonic()))
        except OSError as error:
            if time.monotonic() > deadline:
                raise DllamaError(
                    f"No worker answers at {worker} ({error}): start it first, or correct --workers."
                ) from error
            time.sleep(0.2)


def _accept(port: int, count: int, patience: float) -> Iterator[Channel]:
    if not count:
        return
    listeners = listen(port, other_hosts=True)
    deadline = time.monotonic() + patience
    note(f"waiting for {count} worker(s) on port {listeners[0].getsockname()[1]}")
    joined = 0
    try:
        while joined < count:
            ready, _, _ = select.select(listeners, [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise DllamaError(f"Only {joined} of {count} workers joined within {patience:.0f} s.")
            connection, _ = ready[0].accept()
            try:
                channel = admit(connection, "root")
            except (HandshakeError, Refused, OSError) as error:  # a stranger or a probe: the workers may still come
                note(str(error))
                continue
            joined += 1
            yield channel
    finally:
        for listener in listeners:
            listener.close()


def _check(channels: list[Channel], model: Path) -> list[Worker]:
    require_torch()
    ours = fingerprint(model)
    found = []
    for channel in channels:
        channel.tell({"ask": {"model": str(model.resolve())}})
    for channel in channels:
        ready = channel.expect("ready")
        if ready["model"] != ours:
            raise DllamaError(
                f"The worker at {channel.peer} has another model file than the root: {ready['model']['bytes']} bytes "
                f"there, {ours['bytes']} here, or other contents. Copy the root's {model.name} to it."
            )
        found.append(Worker(channel, ready["host"]))
    return found
