"""The root at the head of its workers: ranks are handed out, every pass is announced, nobody is left behind."""

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from dllama_glm.parallel.addresses import LOOPBACK, is_loopback
from dllama_glm.parallel.channel import Channel, Message
from dllama_glm.parallel.group import GlooGroup, PeerLost, bind_to, host_store
from dllama_glm.parallel.meeting import Worker
from dllama_glm.parallel.shard import vocabulary_parts
from dllama_glm.runtime.architecture import Architecture
from dllama_glm.runtime.machine import host_id
from dllama_glm.runtime.model import Model

LOSS_PATIENCE = 25.0  # seconds: keep-alive notices a host that vanished within 20


class Team:
    """The workers, watched: when one is lost, the process ends with an error that names it, and so do the others.

    A collective that waits for a lost rank cannot be interrupted, hence the hard end.
    """

    def __init__(self, workers: list[Worker]) -> None:
        self.ranks = len(workers) + 1
        self._workers = workers
        self._ended = threading.Event()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Watch the workers; they end when the block ends, with the block's error if it had one."""
        for worker in self._workers:
            worker.channel.wait_without_limit()
            threading.Thread(target=self._watch, args=[worker.channel], daemon=True).start()
        try:
            yield
        except BaseException as error:
            self._end(str(error) or type(error).__name__)
            raise
        self._end(None)

    def form(self, architecture: Architecture, max_seq_len: int, *, exact: bool) -> GlooGroup:
        """Give every worker its rank and form the group of all ranks, on the network that the workers came over.

        `max_seq_len` and `exact` are how every rank is to load the model.
        """
        locals_ = [worker.channel.local for worker in self._workers]
        address = next((local for local in locals_ if not is_loopback(local)), LOOPBACK)
        bind_to(address)
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind((address, 0))
        listener.listen(self.ranks)
        place = list(listener.getsockname()[:2])
        for rank, worker in enumerate(self._workers, start=1):
            beside = is_loopback(worker.channel.local)  # on this host: it must be reachable from the others too
            part = {"rank": rank, "ranks": self.ranks, "store": place, "bind": address if beside else None}
            settings = {"max_seq_len": max_seq_len, "exact": exact}
            worker.channel.tell({"join": part | settings | {"ranks_on_host": self.ranks_on(worker.host)}})
        widths = [len(part) for part in vocabulary_parts(architecture, self.ranks)]
        try:
            return GlooGroup(host_store(listener, self.ranks), 0, widths)
        except PeerLost:
            self.wait_for_the_lost()
            raise

    def ranks_on(self, host: str) -> int:
        """How many ranks share a host's cores, this one included."""
        return [host_id(), *(worker.host for worker in self._workers)].count(host)

    def announce(self, message: Message) -> None:
        """Send a message to every worker."""
        for worker in self._workers:
            worker.channel.tell(message)  # one that is gone is reported by its watch

    def wait_for_the_lost(self) -> None:
        """Give the watch time to find out which worker was lost, and to end the process with its name."""
        time.sleep(LOSS_PATIENCE)

    def _end(self, error: str | None) -> None:
        self._ended.set()
        self.announce({"do": "end", "error": error})

    def _watch(self, channel: Channel) -> None:
        try:
            message = channel.receive()
        except (OSError, ValueError):
            message = None
        if self._ended.is_set():
            return
        reason = (message or {}).get("failed", "it ended, or its host is gone")
        text = f"The worker at {channel.peer} was lost: {reason}"
        self._end(text)
        sys.stdout.flush()
        print(f"error: {text}", file=sys.stderr, flush=True)
        os._exit(1)


class Leader:
    """Implements `generate.Forward`: each pass is announced to the workers, then run together with them."""

    def __init__(self, model: Model, team: Team) -> None:
        self._model = model
        self._team = team

    def reset(self) -> None:
        """Forget all tokens, on every rank."""
        self._team.announce({"do": "reset"})
        self._model.reset()

    def forward(self, ids: list[int], position: int, *, every: bool = False) -> npt.NDArray[np.float32] | None:
        """Read tokens on every rank."""
        self._team.announce({"do": "forward", "ids": ids, "position": position, "every": every})
        try:
            return self._model.forward(ids, position, every=every)
        except PeerLost:
            self._team.wait_for_the_lost()
            raise

    def greedy(self, ids: list[int], position: int) -> int:
        """Read tokens on every rank; return the best next one."""
        logits = self.forward(ids, position)
        assert logits is not None, "the leader is rank 0"
        return int(np.argmax(logits[-1]))
