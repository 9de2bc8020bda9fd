"""Steps on a card: the graph, and the token on its way to the host."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from dllama_glm.devices.one_token import OneToken
from dllama_glm.parallel import patience
from dllama_glm.parallel.group import RankLate

if TYPE_CHECKING:
    from dllama_glm.devices.cuda import CudaDevice


class CardGraph:
    """Implements `steps.Graph` by a CUDA graph on the current stream."""

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()

    def capture(self, work: Callable[[], None]) -> None:
        """Record the work, which is not done meanwhile; other threads may ask the card for things."""
        torch.cuda.synchronize()
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            work()

    def replay(self) -> None:
        """Do it."""
        self._graph.replay()


class CardBench:
    """Implements `steps.Bench`: token and position lie in one token's room."""

    def __init__(
        self, device: "CudaDevice", one: OneToken, layers: Callable[[list[int], int], Any], *, alone: bool
    ) -> None:
        self._device, self._one, self._layers, self._alone = device, one, layers, alone
        self._asynchronous = one.token.device.type == "cuda"
        self._came = [torch.zeros(1, dtype=torch.int32, pin_memory=self._asynchronous) for _ in range(2)]
        self._events = [torch.cuda.Event() if self._asynchronous else None for _ in range(2)]

    def work(self) -> None:
        """One pass over the token that lies on the card, and the choice of the next."""
        with self._device.reading_its_own():
            self._layers([0], 0)  # neither is looked at: both are on the card
            self._device.choose()

    def place(self, token: int, position: int) -> None:
        """Put them on the card."""
        self._one.token.fill_(token)
        self._one.position.fill_(position)

    def fetch(self, slot: int) -> None:
        """Begin to copy the latest token."""
        self._came[slot].copy_(self._one.token, non_blocking=True)
        event = self._events[slot]
        if event is not None:
            event.record()

    def wait(self, slot: int) -> int:
        """Return the token; RankLate where the other ranks do not come to their sums in time."""
        event = self._events[slot]
        if event is not None:
            self._wait(event)
        return int(self._came[slot][0])

    def columns(self) -> npt.NDArray[np.float32]:
        """Return the latest logits."""
        found: npt.NDArray[np.float32] = self._one.logits.cpu().numpy()[None].copy()
        return found

    def _wait(self, event: torch.cuda.Event) -> None:
        if self._alone:
            event.synchronize()
            return
        latest = time.monotonic() + patience.STEP
        while not event.query():
            if time.monotonic() > latest:
                raise RankLate("Another rank did not come to a sum in time.")
