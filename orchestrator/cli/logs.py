"""The command that prints what steps said: all of it, its end, or what is new, as it comes."""

from __future__ import annotations

import re
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import Json, RunName, find_run, open_home, print_json, say_who_drives
from orchestrator.report.console import say
from orchestrator.words.errors import UsageError
from orchestrator.words.lifecycle import RunState

if TYPE_CHECKING:
    from collections.abc import Iterator

UNDRIVEN_LOOKS = 3  # in a row, before `logs -f` believes it: between a question and the run nobody drives it either
SINCE = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines are printed. `tail` None: all; `since`: Unix seconds, 0: from the beginning; `grep` None: any."""

    tail: int | None = None
    since: float = 0.0
    grep: re.Pattern[str] | None = None

    def first_byte(self, log: Path) -> int:
        """Where in a log what is new enough begins; its end: nothing is."""
        if not self.since:
            return 0
        try:
            times = [line.split() for line in log.with_suffix(".times").read_text().splitlines()]
        except OSError:  # of an older version: all of it or nothing
            return 0 if log.stat().st_mtime >= self.since else log.stat().st_size
        new = (int(at) for seconds, at in times if float(seconds) >= self.since)
        return next(new, log.stat().st_size)

    def of(self, lines: Iterator[str]) -> Iterator[str]:
        """The lines that match, the last `tail` of them."""
        matching = (line for line in lines if self.grep is None or self.grep.search(line))
        return iter(deque(matching, self.tail)) if self.tail is not None else matching


def logs(
    run: RunName = None,
    *,
    step: Annotated[str | None, typer.Option("--step", metavar="NAME", help="Only this step (or PHASE/STEP).")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", metavar="N", min=0, help="Only the last lines of each step.")
    ] = None,
    since: Annotated[str, typer.Option("--since", metavar="10m", help="Only what came in this time: s, m, h, d.")] = "",
    grep: Annotated[
        str, typer.Option("--grep", metavar="REGEX", help="Only lines that a regular expression finds.")
    ] = "",
    json: Json = False,
) -> None:
    """Print the steps' output; what a machine printed is escaped."""
    if json and follow:
        raise UsageError("--json prints one document, and --follow goes on", remedy="leave one of them out")
    wanted = Wanted(tail, _moment(since), _pattern(grep))
    home, ledger = open_home()
    spec = find_run(home, ledger, run)
    folder = home.run_folder(spec.run) / "logs"
    undriven = not say_who_drives(home, ledger, spec, err=json, only_if_nobody=True)
    if json:
        files = _log_files(folder, step)
        _require_output(spec.run, step, files)
        found = [{"step": _name(f, folder), "text": "".join(f"{li}\n" for li in _lines(f, wanted))} for f in files]
        print_json({"run": spec.run, "driven": home.is_driven(spec.run), "logs": found})
        return
    seen: dict[Path, int] = {}
    looks = UNDRIVEN_LOOKS if undriven else 0
    while True:
        driven = home.is_driven(spec.run)
        ended = not follow or ledger.runs.get(id=spec.run).state == RunState.DONE
        looks = 0 if driven or ended else looks + 1
        over = ended or looks >= UNDRIVEN_LOOKS
        files = _log_files(folder, step)
        if over:
            _require_output(spec.run, step, files)
        for file in files:  # at the end a last line without its end is printed too
            label = f"{_name(file, folder)} | " if step is None else ""
            at = seen[file] if file in seen else wanted.first_byte(file)
            which = wanted if file not in seen else Wanted(grep=wanted.grep)
            seen[file] = _print_new(file, at, label, which, rest=over)
        sys.stdout.flush()
        if over:
            break
        time.sleep(0.5)
    if looks:  # the last line says why it ends, too
        say_who_drives(home, ledger, spec, err=False, only_if_nobody=True)


def _moment(since: str) -> float:
    """When what is wanted begins; 0: at the beginning. UsageError: that is no time."""
    if not since:
        return 0.0
    if (found := SINCE.fullmatch(since)) is None:
        raise UsageError(f"--since {since}: a time is a number with s, m, h or d, as 10m")
    return time.time() - float(found[1]) * SECONDS[found[2]]


def _pattern(grep: str) -> re.Pattern[str] | None:
    try:
        return re.compile(grep) if grep else None
    except re.error as error:
        raise UsageError(
            f"--grep {grep}: {error}", remedy="a point, a bracket or a star means itself after a \\"
        ) from error


def _require_output(run: str, step: str | None, files: list[Path]) -> None:
    """UsageError when a step was named and nothing of it is there."""
    if step and not files:
        raise UsageError(f"{run} has no output of a step {step}", remedy=f"gpuplan status {run} lists them")


def _log_files(folder: Path, step: str | None) -> list[Path]:
    files = sorted(folder.glob("*/*.log"), key=lambda p: p.stat().st_mtime) if folder.exists() else []
    if step is None:
        return files
    phase, _, name = step.rpartition("/")
    named = re.compile(re.escape(name) + r"(\.\d+)?\.log")  # a step on several nodes has one file for each
    return [f for f in files if named.fullmatch(f.name) and phase in ("", f.parent.name)]


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix().removesuffix(".log")


def _lines(file: Path, wanted: Wanted) -> Iterator[str]:
    with file.open("rb") as log:
        log.seek(wanted.first_byte(file))
        return wanted.of(iter(log.read().decode("utf-8", "replace").splitlines()))


def _print_new(file: Path, offset: int, label: str, wanted: Wanted, *, rest: bool) -> int:
    with file.open("rb") as log:
        log.seek(offset)
        data = log.read()
    whole = len(data) if rest else data.rfind(b"\n") + 1
    for line in wanted.of(iter(data[:whole].decode("utf-8", "replace").splitlines())):
        say(f"{label}{line}", flush=False)
    return offset + whole
