"""A worker's first act: meet the root, prove itself, and be handed its part."""

import select
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from dllama_glm.formats.fingerprint import fingerprint
from dllama_glm.parallel.addresses import Endpoint, listen
from dllama_glm.parallel.channel import Channel, HandshakeError, Refused, admit, authenticate
from dllama_glm.parallel.group import require_torch
from dllama_glm.parallel.meeting import nodes_of_plan
from dllama_glm.parallel.shard import check_rank_count
from dllama_glm.runtime.errors import DllamaError
from dllama_glm.runtime.machine import host_id, note
from dllama_glm.runtime.source import read_architecture

ROOT_PATIENCE = 600.0  # seconds in which the root must appear where it is dialled


@dataclass(frozen=True)
class Part:
    """What the root hands out: rank of ranks, where the ranks meet, the address to bind to (None: the one in use).

    `max_seq_len` and `exact` are the root's; see `runtime.loader.load_model`.
    """

    rank: int
    ranks: int
    store: tuple[str, int]
    bind: str
    ranks_on_host: int
    max_seq_len: int
    exact: bool


def listen_for_root(port: int, model: Path | None) -> tuple[Channel, Path, Part]:
    """Wait, as long as it takes, for a root that holds the token; connections that are no root are let go."""
    listeners = listen(port, other_hosts=False)
    print(f"listening on port {listeners[0].getsockname()[1]}", flush=True)
    try:
        while True:
            ready, _, _ = select.select(listeners, [], [])
            connection, _ = ready[0].accept()
            try:
                channel = admit(connection, "worker")
            except (HandshakeError, Refused, OSError) as error:
                note(str(error))
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
    channel = Channel(_connect(root, time.monotonic() + ROOT_PATIENCE))
    authenticate(channel, "worker")
    return (channel, *_negotiate(channel, model))


def _connect(root: Endpoint, deadline: float) -> socket.socket:
    while True:
        reason = "it connects to itself"  # what TCP does now and then where nobody listens on a local port
        try:
            connection = socket.create_connection((root.host, root.port), timeout=5)
            if connection.getsockname() != connection.getpeername():
                return connection
            connection.close()
        except OSError as error:
            reason = str(error)
        if time.monotonic() > deadline:
            raise DllamaError(f"No root answers at {root} ({reason}): start it, or correct --root-hostname.")
        time.sleep(0.2)


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
        max_seq_len=int(join["max_seq_len"]),
        exact=bool(join["exact"]),
    )
    print(f"connected to the root at {channel.peer} as rank {part.rank} of {part.ranks}", flush=True)
    return path, part
