"""The root's side of a group: find the workers, check that all fit, tell each its part, then lead every pass."""

import os
import select
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dllama_glm.parallel.addresses import LOOPBACK, Endpoint, is_loopback, listen
from dllama_glm.parallel.channel import Channel, HandshakeError, Refused, authenticate
from dllama_glm.parallel.fingerprint import fingerprint
from dllama_glm.parallel.shard import check_rank_count, vocabulary_parts
from dllama_glm.runtime.architecture import Architecture
from dllama_glm.runtime.errors import DllamaError
from dllama_glm.runtime.machine import host_id, note, threads_from

DIAL_PATIENCE = 60.0  # seconds for workers that were started together with the root
JOIN_PATIENCE = 600.0  # seconds for workers that dial in
REFUSAL_PATIENCE = 1.0  # seconds in which workers are told that the count cannot work


@dataclass(frozen=True)
class Worker:
    """A worker that has proven itself: its connection, and the host that it runs on."""

    channel: Channel
    host: str


def expected_workers(workers: list[Endpoint], port: int | None) -> int:
    """How many workers the root needs: those named; with a port alone, $GPUPLAN_NODES - 1 (one without that)."""
    if workers:
        return len(workers)
    if port is None:
        return 0
    nodes = os.environ.get("GPUPLAN_NODES", "")
    return int(nodes) - 1 if nodes.isdecimal() and int(nodes) > 0 else 1


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
        message = str(refusal or error)
        for channel in channels:
            _tell(channel, {"refuse": message})
        raise (refusal or error) from None


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
    listeners = listen(port)
    deadline = time.monotonic() + patience
    note(f"waiting for {count} worker(s) on port {listeners[0].getsockname()[1]}")
    joined = 0
    try:
        while joined < count:
            ready, _, _ = select.select(listeners, [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise DllamaError(f"Only {joined} of {count} workers joined within {patience:.0f} s.")
            channel = Channel(ready[0].accept()[0])
            try:
                authenticate(channel, "root")
            except (HandshakeError, Refused) as error:  # a stranger, or a port probe: the right workers may still come
                note(str(error))
                channel.close()
                continue
            joined += 1
            yield channel
    finally:
        for listener in listeners:
            listener.close()


def _check(channels: list[Channel], model: Path) -> list[Worker]:
    ours = fingerprint(model)
    found = []
    for channel in channels:
        channel.send({"ask": {"model": str(model.resolve())}})
    for channel in channels:
        ready = channel.expect("ready")
        if ready["model"] != ours:
            raise DllamaError(
                f"The worker at {channel.peer} has another model file than the root: {ready['model']['bytes']} bytes "
                f"there, {ours['bytes']} here, or other contents. Copy the root's {model.name} to it."
            )
        found.append(Worker(channel, ready["host"]))
    return found


def _tell(channel: Channel, message: dict[str, Any]) -> None:
    try:
        channel.send(message)
    except OSError:  # it has gone already: nothing is left to tell it
        return


def lead(architecture: Architecture, workers: list[Worker], threads: int | None) -> tuple[Any, int]:
    """Give every worker its rank and form the group of all; return the root's GlooGroup and its number of threads."""
    from dllama_glm.parallel.group import GlooGroup, bind_to, host_store

    ranks = len(workers) + 1
    address = next((w.channel.local for w in workers if not is_loopback(w.channel.local)), LOOPBACK)
    bind_to(address)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind((address, 0))
    listener.listen(ranks)
    port = listener.getsockname()[1]
    hosts = [host_id(), *(w.host for w in workers)]
    for rank, worker in enumerate(workers, start=1):
        local = address if is_loopback(worker.channel.local) else None
        worker.channel.send(
            {
                "join": {
                    "rank": rank,
                    "ranks": ranks,
                    "store": [address, port],
                    "bind": local,
                    "ranks_on_host": hosts.count(worker.host),
                }
            }
        )
        worker.channel.wait_without_limit()
    widths = [len(part) for part in vocabulary_parts(architecture, ranks)]
    return GlooGroup(host_store(listener, ranks), 0, widths), threads_from(threads, hosts.count(hosts[0]))


class Leader:
    """Implements `generate.Forward`: each pass is announced to the workers, then run together with them."""

    def __init__(self, model: Any, workers: list[Worker]) -> None:
        self._model = model
        self._channels = [worker.channel for worker in workers]
        self._ended = threading.Event()
        for channel in self._channels:
            threading.Thread(target=self._watch, args=[channel], daemon=True).start()

    def reset(self) -> None:
        """Forget all tokens, on every rank."""
        self._announce({"do": "reset"})
        self._model.reset()

    def forward(self, ids: list[int], position: int, *, every: bool = False) -> npt.NDArray[np.float32] | None:
        """Read tokens on every rank."""
        self._announce({"do": "forward", "ids": ids, "position": position, "every": every})
        logits: npt.NDArray[np.float32] | None = self._model.forward(ids, position, every=every)
        return logits

    def end(self, error: str | None) -> None:
        """Send the workers home; with an error they end with it too."""
        self._ended.set()
        self._announce({"do": "end", "error": error})

    def _announce(self, message: dict[str, Any]) -> None:
        for channel in self._channels:
            _tell(channel, message)  # a worker that is gone is reported by its watch

    def _watch(self, channel: Channel) -> None:
        """End the process when a worker is lost: a collective that waits for it cannot be interrupted otherwise."""
        try:
            message = channel.receive()
        except (OSError, ValueError):
            message = None
        if self._ended.is_set():
            return
        reason = (message or {}).get("failed", "it ended or its host is gone")
        text = f"The worker at {channel.peer} was lost: {reason}"
        for other in self._channels:
            if other is not channel:
                _tell(other, {"do": "end", "error": text})
        sys.stdout.flush()
        print(f"error: {text}", file=sys.stderr, flush=True)
        os._exit(1)


@contextmanager
def leading(model: Any, workers: list[Worker]) -> Iterator[Leader]:
    """Lead the workers; they end when the block ends, with the block's error if it had one."""
    leader = Leader(model, workers)
    try:
        yield leader
    except BaseException as error:
        leader.end(str(error) or type(error).__name__)
        raise
    leader.end(None)
