"""One model for many clients: a bounded queue in front of it, and one text at a time.

The model computes in the thread that opened it; the event loop, in a thread of its own, hands it work.
"""

import asyncio
import math
import queue
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from dllama_glm.api.asks import Ask, busy
from dllama_glm.cli.session import Session
from dllama_glm.cli.text import Writer

_LONGEST_RETRY = 60  # seconds


class Engine:
    """`waiting` requests may wait while one is answered; more are refused."""

    def __init__(self, session: Session, waiting: int) -> None:
        self._writer = Writer(session)
        self._bound = waiting + 1
        self._turn = asyncio.Lock()
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._seconds = 1.0  # that the last text took
        self.open = 0

    def compute(self) -> None:
        """Do the work that `write` brings, until `close`; for the thread that opened the model."""
        while (work := self._work.get()) is not None:
            work()

    def close(self) -> None:
        """End `compute` after the pass that is under way; from any thread."""
        self._work.put(None)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place in the queue. Raises ApiError where there is none left."""
        if self.open >= self._bound:
            raise busy(max(1, min(_LONGEST_RETRY, math.ceil(self._seconds))))
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1

    async def write(self, ask: Ask, show: Callable[[str], Awaitable[None]]) -> None:
        """Wait for the turn, then generate; `show` gets the text piece by piece. Cancelled, the generation ends."""
        async with self._turn:
            began = time.monotonic()
            loop = asyncio.get_running_loop()
            pieces: asyncio.Queue[str | Exception | None] = asyncio.Queue()

            def tell(piece: str | Exception | None) -> None:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(pieces.put_nowait, piece)

            self._work.put(lambda: self._generate(ask, tell))
            try:
                while (piece := await pieces.get()) is not None:
                    if isinstance(piece, Exception):
                        raise piece
                    if piece:
                        await show(piece)
            finally:
                ask.run.cancelled = True
                self._seconds = time.monotonic() - began

    def _generate(self, ask: Ask, tell: Callable[[str | Exception | None], None]) -> None:
        try:
            for piece in self._writer.write(ask.ids, ask.sampler, ask.limits, ask.run, ask.stops):
                tell(piece)
            tell(None)
        except Exception as error:  # noqa: BLE001 - it belongs to the client that asked, not to this thread
            tell(error)
