"""Agents as `make coverage` counts them: they start with -S, where no start-up file of a Python begins a measurement.

Without a measurement nothing here changes how an agent is started. With one, the `python3` of a machine is a script
that begins it before the agent, in the one that the controller calls and in what that runs of itself; so does the venv
of the steps, with whose Python the agent looks after it. Forks, and ends by `os._exit`, are coverage's own business
(`patch` in pyproject.toml).
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import coverage

SETTINGS = "COVERAGE_PROCESS_CONFIG"  # where coverage keeps them for the processes below a measured one
PYTHON = """#!/bin/sh
flags=
for word; do
    case "$word" in -I | -E | -s | -S | -X | utf8) flags="$flags $word" ;; *) break ;; esac
    shift
done
case "$1 $2" in
*/remote/agent.py* | */.gpuplan/agent-*) exec {python} $flags {begin} "$@" ;;
"-m venv") {python} "$@" && for folder; do :; done && cp {pth} "$folder"/lib/python*/site-packages/ ;;
*) exec {python} $flags "$@" ;;
esac
"""
PTH = "import runpy; runpy.run_path({begin!r}, run_name='in the venv')\n"
BEGIN = """import base64, json, os, runpy, sys

in_venv = __name__ != "__main__"
if not in_venv:
    sys.argv, sys.executable = sys.argv[1:], {shown!r}
script = in_venv or os.path.isfile(sys.argv[0])
folder = {remote!r} if in_venv else os.path.dirname(sys.argv[0]) if script else sys.argv[0]
settings = json.loads(base64.b64decode({settings!r}))
settings.update(source=None, source_dirs=[], source_pkgs=[])
settings["run_include"] = [os.path.join(folder, name) for name in ("agent.py", "gpuplan_agent/*")]
sys.path.append({library!r})
os.environ[{name!r}] = base64.b64encode(json.dumps(settings).encode()).decode()
import coverage

coverage.process_startup()
del os.environ[{name!r}]
sys.path.remove({library!r})
if not in_venv:
    if script:
        sys.path[:0] = [folder]
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


def python(folder: Path) -> Path:
    """The Python to run an agent with: this one, or with a measurement a script in `folder`, of the name python3."""
    settings = os.environ.get(SETTINGS)
    if settings is None:
        return Path(sys.executable)
    folder.mkdir(parents=True, exist_ok=True)
    program, begin, pth = folder / "python3", folder / "begin.py", folder / "counted.pth"
    library, remote = str(Path(coverage.__file__).parents[1]), str(Path(__file__).parents[1] / "remote")
    begin.write_text(BEGIN.format(shown=str(program), settings=settings, library=library, name=SETTINGS, remote=remote))
    pth.write_text(PTH.format(begin=str(begin)))
    words = {"python": sys.executable, "begin": str(begin), "pth": str(pth)}
    program.write_text(PYTHON.format(**{name: shlex.quote(word) for name, word in words.items()}))
    program.chmod(0o755)
    return program


def first_in(path: str, folder: Path) -> str:
    """A machine's PATH, that Python's folder in front of it; without a measurement as it is."""
    return f"{python(folder).parent}:{path}" if SETTINGS in os.environ else path
