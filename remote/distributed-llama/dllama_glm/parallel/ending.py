"""The one end of a process that is one of several ranks: the first error is said, whichever thread meets it."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

_STANDARD = 2  # the highest of the standard files


class Ending:
    """Ends the process, or with `again`, a command line, has it begin anew as that.

    A collective that waits for a lost rank cannot be interrupted, hence the hard end.
    """

    def __init__(self, again: list[str] | None = None) -> None:
        self._again = again
        self._lock = threading.RLock()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other threads from ending the process meanwhile; if one has begun to, this never returns."""
        with self._lock:
            yield

    def now(self, error: str, first: Callable[[], None] | None = None) -> NoReturn:
        """Do `first`, say the error and end; for whoever comes second this never returns."""
        with self.alone():
            if first is not None:
                first()
            sys.stdout.flush()
            print(f"error: {error}", file=sys.stderr, flush=True)
            self.begin_anew()
            os._exit(1)

    def begin_anew(self) -> None:
        """Begin anew if that was asked for; otherwise return."""
        if self._again is not None:
            sys.stdout.flush()
            _keep_files_from_the_next()
            os.execv(self._again[0], self._again)  # noqa: S606 - this process's own command line


def _keep_files_from_the_next() -> None:
    """Have all files but the standard ones closed when the process begins anew: gloo's connections would stay open."""
    opened = Path("/proc/self/fd")
    numbers = [int(entry.name) for entry in opened.iterdir()] if opened.exists() else []
    for number in numbers:
        if number > _STANDARD:
            with suppress(OSError):  # the listing's own is closed by now
                os.set_inheritable(number, False)
