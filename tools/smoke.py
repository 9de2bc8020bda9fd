"""Install a wheel's core with every Python that is found here, and use it as a newcomer does. Nothing is rented.

usage: python tools/smoke.py WHEEL [--python PROGRAM ...]
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

OLDEST, NEWEST = 11, 14  # minor versions of Python 3 that are looked for
ENOUGH_S = 120.0
EXTRA = "the extra [rehearsal] has it"
STEPS: tuple[tuple[tuple[str, ...], int, str], ...] = (  # words, exit code, and what is said
    (("--help",), 0, "leave nothing running"),
    (("init",), 0, "written: gpuplan.yaml"),
    (("validate",), 0, "data, train, report"),
    (("plan",), 0, "steps: 5 to run"),
    (("validate", "--plan", "shipped"), 0, "day1, day2-3, day4-5, day6-7"),
    (("ls",), 0, "there is no run yet"),
    (("run", "all", "--dry-run", "--yes"), 2, EXTRA),
    (("offers", "all", "--dry-run"), 2, EXTRA),
    (("dashboard",), 2, "pip install '.[dashboard]'"),
    (("completion", "bash"), 0, "complete -o default -F _gpuplan gpuplan"),
)


class SmokeError(Exception):
    """An installed command does not do what it should; the text has what it said."""


@dataclass(frozen=True)
class Interpreter:
    """A Python that is here."""

    program: Path
    version: str


def interpreters(programs: list[str]) -> list[Interpreter]:
    """Those named, else every Python from 3.11 to 3.14 on the PATH or of pyenv, one of each minor version."""
    found: dict[str, Interpreter] = {}
    for program in programs or _places():
        one = _asked(program)
        if one is None and programs:
            raise SmokeError(f"{program} is no Python that runs")
        if one and (programs or _is_ours(one.version)):
            found.setdefault(one.version.rpartition(".")[0], one)
    return sorted(found.values(), key=lambda one: [int(part) for part in one.version.split(".")])


def _places() -> list[str]:
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    named = [f"python3.{minor}" for minor in range(OLDEST, NEWEST + 1)]
    pyenv = [str(one) for name in named for one in sorted(root.glob(f"versions/*/bin/{name}"))]
    return [*pyenv, *(path for name in named if (path := shutil.which(name)))]


def _asked(program: str) -> Interpreter | None:
    words = [program, "-c", "import platform, venv, ensurepip; print(platform.python_version())"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=ENOUGH_S)
    except OSError:
        return None
    version = done.stdout.strip()
    return Interpreter(Path(program), version) if re.fullmatch(r"\d+\.\d+\.\d+", version) else None


def _is_ours(version: str) -> bool:
    major, minor, _ = map(int, version.split("."))
    return major == 3 and OLDEST <= minor <= NEWEST


def with_pip(wheel: Path, python: Interpreter, folder: Path) -> Path:
    """The command, from an environment of its own. SmokeError: pip could not install it; its last words say why."""
    subprocess.run([python.program, "-m", "venv", folder], check=True, timeout=ENOUGH_S)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "install", str(wheel)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SmokeError(f"pip on Python {python.version}: {done.stderr[-1000:]}")
    return folder / "bin" / "gpuplan"


def smoke(program: Path, folder: Path, version: str) -> None:
    """Use the installed core in an empty folder. SmokeError: a command ends with another code, or says other words."""
    folder.mkdir(parents=True)
    for words, code, said in ((("--version",), 0, f"gpuplan {version}\n"), *STEPS):
        done = subprocess.run(
            [program, *words], capture_output=True, text=True, check=False, timeout=ENOUGH_S, cwd=folder,
            env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "GPUPLAN_HOME": str(folder / "home")},
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        everything = done.stdout + done.stderr
        if done.returncode != code or said not in everything or "Traceback" in everything:
            raise SmokeError(
                f"gpuplan {' '.join(words)} ended with {done.returncode}, not {code}: {everything[-1000:]}"
            )
    if left := list((folder / "home").glob("runs/*")):
        raise SmokeError(f"a refused rehearsal left {left[0]}")


def version_of(wheel: Path) -> str:
    """As its file name says."""
    return wheel.name.split("-")[1]


def main() -> int:
    """One line for each Python; exit code 1: one of them does not do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--python", action="append", default=[], help="in place of those that are found")
    asked = parser.parse_args()
    bad = 0
    for python in interpreters(asked.python):
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="gpuplan-smoke-") as folder:
            try:
                program = with_pip(asked.wheel.resolve(), python, Path(folder) / "venv")
                smoke(program, Path(folder) / "empty", version_of(asked.wheel))
            except SmokeError as error:
                bad += 1
                print(f"Python {python.version}: {error}", flush=True)
                continue
        print(f"Python {python.version}: installed and used, {time.monotonic() - began:.0f} s", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
