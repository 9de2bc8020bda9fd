"""A worker at work: load its part of the model and run every pass that the root announces."""

import os
import queue
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from dllama_glm.parallel.channel import Channel, Message, Refused
from dllama_glm.parallel.group import GlooGroup, PeerLost, bind_to, join_store
from dllama_glm.parallel.joining import Part
from dllama_glm.parallel.shard import vocabulary_parts
from dllama_glm.runtime.errors import DllamaError
from dllama_glm.runtime.machine import threads_from
from dllama_glm.runtime.model import Model
from dllama_glm.runtime.source import read_architecture

Commands: TypeAlias = Callable[[float | None], Message]

LOSS_PATIENCE = 30.0  # seconds in which the root says what became of a lost rank


def serve(channel: Channel, path: Path, part: Part, threads: int | None, *, resident: bool | None = None) -> None:
    """Run the root's passes until it ends; raises when it ends with an error, exits when it is lost.

    `threads` and `resident` are this rank's own; see `runtime.loader.load_model`.
    """
    commands = _commands(channel)
    try:
        model, group = _load(path, part, threads, resident=resident)
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


def _load(path: Path, part: Part, threads: int | None, *, resident: bool | None) -> tuple[Model, GlooGroup]:
    from dllama_glm.runtime.loader import load_model

    bind_to(part.bind)
    architecture = read_architecture(path)
    widths = [len(rows) for rows in vocabulary_parts(architecture, part.ranks)]
    group = GlooGroup(join_store(*part.store, part.ranks), part.rank, widths)
    model = load_model(
        path,
        architecture,
        group,
        threads_from(threads, part.ranks_on_host),
        max_seq_len=part.max_seq_len,
        exact=part.exact,
        resident=resident,
    )
    return model, group


def _follow(model: Model, commands: Commands) -> None:
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
