"""Files on their way home, for whoever waits for them: a bar at a terminal, else a line a minute."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TextIO

from orchestrator.report import header
from orchestrator.report.console import is_live, say
from orchestrator.report.snapshot import TransferLine
from orchestrator.words.outside import escape

if TYPE_CHECKING:
    from rich.table import Table

_MINUTE = timedelta(minutes=1)


class Homeward:
    """The files that are to come, and what has come of them. Threads tell what arrives.

    `say` writes a line of its own; in the middle of a bar, above it.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        say: Callable[[str], None] = say,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.say = say
        self._sizes, self._now, self._lock = sizes, now, threading.Lock()
        self._bytes, self._whole, self._moved = dict[str, int](), set[str](), 0
        self._since = self._spoke = now()

    def arrived(self, name: str, count: int, moved: int) -> None:
        """So many bytes of that file are here, of which `moved` came just now."""
        with self._lock:
            self._bytes[name] = count
            self._moved += moved

    def whole(self, name: str) -> None:
        """That file is here to its last byte; it may have been before."""
        with self._lock:
            self._bytes[name] = self._sizes[name]
            self._whole.add(name)

    @property
    def line(self) -> TransferLine:
        """How far they are."""
        with self._lock:
            now, done = self._now(), len(self._whole) == len(self._sizes)
            took = (now - self._since).total_seconds()
            return TransferLine(
                phase="", kind="pull", place="", files=len(self._sizes), files_done=len(self._whole),
                bytes=sum(self._sizes.values()), bytes_done=sum(self._bytes.values()),
                rate=self._moved / took if self._moved and took > 0 else None,
                since=self._since, ended=now if done else None,
            )  # fmt: skip

    def once_a_minute(self) -> None:
        """Say how far they are, where nothing was said of that for a minute."""
        if self._now() - self._spoke >= _MINUTE:
            self._spoke = self._now()
            self.say(self.words())

    def words(self) -> str:
        """How far they are; of those that are all here, how long that took."""
        return header.transfer(self.line, self._now())


@contextmanager
def shown(coming: Homeward, out: TextIO | None = None) -> Iterator[Homeward]:
    """Show on `out` (None: standard output) how far they are, until the block is left."""
    if not is_live(out):
        with _each_second(coming.once_a_minute):
            yield coming
        return
    from rich.live import Live
    from rich.text import Text

    from orchestrator.report.rendering import StrictConsole

    console = StrictConsole(file=out)
    said, coming.say = coming.say, lambda text: console.print(Text(escape(text)), soft_wrap=True)
    try:
        with Live(console=console, get_renderable=lambda: _picture(coming), refresh_per_second=4, transient=True):
            yield coming
    finally:
        coming.say = said


def _picture(coming: Homeward) -> Table:
    """The bar, and below it how far they are in words."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    line = coming.line
    bar = ProgressBar(total=float(max(line.bytes, 1)), completed=float(line.bytes_done), width=40)
    grid = Table.grid()
    grid.add_row(bar)
    grid.add_row(Text(escape(coming.words()), style="cyan"))
    return grid


@contextmanager
def _each_second(call: Callable[[], None]) -> Iterator[None]:
    """Call it once a second, from another thread, while the block goes on."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(1.0):
            call()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
