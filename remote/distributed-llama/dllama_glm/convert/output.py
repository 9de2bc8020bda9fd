"""The file under construction: NAME.m.partial and its journal, locked, resumable, renamed when whole."""

import ctypes
import errno
import fcntl
import json
import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from dllama_glm.convert.errors import Busy, OutputError

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SYNC = getattr(os, "fdatasync", os.fsync)  # macOS has the latter alone
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_NO_FOLDER_SYNC = {errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF}
_KEEP_SIZE = 1
_FULL = {  # what it is called, and what to do
    errno.ENOSPC: ("disk full", "make room"),
    errno.EDQUOT: (
        "quota exceeded, though the disk may have room",
        "raise the quota (of the user, the project or the volume), or remove files that count in it,",
    ),
    errno.EFBIG: ("file too large for this disk or for ulimit -f", "raise the limit"),
}


class Output:
    """One output file while it is written. Writes go anywhere in it; the final name appears only with `commit`.

    The journal names every finished tensor, and how many of them are known to be on the disk: after a kill all
    finished ones count, after a crash of the machine (another boot id) only those.
    """

    def __init__(self, path: Path, fingerprint: str, ends: Iterable[int], *, fresh: bool = False) -> None:
        """Open or go on; `ends` are the offsets behind each tensor, `fingerprint` tells one job from another.

        Raises Busy, or OutputError if the file cannot be opened.
        """
        self.path = path
        self.on_written: Callable[[int, int], None] = lambda _begin, _end: None  # hears of every write
        self.partial = path.with_name(path.name + ".partial")
        self.journal = path.with_name(path.name + ".partial.journal")
        self._fingerprint = fingerprint
        self._ends = tuple(ends)
        self._descriptor = _open_locked(self.partial)
        self._finished: list[int] = [] if fresh else self._resumable()
        try:
            if not self._finished:
                os.ftruncate(self._descriptor, 0)
            _reserve(self._descriptor, max(self._ends, default=0))
            self._log = self._new_journal()
        except OSError as error:
            message = self._explain(error)
            os.close(self._descriptor)
            raise message from error
        self.resumed = frozenset(self._finished)

    def write(self, offset: int, data: memoryview) -> None:
        """Write all of `data` at `offset`. Raises OutputError, with the cause, if it does not fit."""
        begin = offset
        try:
            while data:
                written = os.pwrite(self._descriptor, data, offset)
                data, offset = data[written:], offset + written
        except OSError as error:
            raise self._explain(error) from error
        self.on_written(begin, offset)

    def read(self, offset: int, count: int) -> bytes:
        """What lies there now; short at the end of the file. Raises OutputError."""
        try:
            return os.pread(self._descriptor, count, offset)
        except OSError as error:
            raise self._explain(error) from error

    def redo(self, indexes: Collection[int]) -> None:
        """Forget that these tensors are finished: they will be written again."""
        self._finished = [index for index in self._finished if index not in indexes]
        self.resumed = frozenset(self._finished)
        os.close(self._log)
        self._log = self._new_journal()

    def finished(self, index: int) -> None:
        """Record that every byte of tensor `index` has been written. One thread at a time."""
        self._finished.append(index)
        self._record({"done": index})

    def sync(self) -> None:
        """Bring what is written to the disk, and record which tensors that covers."""
        count = len(self._finished)
        try:
            _SYNC(self._descriptor)
        except OSError as error:
            raise self._explain(error) from error
        self._record({"synced": count})

    def commit(self) -> None:
        """Bring everything to the disk and give the file its final name."""
        try:
            os.fsync(self._descriptor)
            self.partial.replace(self.path)
            _sync_folder(self.path.parent)
        except OSError as error:
            raise self._explain(error) from error
        self.close()
        self.journal.unlink(missing_ok=True)

    def discard(self) -> None:
        """Throw away what was written: nobody will go on with it."""
        self.journal.unlink(missing_ok=True)
        self.partial.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file and its lock; what is written stays for a resume."""
        if self._descriptor >= 0:
            os.close(self._log)
            os.close(self._descriptor)
            self._descriptor = -1

    def _explain(self, error: OSError) -> OutputError:
        return explain(error, self.partial, max(self._ends, default=0))

    def _resumable(self) -> list[int]:
        """Tensors that a killed run of the same job finished; empty if there was none."""
        records = _read_journal(self.journal)
        if not records or records[0].get("fingerprint") != self._fingerprint:
            return []
        done = [record["done"] for record in records if "done" in record]
        if records[0].get("boot") != _boot_id():
            done = done[: max((record["synced"] for record in records if "synced" in record), default=0)]
        size = os.fstat(self._descriptor).st_size
        return [index for index in done if 0 <= index < len(self._ends) and self._ends[index] <= size]

    def _new_journal(self) -> int:
        """Write a journal of what still counts, put it in place at once, and leave it open for more."""
        first = {"fingerprint": self._fingerprint, "boot": _boot_id()}
        _SYNC(self._descriptor)
        done = ({"done": index} for index in self._finished)
        records: list[dict[str, Any]] = [first, *done, {"synced": len(self._finished)}]
        fresh = self.journal.with_name(self.journal.name + ".new")
        fresh.write_text("".join(json.dumps(record) + "\n" for record in records))
        fresh.replace(self.journal)
        return os.open(self.journal, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def _record(self, record: dict[str, Any]) -> None:
        try:
            os.write(self._log, (json.dumps(record) + "\n").encode())
        except OSError as error:
            raise self._explain(error) from error


def _reserve(descriptor: int, size: int) -> None:
    """Set the room aside without changing the file's size; a disk too full is known now, and writing is cheaper.

    Where the file system cannot, nothing happens (the library's own fallback would write the whole file).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "fallocate"):
        return
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if libc.fallocate(descriptor, _KEEP_SIZE, 0, size) and (number := ctypes.get_errno()) in _FULL:
        raise OSError(number, os.strerror(number))


def _sync_folder(folder: Path) -> None:
    """Bring a rename to the disk, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def explain(error: OSError, path: Path, needed: int = 0) -> OutputError:
    """A sentence for a failed write; `needed` is how many bytes the whole file takes, 0 where nobody knows."""
    if error.errno not in _FULL:
        return OutputError(f"{path}: cannot be written: {error.strerror or error}")
    stat = os.statvfs(path.parent)
    free, have = stat.f_bavail * stat.f_frsize, path.stat().st_blocks * 512 if path.exists() else 0
    what, remedy = _FULL[error.errno]
    size = f"{path} needs {needed:,} bytes and has {have:,}" if needed else f"{path} cannot be made"
    return OutputError(
        f"{what}: {size}, {path.parent} has {free:,} free ({os.strerror(error.errno)}); "
        f"{remedy} and run the same command again: it goes on where it stopped"
    )


def _open_locked(path: Path) -> int:
    """Open for writing under an exclusive lock that the file's last holder releases by closing, or by dying."""
    try:
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            _lock(descriptor, path)
            if _still_there(descriptor, path):
                return descriptor
            # The file was renamed to its final name between our opening and our locking: it is not ours to write.
            os.close(descriptor)
    except OSError as error:
        raise explain(error, path) from error


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Busy(f"{path} is being written by another converter; wait for it, or end it first") from None
    except OSError as error:
        # Some network file systems have no locks: better to convert without than not at all.
        if error.errno not in _NO_LOCKS:
            raise


def _still_there(descriptor: int, path: Path) -> bool:
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    return (named.st_ino, named.st_dev) == (os.fstat(descriptor).st_ino, os.fstat(descriptor).st_dev)


def _read_journal(path: Path) -> list[dict[str, Any]]:
    """The journal's records up to the first damaged one (a kill may have cut the last line)."""
    try:
        lines = path.read_text().split("\n")[:-1]
    except (OSError, UnicodeDecodeError):
        return []
    records: list[dict[str, Any]] = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            break
        if not isinstance(record, dict) or not all(type(record.get(key, 0)) is int for key in ("done", "synced")):
            break
        records.append(record)
    return records


def _boot_id() -> str:
    """What tells one boot of this machine from another; a value of its own each time where none can be read."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return os.urandom(16).hex()
