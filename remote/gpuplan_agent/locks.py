"""Locks that the kernel lets go when their process dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import Iterator


def take(path: str) -> int:
    """Wait for the lock on a file and return the handle that holds it; a forked child goes on holding it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def held(path: str) -> bool:
    """Whether somebody holds the lock now."""
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the lock on a file for the length of a block."""
    handle = take(path)
    try:
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)  # closing is not enough: a process forked meanwhile has the handle too
        os.close(handle)
