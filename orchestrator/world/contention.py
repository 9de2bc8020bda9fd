"""Looks whether our own database can be written while a run goes on: its effects wait for it, and fail for nothing."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.ledger import Ledger
from orchestrator.words.errors import DatabaseBusy, UsageError
from orchestrator.words.waiting import Clock

LOOK_S = 5.0  # real seconds that a look waits, and that lie between two
GIVE_UP_S = 1800.0  # after which the driver leaves the run as a killed one would


class DatabaseWatch:
    """Says when another process holds the database, and when it has let go; `given_up` after `give_up_s` without it.

    Its ledger is not to wait longer than LOOK_S; that of the run waits for ever, as the durable engine does.
    """

    def __init__(
        self, ledger: Ledger, clock: Clock, say: Callable[[str], None], *, give_up_s: float = GIVE_UP_S,
        holds: Callable[[], bool] = lambda: True,
    ) -> None:  # fmt: skip
        """`holds`: whether this process still holds the run; where another one does, it is given up at once."""
        self._ledger, self._clock, self._say, self._give_up_s = ledger, clock, say, give_up_s
        self._changed, self._ended = clock.signal(), False
        self._holds = holds
        self.given_up: DatabaseBusy | UsageError | None = None
        self._task = clock.spawn("database", self._look_on)

    def end(self) -> None:
        """Look no more."""
        self._ended = True
        self._changed.notify()

    def join(self, seconds: float) -> bool:
        """Wait at most so many real seconds for the last look; whether it was."""
        return self._task.join(seconds)

    def _look_on(self) -> None:
        since: float | None = None
        while not self._changed.wait(lambda: self._ended, self._ledger.patience_s):
            now = self._clock.monotonic()
            try:
                with self._ledger.transaction():
                    pass
            except DatabaseBusy as error:
                if since is None:
                    since = now
                    self._say(f"{error.message}; nothing is ended for it, and what there is to write down waits")
                if self._clock.monotonic() - since >= self._give_up_s:
                    self.given_up = error
                    return
            except Exception:  # noqa: BLE001, S112  a full disk, say: that is found by whoever writes
                continue
            else:
                if not self._holds():
                    self.given_up = UsageError(
                        "another process drives the run now: the connection to the database was cut",
                        remedy="nothing was ended for it; gpuplan logs -f looks on",
                    )
                    return
                if since is not None:
                    self._say(f"{self._ledger.where} can be written again: the run goes on")
                since = None
