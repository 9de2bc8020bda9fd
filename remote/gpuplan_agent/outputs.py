"""What a job prints: both outputs in its log as they come, and standard output once more by itself.

Each output keeps its order; lines of the two that are written within the same moment may change places.
"""

from __future__ import annotations

import os
import select
import time

from gpuplan_agent import logs
from gpuplan_agent.jobfolder import JobFolder

READ_BYTES = 1 << 16


class Outputs:
    """The pipes of a job's two outputs, and the logs that what comes out of them goes to. `secrets` are masked."""

    def __init__(self, folder: JobFolder, secrets: list[str]) -> None:
        os.makedirs(folder.stdout, mode=0o700, exist_ok=True)
        self.log, self._stdout = logs.Writer(folder.path), logs.Writer(folder.stdout)
        self._filters = (logs.Filter(secrets), logs.Filter(secrets))
        self._open: dict[int, int] = {}  # pipe -> which of the filters is its
        self._last = 0  # the output that the log ends with
        self._whole = True  # ... in a line that has ended

    def pipes(self) -> tuple[int, int]:
        """Make the pipes; return the ends that the job writes to, standard output's first."""
        ends = []
        for number in range(2):
            pipe, end = os.pipe()
            self._open[pipe] = number
            ends.append(end)
        return ends[0], ends[1]

    @property
    def open(self) -> list[int]:
        """The pipes that something may still come out of."""
        return list(self._open)

    def read(self, pipe: int) -> None:
        """Log what has been written to a pipe; one that nobody writes to any more is closed."""
        number, data = self._open[pipe], os.read(pipe, READ_BYTES)
        if data:
            self._keep(number, self._filters[number].feed(data, time.monotonic()))
        else:
            os.close(pipe)
            del self._open[pipe]

    def tick(self) -> None:
        """Log lines that are not ended, now and then."""
        for number, held in enumerate(self._filters):
            self._keep(number, held.tick(time.monotonic()))

    def drain(self, within_s: float) -> None:
        """Log what is still in the pipes, and end. Whoever holds their other ends is dead, or not waited for."""
        limit = time.monotonic() + within_s
        while self._open and time.monotonic() < limit:
            ready = select.select(self.open, [], [], 0)[0]
            if not ready:
                break
            for pipe in ready:
                self.read(pipe)
        for number, held in enumerate(self._filters):
            self._keep(number, held.finish())
        self.log.close()
        self._stdout.close()

    def _keep(self, number: int, data: bytes) -> None:
        if not data:
            return
        if number != self._last and not self._whole:  # a line of one output does not go on in the other's
            self.log.write(b"\n")
        self._last, self._whole = number, data.endswith((b"\n", b"\r"))
        self.log.write(data)
        if number == 0:
            self._stdout.write(data)
