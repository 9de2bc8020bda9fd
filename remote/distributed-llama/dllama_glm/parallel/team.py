"""The root at the head of its workers: ranks are handed out, every pass is announced, nobody is left behind."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from dllama_glm.parallel import patience
from dllama_glm.parallel.addresses import LOOPBACK, check_reach, is_loopback
from dllama_glm.parallel.cards import Seating, seated
from dllama_glm.parallel.channel import Message
from dllama_glm.parallel.ending import Ending
from dllama_glm.parallel.group import GlooGroup, PeerLost, RankLate, bind_to, host_store, store_listener
from dllama_glm.parallel.meeting import Worker
from dllama_glm.parallel.shard import vocabulary_parts
from dllama_glm.runtime.architecture import Architecture
from dllama_glm.runtime.machine import host_id, host_name
from dllama_glm.runtime.model import Model


class Team:
    """The workers, watched: when one is lost, the process ends with an error that names it, and so do the others."""

    def __init__(self, workers: list[Worker]) -> None:
        self.ranks = len(workers) + 1
        self._workers = workers
        self._group: GlooGroup | None = None
        self._ending = Ending()
        self._ended = False

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Watch the workers; they end when the block ends, with the block's error if it had one.

        After a good end it waits until each worker has published what it did and ended too: whoever ends the workers
        when the root has ended would hide how they end by themselves.
        """
        watches = [threading.Thread(target=self._watch, args=[rank], daemon=True) for rank in range(1, self.ranks)]
        for watch in watches:
            watch.start()
        try:
            yield
        except BaseException as error:
            self._end(str(error) or type(error).__name__)
            raise
        self._end(None)
        latest = time.monotonic() + patience.VERDICT
        for watch in watches:
            watch.join(max(0.0, latest - time.monotonic()))

    def seating(self, cards: int) -> Seating:
        """Return which card each rank computes on, where this host has so many."""
        return seated([(host_id(), cards), *((worker.host, worker.cards) for worker in self._workers)])

    def form(self, architecture: Architecture, max_seq_len: int, seating: Seating, *, exact: bool) -> GlooGroup:
        """Give every worker its rank and form the group of all ranks, on the network that the workers came over.

        `max_seq_len` and `exact` are how every rank is to load the model.
        """
        locals_ = [worker.channel.local for worker in self._workers]
        address = next((local for local in locals_ if not is_loopback(local)), LOOPBACK)
        check_reach(address)
        bind_to(address)
        listener = store_listener(address, self.ranks)
        place = list(listener.getsockname()[:2])
        for rank, worker in enumerate(self._workers, start=1):
            beside = is_loopback(worker.channel.local)  # on this host: it must be reachable from the others too
            part = {"rank": rank, "ranks": self.ranks, "store": place, "bind": address if beside else None}
            seat = seating.seats[rank]
            settings = {"max_seq_len": max_seq_len, "exact": exact, "sums_on_cards": seating.on_cards}
            taken = {"seat": None if seat is None else seat.as_message()}
            worker.channel.tell({"join": part | settings | taken | {"ranks_on_host": self.ranks_on(worker.host)}})
        widths = [len(part) for part in vocabulary_parts(architecture, self.ranks)]
        with self.blaming():
            own = seating.seats[0]
            card = own.card if own is not None and seating.on_cards else None
            self._group = GlooGroup(host_store(listener, self.ranks), 0, widths, card)
        return self._group

    def loaded(self, group: GlooGroup, gpus: float) -> int:
        """Wait until every rank has loaded its part; return how many GPUs all use, `gpus` being this rank's share."""
        with self.blaming():
            total = group.total(gpus)
        for worker in self._workers:
            worker.channel.silence = patience.SILENCE
        return total

    @property
    def hosts(self) -> int:
        """How many hosts take part: processes of one host have its name and share its cores."""
        return len({(host_id(), host_name()), *((worker.host, worker.name) for worker in self._workers)})

    def ranks_on(self, host: str) -> int:
        """How many ranks share a host's cores, this one included."""
        return [host_id(), *(worker.host for worker in self._workers)].count(host)

    def announce(self, message: Message) -> None:
        """Send a message to every worker."""
        for worker in self._workers:
            worker.channel.tell(message)  # one that is gone is reported by its watch

    @contextmanager
    def blaming(self) -> Iterator[None]:
        """Where a rank is lost in the block, end with its name."""
        try:
            yield
        except RankLate:
            self._lose(self._who_is_late())
            raise
        except PeerLost:
            time.sleep(patience.VERDICT)  # its watch knows it, and ends the process
            raise

    def close(self) -> None:
        """Leave the group of ranks, if it was formed."""
        if self._group is not None:
            self._group.close()

    def _end(self, error: str | None) -> None:
        with self._ending.alone():
            self._ended = True
            self.announce({"do": "end", "error": error})

    def _lose(self, text: str) -> None:
        """End with this error, unless the end has come already."""
        with self._ending.alone():
            if not self._ended:
                self._ending.now(text, lambda: self._end(text))

    def _watch(self, rank: int) -> None:
        channel = self._workers[rank - 1].channel
        try:
            message = channel.receive() or {}
            while self._ended and channel.receive() is not None:
                pass
        except TimeoutError:
            message = {"failed": f"no sign of life for {channel.silence:g} s, it hangs or its host is gone"}
        except (OSError, ValueError):
            message = {}
        if "waited" in message:
            self._lose(self._who_is_late())
        reason = message.get("failed", "it ended, or its host is gone")
        self._lose(f"Rank {rank}, the worker at {channel.peer}, was lost: {reason}")

    def _who_is_late(self) -> str:
        """Name the ranks that are behind: what a rank has come to is part of its signs of life."""
        came = [self._group.entered if self._group else 0]
        came += [worker.channel.progress_there for worker in self._workers]
        names = ["rank 0, the root", *(f"rank {r}, the worker at {w.channel.peer}" for r, w in self._numbered())]
        late = [name for name, number in zip(names, came, strict=True) if number < max(came)]
        return (
            f"A pass came to a halt: within {patience.STEP:g} s there was no more of {'; '.join(late) or 'one rank'}. "
            "It hangs, or reads its weights from a disk that is too slow ($DLLAMA_PATIENCE=4 waits longer)."
        )

    def _numbered(self) -> Iterator[tuple[int, Worker]]:
        return enumerate(self._workers, start=1)


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
        with self._team.blaming():
            return self._model.forward(ids, position, every=every)

    def greedy(self, ids: list[int], position: int) -> int:
        """Read tokens on every rank; return the best next one."""
        self._team.announce({"do": "greedy", "ids": ids, "position": position})
        with self._team.blaming():
            return self._model.greedy(ids, position)
