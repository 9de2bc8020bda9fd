"""Telling a controller how far the work is, through the file that it names in GPUPLAN_PROGRESS."""

import contextlib
import json
import os
from pathlib import Path

_SECONDS = 0.5
_LONGEST_NAME = 200


class ProgressFile:
    """Replaces the file whole, at most twice a second and once more at the end; never a reason to fail."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._new = path.with_name(f"{path.name}.new")  # one name for all: a killed process leaves one file at most
        self._written: float | None = None
        self._done = -1

    @classmethod
    def named(cls) -> "ProgressFile | None":
        """The file of GPUPLAN_PROGRESS; None: nobody wants it."""
        path = os.environ.get("GPUPLAN_PROGRESS")
        return cls(Path(path)) if path else None

    def tell(self, done: int, total: int, rate: float, left: float | None, what: str, now: float) -> None:
        """Bytes, bytes a second, seconds left (None: unknown), the thing in hand; `now` on a monotonic clock."""
        early = self._written is not None and now - self._written < _SECONDS
        if done == self._done or (early and done < total):
            return
        self._written, self._done = now, done
        facts = {"done": done, "total": total, "rate": rate, "left_s": left, "unit": "B"}
        facts["what"] = what[:_LONGEST_NAME]
        with contextlib.suppress(OSError):  # a full disk is found out, and said, where the output is written
            self._new.write_text(json.dumps(facts), encoding="utf-8")
            self._new.replace(self._path)
