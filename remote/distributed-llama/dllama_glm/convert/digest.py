"""The sha256 of the file that is being written, computed beside: whoever wants it need not read the file again."""

import contextlib
import hashlib
import os
import threading
import time
from pathlib import Path

_BLOCK = 1 << 20
_PATIENCE, _SHARE = 5.0, 0.1  # waited for at the end: so many seconds, or so much of what the rest took


class Digest:
    """Follows the writers: a thread reads what lies before the first gap, and hashes it.

    What it hashes is what the file holds, whoever wrote it, an earlier run too. It gives the right sum or none.
    """

    def __init__(self, path: Path, size: int) -> None:
        """Begin with the file at `path`, which may be renamed meanwhile; `size`: its bytes at the end."""
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._size = size
        self._written: dict[int, int] = {}  # pieces beyond the first gap: begin -> end
        self._whole = 0  # everything before it is written
        self._moved = threading.Condition()
        self._stopped = False
        self._sum: str | None = None
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def wrote(self, begin: int, end: int) -> None:
        """These bytes of the file are final. Any thread may say so, of each byte once."""
        with self._moved:
            self._written[begin] = end
            while self._whole in self._written:
                self._whole = self._written.pop(self._whole)
            if self._whole >= end:
                self._moved.notify()

    def result(self) -> str | None:
        """The sum, hexadecimal, once everything is written; None where it is not there in little time."""
        self._thread.join(max(_PATIENCE, _SHARE * (time.monotonic() - self._began)))
        return self._sum

    def close(self) -> None:
        """Stop, whether it has come to the end or not."""
        with self._moved:
            self._stopped = True
            self._moved.notify()
        self._thread.join()
        os.close(self._descriptor)

    def _follow(self) -> None:
        digest, done, block = hashlib.sha256(), 0, bytearray(_BLOCK)
        with contextlib.suppress(OSError):  # a file that cannot be read has no sum
            while done < self._size and (until := self._further(done)):
                count = os.preadv(self._descriptor, [memoryview(block)[: min(_BLOCK, until - done)]], done)
                if not count:
                    return
                digest.update(memoryview(block)[:count])
                done += count
            if done == self._size:
                self._sum = digest.hexdigest()

    def _further(self, done: int) -> int:
        """Up to where the file is written, as soon as that is beyond `done`; 0: stopped."""
        with self._moved:
            self._moved.wait_for(lambda: self._stopped or self._whole > done)
            return 0 if self._stopped else self._whole
