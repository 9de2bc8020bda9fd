"""How ranks add up: one rank alone, or several over torch.distributed's gloo."""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dllama_glm.parallel import patience
from dllama_glm.parallel.addresses import interface_of
from dllama_glm.runtime.errors import DllamaError
from dllama_glm.runtime.machine import note

FloatArray: TypeAlias = npt.NDArray[np.float32]

_LONGEST = timedelta(seconds=patience.FIRST_PASS)


class PeerLost(DllamaError):
    """Another rank has gone in the middle of a sum; which one is known to the root's watch."""


class RankLate(PeerLost):
    """Another rank has not come to a sum in time; the root knows how far each is."""


class SingleGroup:
    """One rank that is the whole model."""

    rank = 0
    ranks = 1

    def sum(self, x: FloatArray) -> FloatArray:
        """Return x."""
        return x

    def join_columns(self, x: FloatArray) -> FloatArray:
        """Return x."""
        return x

    def best(self, columns: FloatArray, first: int) -> int:
        """Return where the largest of the columns [1, width] stands; the first of them has the number `first`."""
        return first + int(np.argmax(columns[0]))

    def total(self, value: float) -> int:
        """Return the value."""
        return round(value)


class GlooGroup:
    """One of several ranks. `widths` are the columns that each rank gives to `join_columns`, in rank order.

    All ranks come to a sum within `patience.STEP`, or RankLate is raised; until a first pass is through, within
    `patience.FIRST_PASS`. `entered` counts what this rank has come to. `card`: every rank has one of its own, this
    rank that one; what lies on cards is then summed there, by NCCL, in a graph too.
    """

    def __init__(self, store: Any, rank: int, widths: list[int], card: int | None = None) -> None:
        import torch
        import torch.distributed as dist

        torch.set_num_threads(1)  # torch only carries the sums here: numba computes
        self.rank = rank
        self.ranks = len(widths)
        self.entered = 0
        self._widths = widths
        self._settled = False
        self._torch, self._dist = torch, dist
        self._found = self._firsts = None
        self.on_card = card is not None
        backend = "cpu:gloo,cuda:nccl" if self.on_card else "gloo"
        device = torch.device("cuda", card) if self.on_card else None
        with _losing_peers():
            dist.init_process_group(
                backend, store=store, rank=rank, world_size=self.ranks, timeout=_LONGEST, device_id=device
            )

    def sum(self, x: FloatArray) -> FloatArray:
        """Return the sum over all ranks, in x's place."""
        self._together(self._dist.all_reduce, self._torch.from_numpy(x))
        return x

    def join_columns(self, x: FloatArray) -> FloatArray | None:
        """Return all ranks' columns side by side on rank 0, None elsewhere."""
        padded = np.zeros((len(x), max(self._widths)), np.float32)  # gloo gathers equal sizes only
        padded[:, : x.shape[1]] = x
        mine = self._torch.from_numpy(padded)
        parts = None if self.rank else [self._torch.empty_like(mine) for _ in self._widths]
        self._together(self._dist.gather, mine, parts, dst=0)
        self._settled = True
        if parts is None:
            return None
        columns = [part.numpy()[:, :width] for part, width in zip(parts, self._widths, strict=True)]
        return np.concatenate(columns, axis=1)

    def best(self, columns: FloatArray, first: int) -> int:
        """Return where the largest of all ranks' columns stands, the lowest place of equal ones."""
        place = int(np.argmax(columns[0]))
        mine = self._torch.tensor([float(columns[0, place]), -float(first + place)], dtype=self._torch.float64)
        found = [self._torch.empty_like(mine) for _ in self._widths]
        self._together(self._dist.all_gather, found, mine)
        self._settled = True
        return -int(max(tuple(pair.tolist()) for pair in found)[1])

    def total(self, value: float) -> int:
        """Return the sum of all ranks' values, which is a whole number."""
        return round(float(self.sum(np.array([value], np.float32))[0]))

    def sum_on_card(self, x: Any) -> Any:
        """Add up the ranks' tensors, each on its card, in x's place; nothing is waited for."""
        self.entered += 1
        self._dist.all_reduce(x)
        return x

    def best_on_card(self, own: Any) -> tuple[Any, Any]:
        """Return what each rank gives [ranks, 2], and the ranks' first rows of the vocabulary, on this rank's card."""
        if self._found is None:
            starts = [sum(self._widths[:rank]) for rank in range(self.ranks)]
            self._firsts = self._torch.tensor(starts, dtype=self._torch.int32, device=own.device)
            self._found = self._torch.zeros((self.ranks, 2), dtype=self._torch.int32, device=own.device)
        self._dist.all_gather_into_tensor(self._found, own)
        return self._found, self._firsts

    def close(self) -> None:
        """Leave the group."""
        self._dist.destroy_process_group()

    def _together(self, collective: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        self.entered += 1
        with _losing_peers():
            work = collective(*arguments, async_op=True, **options)
        if self._came(work, patience.STEP):
            return
        if not self._settled:
            note(
                f"rank {self.rank} waits for the others: a first pass brings the weights into memory, "
                f"and gets {patience.FIRST_PASS:g} s"
            )
            if self._came(work, patience.FIRST_PASS):
                return
        raise RankLate("Another rank did not come to a sum in time.")

    def _came(self, work: Any, seconds: float) -> bool:
        """Wait for all ranks; False where some have not come yet."""
        with _losing_peers():
            try:
                work.wait(timedelta(seconds=seconds))
            except RuntimeError:
                if work.is_completed():
                    raise
                return False
        return True


@contextmanager
def _losing_peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # all that gloo raises, for a closed connection as for a time-out
        raise PeerLost(f"Another rank was lost: {str(error).splitlines()[0]}") from error


def store_listener(address: str, ranks: int) -> socket.socket:
    """Listen on that address alone, on a free port, for the store of so many ranks."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind((address, 0))
    listener.listen(ranks)
    return listener


def host_store(listener: socket.socket, ranks: int) -> Any:
    """Open the store through which ranks find each other, on a socket that listens already (torch binds to all)."""
    from torch.distributed import TCPStore

    host, port = listener.getsockname()[:2]
    return TCPStore(
        host, port, ranks, is_master=True, timeout=_LONGEST, wait_for_workers=False, master_listen_fd=listener.detach()
    )


def join_store(host: str, port: int, ranks: int) -> Any:
    """Connect to the root's store."""
    from torch.distributed import TCPStore

    return TCPStore(host, port, ranks, is_master=False, timeout=_LONGEST, wait_for_workers=False)


def bind_to(address: str) -> None:
    """Make this process's gloo connections use the interface of `address`."""
    interface = interface_of(address)
    if interface is not None:
        os.environ["GLOO_SOCKET_IFNAME"] = interface
    elif sys.platform == "linux":  # gloo would choose for itself, perhaps a public one
        raise DllamaError(f"{address} is no IPv4 address of an interface here: ranks cannot be bound to it.")


def require_torch() -> None:
    """Refuse early where several ranks are asked for and torch is not installed (one rank does without it)."""
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise DllamaError("Several ranks need torch 2.6 or newer, which is not installed here: pip install torch")


def import_torch() -> None:
    """Load torch, which takes seconds: better before this rank has to answer the root in time."""
    require_torch()
    import torch.distributed  # noqa: F401
