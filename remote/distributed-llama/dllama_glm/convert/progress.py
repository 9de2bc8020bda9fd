"""Telling how far the work is: a bar on a terminal, a line a minute elsewhere, JSON lines, a controller's file."""

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from dllama_glm.convert.progress_file import ProgressFile

_LINE_SECONDS = 60.0
_EVENT_SECONDS = 1.0
_BAR_WIDTH = 24


@dataclass(frozen=True)
class State:
    """Bytes of the source read so far (`before` of them by an earlier run) and in all, and the tensor in hand."""

    read: int
    before: int
    total: int
    tensor: str


class Progress:
    """Writes notes and progress to `stream` in the form that suits it; call `update` as often as you like.

    Where nobody reads the stream any more, nothing is written from then on: never a reason for the work to fail.
    """

    def __init__(
        self,
        *,
        as_json: bool,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        file: ProgressFile | None = None,
    ) -> None:
        """`file`: where a controller looks; None: nowhere."""
        self._json = as_json
        self._stream = stream or sys.stdout or _nowhere()  # stdout is None where it was closed from the start
        self._clock = clock
        self._file = file
        self._bar = not as_json and self._stream.isatty()
        self._started = self._told = clock()
        self._drawn = False

    @property
    def interval(self) -> float:
        """Seconds between two calls of `update` that are worth it."""
        return 0.1 if self._bar else 0.5

    def start(self) -> None:
        """The clock of the conversion starts now."""
        self._started = self._told = self._clock()

    def note(self, text: str, **facts: Any) -> None:
        """Say something; `facts` are for the JSON form."""
        self.event("note", text, **facts)

    def error(self, text: str, **facts: Any) -> None:
        """Say why it ended badly: a JSON event, or the text on stderr."""
        if self._json:
            self.event("error", text, **facts)
            return
        self._clear()
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr)

    def event(self, name: str, text: str, **facts: Any) -> None:
        """Something that happens once: `start`, `done`, `error`."""
        if self._json:
            self._write(json.dumps({"event": name, "message": text, **facts}) + "\n")
        else:
            self._clear()
            self._write(text + "\n")

    def update(self, state: State) -> None:
        """Show where we are, if it is time to."""
        now = self._clock()
        if self._file:
            self._file.tell(state.read, state.total, *self._speed(state, now), state.tensor, now)
        if self._bar:
            self._draw(state, now)
        elif now - self._told >= (_EVENT_SECONDS if self._json else _LINE_SECONDS):
            self._told = now
            self._tell(state, now)

    def finish(self) -> None:
        """Take the bar away."""
        self._clear()

    def _speed(self, state: State, now: float) -> tuple[float, float | None]:
        """(bytes a second, seconds left or None)."""
        elapsed = max(now - self._started, 1e-6)
        speed = (state.read - state.before) / elapsed
        return speed, (state.total - state.read) / speed if speed > 0 else None

    def _tell(self, state: State, now: float) -> None:
        speed, left = self._speed(state, now)
        if self._json:
            facts = {"bytes": state.read, "total_bytes": state.total, "mb_per_s": round(speed / 1e6, 1)}
            event = {"event": "progress", **facts, "seconds_left": left and round(left, 1), "tensor": state.tensor}
            self._write(json.dumps(event) + "\n")
        else:
            self._write(f"{_amount(state, speed, left)}  {state.tensor}\n")

    def _draw(self, state: State, now: float) -> None:
        speed, left = self._speed(state, now)
        full = round(_BAR_WIDTH * state.read / max(state.total, 1))
        bar = "#" * full + "." * (_BAR_WIDTH - full)
        line = f"[{bar}] {_amount(state, speed, left)}  {state.tensor}"
        self._write("\r" + line[: shutil.get_terminal_size().columns - 1] + "\x1b[K")
        self._drawn = True

    def _clear(self) -> None:
        if self._drawn:
            self._write("\r\x1b[K")
            self._drawn = False

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # the reader has gone, or the stream is closed
            self._give_up()

    def _give_up(self) -> None:
        lost, self._stream = self._stream, _nowhere()
        self._bar = False
        with contextlib.suppress(OSError, ValueError):  # what the lost stream holds back must not fail at the exit
            os.dup2(self._stream.fileno(), lost.fileno())


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


def _amount(state: State, speed: float, left: float | None) -> str:
    share = 100 * state.read / max(state.total, 1)
    time_left = "" if left is None else f", {int(left) // 60}:{int(left) % 60:02d} left"
    return f"{share:5.1f} %  {state.read / 1e6:,.0f} of {state.total / 1e6:,.0f} MB, {speed / 1e6:,.0f} MB/s{time_left}"
