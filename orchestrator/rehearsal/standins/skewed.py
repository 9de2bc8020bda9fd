"""Clocks that are wrong: what Python's `time` and `date` say on emulated machines, the agent among it.

The kernel's clock is this computer's. What asks it without them (`datetime`, other languages, the times of files) is
told the right time.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from orchestrator.rehearsal.standins import replace_file

SHIFT = """import time

_AHEAD, _real = {seconds!r}, {{name: getattr(time, name) for name in (
    "time", "localtime", "gmtime", "ctime", "strftime", "asctime")}}
time.time = lambda: _real["time"]() + _AHEAD
time.time_ns = lambda: int(time.time() * 1e9)
for _name in ("localtime", "gmtime", "ctime"):
    setattr(time, _name, lambda seconds=None, _of=_real[_name]: _of(time.time() if seconds is None else seconds))
time.strftime = lambda form, moment=None: _real["strftime"](form, time.localtime() if moment is None else moment)
time.asctime = lambda moment=None: _real["asctime"](time.localtime() if moment is None else moment)
"""
# The agent is started as `python3 -I -S -X utf8 FOLDER`, which no start-up file of a Python can reach.
PYTHON = """if [ "$1 $2 $3 $4" = "-I -S -X utf8" ]; then
    shift 4
    exec {python} -I -S -X utf8 {launcher} "$@"
fi
exec {python} "$@"
"""
LAUNCHER = """
import runpy
import sys

sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
DATE = """case " $* " in *" -d"*|*" --date"*|*" -r"*|*" -s"*) exec /bin/date "$@";; esac
exec /bin/date -d "{seconds:+.0f} seconds" "$@"
"""


def install(programs: Path, modules: Path, seconds: float) -> None:
    """Put them in front of the machine's own, in the folder of its programs and in that of its Python's modules.

    `seconds`: by how much they are ahead of this computer's clock; below zero, behind it.
    """
    shift = SHIFT.format(seconds=seconds)
    replace_file(modules / "sitecustomize.py", shift, 0o644)
    launcher = programs / "skewed-agent.py"
    replace_file(launcher, shift + LAUNCHER, 0o644)
    python = PYTHON.format(python=shlex.quote(sys.executable), launcher=shlex.quote(str(launcher)))
    for name in ("python", "python3"):
        replace_file(programs / name, f"#!/bin/sh\n{python}", 0o755)
    replace_file(programs / "date", f"#!/bin/sh\n{DATE.format(seconds=seconds)}", 0o755)
