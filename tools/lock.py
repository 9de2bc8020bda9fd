"""Renew the locks: names, versions and hashes of what is installed without anybody looking on. No address is in them.

Each is resolved by the oldest Python that it is for, so that what it names runs on the newer ones too; what only some
of them, or some processors, need has a marker. torch, triton and numpy are in none: their wheels are the machine's.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "tools" / "locks"
UNLOCKED = ("torch", "triton", "numpy", "setuptools", "pip")
OLD, INTEL = '; python_version < "3.11"', '; platform_machine == "x86_64" and sys_platform != "darwin"'
MARKERS = {"exceptiongroup": OLD, "tomli": OLD, "tcmlib": INTEL}  # of what others need, and only sometimes
OPTIONS = (
    "--quiet", "--generate-hashes", "--no-header", "--no-annotate", "--strip-extras", "--no-emit-index-url",
    "--no-emit-find-links", "--no-emit-trusted-host",
)  # fmt: skip


@dataclass(frozen=True)
class Lock:
    """One lock: what it is made of, by which Python, and where it lies."""

    wanted: str
    python: str
    file: Path
    about: str


def locks() -> list[Lock]:
    """All of them."""
    code = ROOT / "remote" / "distributed-llama"
    return [
        Lock((LOCKS / "machine.in").read_text(), "python3.10", code / "requirements.txt", "every machine installs"),
        Lock("\n".join(developers()), "python3.11", LOCKS / "dev.txt", "`make install LOCKED=1` installs"),
    ]


def developers() -> list[str]:
    """What gpuplan and its extra `dev` ask for in pyproject.toml, the extras that it names itself unfolded."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    own = {f"{project['name']}[{name}]": wanted for name, wanted in extras.items()}

    def unfolded(lines: list[str]) -> list[str]:
        return [one for line in lines for one in (unfolded(own[line]) if line in own else [line])]

    return [*project["dependencies"], *unfolded(extras["dev"])]


def renew(lock: Lock, work: Path) -> None:
    """Resolve what is wanted, and write the lock."""
    venv = work / lock.python
    if not venv.exists():
        subprocess.run([lock.python, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin" / "pip", "install", "--quiet", "pip-tools"], check=True)
    source, target = work / "wanted.in", work / "locked.txt"
    source.write_text(lock.wanted)
    target.unlink(missing_ok=True)
    unlocked = [word for name in UNLOCKED for word in ("--unsafe-package", name)]
    subprocess.run([venv / "bin" / "pip-compile", *OPTIONS, *unlocked, "-o", target, source], check=True)
    head = f"# What {lock.about}, by `make lock`: names, versions and hashes, without torch, triton and numpy.\n"
    lock.file.write_text(head + finished(target.read_text()))


def finished(text: str) -> str:
    """The lock's lines: without pip-compile's remarks, with markers where only older Pythons need a package."""
    lines = []
    for line in text.splitlines():
        name = line.partition("==")[0]
        if line.startswith("#") or not line.strip():
            continue
        lines.append(line.replace(" \\", f" {MARKERS[name]} \\") if name in MARKERS else line)
    return "\n".join(lines) + "\n"


def main() -> int:
    """Renew every lock, or the ones whose file is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for environments, kept for the next time")
    parser.add_argument("names", nargs="*", help="file names of locks; none: all")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    for lock in locks():
        if not asked.names or lock.file.name in asked.names:
            renew(lock, asked.work)
            print(lock.file.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
