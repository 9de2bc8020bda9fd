"""A worker at work: load its part of the model and run every pass that the root announces."""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from dllama_glm.devices.choice import card_of
from dllama_glm.parallel import patience
from dllama_glm.parallel.channel import Channel, Message
from dllama_glm.parallel.ending import Ending
from dllama_glm.parallel.group import GlooGroup, PeerLost, RankLate, bind_to, join_store
from dllama_glm.parallel.joining import Part
from dllama_glm.parallel.shard import vocabulary_parts
from dllama_glm.runtime.errors import DllamaError
from dllama_glm.runtime.evidence import gpus_used
from dllama_glm.runtime.machine import threads_from
from dllama_glm.runtime.model import Model
from dllama_glm.runtime.source import read_architecture

Commands: TypeAlias = Callable[[], Message]


@dataclass(frozen=True)
class Served:
    """What a worker did for a root: passes and the tokens that they read; `computed_by` is the model's."""

    rank: int
    passes: int
    tokens: int
    computed_by: dict[str, Any]


def serve(
    channel: Channel, path: Path, part: Part, threads: int | None, ending: Ending, *, resident: bool | None = None
) -> Served:
    """Run the root's passes until it ends; where anything goes wrong, on any rank, the process ends by `ending`.

    `threads` and `resident` are this rank's own; see `runtime.loader.load_model`.
    """
    commands = _commands(channel, ending)
    try:
        model, group = _load(channel, path, part, threads, resident=resident)
        served = _follow(model, commands, part.rank)
    except PeerLost as error:  # the root knows which rank it was; what it says ends the process
        if isinstance(error, RankLate):
            channel.tell({"waited": True})
        time.sleep(patience.VERDICT)
        ending.now(str(error))
    except (RuntimeError, MemoryError, OSError, DllamaError) as error:
        ending.now(f"Rank {part.rank} failed: {error}", partial(channel.tell, {"failed": str(error)}))
    group.close()
    return served


def _load(
    channel: Channel, path: Path, part: Part, threads: int | None, *, resident: bool | None
) -> tuple[Model, GlooGroup]:
    from dllama_glm.runtime.loader import load_model

    bind_to(part.bind)
    architecture = read_architecture(path)
    widths = [len(rows) for rows in vocabulary_parts(architecture, part.ranks)]
    card = card_of(part.seat)
    own = card.index if card is not None and part.sums_on_cards else None
    group = GlooGroup(join_store(*part.store, part.ranks), part.rank, widths, own)
    channel.progress = lambda: group.entered
    model = load_model(
        path,
        architecture,
        group,
        threads_from(threads, part.ranks_on_host),
        max_seq_len=part.max_seq_len,
        exact=part.exact,
        resident=resident,
        card=card,
    )
    group.total(gpus_used(model.computed_by))
    channel.silence = patience.SILENCE
    return model, group


def _follow(model: Model, commands: Commands, rank: int) -> Served:
    passes = tokens = 0
    while (command := commands())["do"] != "end":
        if command["do"] == "reset":
            model.reset()
            continue
        if command["do"] == "greedy":
            model.greedy(command["ids"], command["position"])
        else:
            model.forward(command["ids"], command["position"], every=command["every"])
        passes, tokens = passes + 1, tokens + len(command["ids"])
    return Served(rank, passes, tokens, model.computed_by)


def _commands(channel: Channel, ending: Ending) -> Commands:
    """Return a function that waits for the next command.

    A thread ends the process when the root is lost, or ends with an error: what this rank waits for may never come.
    """
    waiting: queue.SimpleQueue[Message] = queue.SimpleQueue()

    def read() -> None:
        while True:
            try:
                message = channel.receive()
            except TimeoutError:
                ending.now(
                    f"The root at {channel.peer} was lost: no sign of life for {channel.silence:g} s, "
                    "it hangs or its host is gone."
                )
            except (OSError, ValueError):
                message = None
            if message is None:
                ending.now(f"The root at {channel.peer} is gone.")
            if message.get("error"):
                ending.now(f"The root ended: {message['error']}")
            if "do" in message:
                waiting.put(message)
            if message.get("do") == "end":
                return

    threading.Thread(target=read, daemon=True).start()
    return waiting.get
