"""A worker's first act: meet the root, prove itself, and be handed its part."""

import socket
from dataclasses import dataclass
from pathlib import Path

from dllama_glm.devices.choice import cards_for
from dllama_glm.formats.fingerprint import fingerprint
from dllama_glm.parallel import patience
from dllama_glm.parallel.addresses import Endpoint
from dllama_glm.parallel.cards import Seat
from dllama_glm.parallel.channel import Channel
from dllama_glm.parallel.dialling import dial
from dllama_glm.parallel.door import Door
from dllama_glm.parallel.group import import_torch
from dllama_glm.parallel.meeting import nodes_of_plan
from dllama_glm.parallel.shard import check_rank_count
from dllama_glm.runtime.errors import DllamaError
from dllama_glm.runtime.machine import host_id, host_name
from dllama_glm.runtime.source import read_architecture


@dataclass(frozen=True)
class Part:
    """What the root hands out: rank of ranks, where the ranks meet, the address to bind to (None: the one in use).

    `max_seq_len` and `exact` are the root's; see `runtime.loader.load_model`. `seat` is the rank's card, if it has one.
    """

    rank: int
    ranks: int
    store: tuple[str, int]
    bind: str
    ranks_on_host: int
    max_seq_len: int
    exact: bool
    seat: Seat | None
    sums_on_cards: bool


def dial_root(root: Endpoint, model: Path | None) -> Channel:
    """Connect to the root, which may be started later; gives up after `patience.JOIN`."""
    nodes = nodes_of_plan()
    if model is not None and nodes is not None:
        check_rank_count(read_architecture(model), nodes)  # the root refuses it too, and then answers nobody
    print(f"dialling {root}", flush=True)
    return dial(root, "worker", patience.JOIN)


def root_at(door: Door) -> Channel:
    """Wait, as long as it takes, for a root that holds the token, and close the door behind it."""
    print(f"listening on port {door.port}", flush=True)
    try:
        channel = door.next(None)
    finally:
        door.close()
    assert channel is not None, "without a patience it waits for ever"
    return channel


def negotiate(channel: Channel, model: Path | None, device: str) -> tuple[Path, Part]:
    """Show the root that this worker fits, and be handed its part; the model is the root's path if None is given.

    `device` is what `--device` says.
    """
    asked = channel.expect("ask")
    path = model or Path(asked["model"])
    try:
        import_torch()
        cards = cards_for(device)
        if not path.is_file():
            raise DllamaError(f"A worker on {socket.gethostname()} has no file {path}: start it with --model.")
    except DllamaError as error:
        channel.tell({"refuse": str(error)})
        raise
    about = {"host": host_id(), "name": host_name(), "cards": cards}
    channel.tell({"ready": {"model": fingerprint(path)} | about})
    join = channel.expect("join")
    part = Part(
        rank=int(join["rank"]),
        ranks=int(join["ranks"]),
        store=(str(join["store"][0]), int(join["store"][1])),
        bind=str(join["bind"] or channel.local),
        ranks_on_host=int(join["ranks_on_host"]),
        max_seq_len=int(join["max_seq_len"]),
        exact=bool(join["exact"]),
        seat=None if join["seat"] is None else Seat(**join["seat"]),
        sums_on_cards=bool(join["sums_on_cards"]),
    )
    print(f"connected to the root at {channel.peer} as rank {part.rank} of {part.ranks}", flush=True)
    return path, part
