"""A worker's side of a group: meet the root, take a part of the model, run every pass that the root announces."""

import os
import queue
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from dllama_glm.parallel.addresses import Endpoint, listen
from dllama_glm.parallel.channel import Channel, HandshakeError, Message, Refused, authenticate
from dllama_glm.parallel.fingerprint import fingerprint
from dllama_glm.parallel.group import GlooGroup, PeerLost, bind_to, join_store, require_torch
from dllama_glm.parallel.meeting import nodes_of_plan
from dllama_glm.parallel.shard import check_rank_count, vocabulary_parts
from dllama_glm.runtime.errors import DllamaError
from dllama_glm.runtime.machine import host_id, note, threads_from
from dllama_glm.runtime.source import read_architecture

Commands: TypeAlias = Callable[[float | None], Message]

ROOT_PATIENCE = 600.0  # seconds in which the root must appear where it is dialled

LOSS_PATIENCE = 30.0  # seconds in which the root says what became of a lost rank


@dataclass(frozen=True)
class Part:
    """What the root hands out: rank of ranks, where the ranks meet, the address to bind to (None: the one in use)."""

    rank: int
    ranks: int
    store: tuple[str, int]
    bind: str
    ranks_on_host: int


def listen_for_root(port: int, model: Path | None) -> tuple[Channel, Path, Part]:
    """Wait, as long as it takes, for a root that holds the token; connections that are no root are let go."""
    listeners = listen(port, other_hosts=False)
    print(f"listening on port {listeners[0].getsockname()[1]}", flush=True)
    try:
        while True:
            ready, _, _ = select.select(listeners, [], [])
            channel = Channel(ready[0].accept()[0])
            try:
                authenticate(channel, "worker")
            except (HandshakeError, OSError) as error:
                note(str(error))
                channel.close()
                continue
            return (channel, *_negotiate(channel, model))
    finally:
        for listener in listeners:
            listener.close()


def dial_root(root: Endpoint, model: Path | None) -> tuple[Channel, Path, Part]:
    """Connect to the root, which may be started later; gives up after ten minutes."""
    nodes = nodes_of_plan()
    if model is not None and nodes is not None:
        check_rank_count(read_architecture(model), nodes)  # the root refuses it too, and then answers nobody
    print(f"dialling {root}", flush=True)
    deadline = time.monotonic() + ROOT_PATIENCE
    while True:
        try:
            connection = socket.create_connection((root.host, root.port), timeout=5)
            break
        except OSError as error:
            if time.monotonic() > deadline:
                raise DllamaError(
                    f"No root answers at {root} ({error}): start it, or correct --root-hostname."
                ) from error
            time.sleep(0.2)
    channel = Channel(connection)
    authenticate(channel, "worker")
    return (channel, *_negotiate(channel, model))


def _negotiate(channel: Channel, model: Path | None) -> tuple[Path, Part]:
    channel.wait_without_limit()  # the root may wait for other workers first
    asked = channel.expect("ask")
    path = model or Path(asked["model"])
    try:
        require_torch()
        if not path.is_file():
            raise DllamaError(f"A worker on {socket.gethostname()} has no file {path}: start it with --model.")
    except DllamaError as error:
        channel.tell({"refuse": str(error)})
        raise
    channel.tell({"ready": {"model": fingerprint(path), "host": host_id()}})
    join = channel.expect("join")
    part = Part(
        rank=int(join["rank"]),
        ranks=int(join["ranks"]),
        store=(str(join["store"][0]), int(join["store"][1])),
        bind=str(join["bind"] or channel.local),
        ranks_on_host=int(join["ranks_on_host"]),
    )
    print(f"connected to the root at {channel.peer} as rank {part.rank} of {part.ranks}", flush=True)
    return path, part


def serve(channel: Channel, path: Path, part: Part, threads: int | None) -> None:
    """Run the root's passes until it ends; raises when it ends with an error, exits when it is lost."""
    commands = _commands(channel)
    try:
        model, group = _load(path, part, threads)
        _follow(model, commands)
    except Refused:
        raise
    except PeerLost:
        _follow_to_the_end(commands)
        raise
    except (RuntimeError, MemoryError, DllamaError) as error:
        channel.tell({"failed": str(error)})
        raise DllamaError(f"Rank {part.rank} failed: {error}") from error
    group.close()


def _load(path: Path, part: Part, threads: int | None) -> tuple[Any, Any]:
    from dllama_glm.runtime.loader import load_model

    bind_to(part.bind)
    architecture = read_architecture(path)
    widths = [len(rows) for rows in vocabulary_parts(architecture, part.ranks)]
    group = GlooGroup(join_store(*part.store, part.ranks), part.rank, widths)
    return load_model(path, architecture, group, threads_from(threads, part.ranks_on_host)), group


def _follow(model: Any, commands: Commands) -> None:
    while True:
        command = commands(None)
        if command.get("do") == "forward":
            model.forward(command["ids"], command["position"], every=command["every"])
        elif command.get("do") == "reset":
            model.reset()
        elif command.get("error"):
            raise Refused(f"The root ended: {command['error']}")
        else:
            return


def _follow_to_the_end(commands: Commands) -> None:
    """Wait for what the root makes of a lost rank: it knows which one it was. If the root is lost, the process ends."""
    while True:
        try:
            command = commands(LOSS_PATIENCE)
        except queue.Empty:
            return
        if command.get("error"):
            raise Refused(f"The root ended: {command['error']}")


def _commands(channel: Channel) -> Commands:
    """Return a function that waits, at most so many seconds, for the next command (queue.Empty if none comes).

    A thread ends the process when the root is lost.
    """
    waiting: queue.Queue[Message] = queue.Queue()

    def read() -> None:
        while True:
            try:
                message = channel.receive()
            except (OSError, ValueError):
                message = None
            if message is None:  # a collective that waits for the root cannot be interrupted otherwise
                print(f"error: The root at {channel.peer} is gone.", file=sys.stderr, flush=True)
                os._exit(1)
            waiting.put(message)
            if message.get("do") == "end":
                return

    threading.Thread(target=read, daemon=True).start()
    return lambda patience: waiting.get(timeout=patience)
