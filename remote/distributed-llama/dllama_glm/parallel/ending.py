"""The one end of a process that is one of several ranks: the first error is said, whichever thread meets it."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn


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
            os.execv(self._again[0], self._again)  # noqa: S606 - this process's own command line
