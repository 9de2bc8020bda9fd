"""Ctrl-C and its like, as a word to whoever can stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orchestrator.engine.control import Why

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stopping_on_signals(stop: Callable[[Why, str], bool], say: Callable[[str], None]) -> Iterator[None]:
    """Turn Ctrl-C and its like into a flag: nothing is raised anywhere, and a second one changes nothing.

    Afterwards they are ignored: what is left to do is to say how it ended, with the exit code that says so too.
    """

    def handle(number: int, _frame: object) -> None:
        name = signal.Signals(number).name
        if stop("interrupted", f"stopped by {'Ctrl-C' if number == signal.SIGINT else name}"):
            say("stopping: running steps are ended, then every machine (once more changes nothing)")
        else:
            say("still ending the machines: nothing may be left running")

    wanted = [n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]  # nohup's wish is respected
    for number in wanted:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in wanted:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def told_to_stop() -> Iterator[threading.Event]:
    """What Ctrl-C and SIGTERM set, for a command that looks on until then; afterwards they mean what they did."""
    told = threading.Event()
    before = {number: signal.signal(number, lambda *_: told.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
