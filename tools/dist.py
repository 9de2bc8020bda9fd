"""Build the sdist and, from it, the wheel; hold both to what is promised of them. `make dist` runs it.

usage: python tools/dist.py [--out DIR] [--twine PROGRAM]
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
MADE = re.compile(
    r"(^|/)(__pycache__|\.venv|\.demo|build|dist|local|\.\w+_cache|[^/]+\.egg-info|\.coverage[^/]*)(/|$)|\.pyc$"
)
LARGEST = {"sdist": 16_000_000, "wheel": 10_000_000}  # the models that a rehearsal downloads are most of either


def source(folder: Path) -> Path:
    """The sdist of this tree, in the folder."""
    _run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(folder))
    (file,) = folder.glob("*.tar.gz")
    return file


def wheel_of(sdist: Path, folder: Path) -> Path:
    """The wheel that pip makes of an sdist: with what pyproject.toml asks for to build, and nothing else at hand."""
    _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(sdist))
    (file,) = folder.glob("*.whl")
    return file


def wheel_of_tree(folder: Path) -> Path:
    """The wheel of this tree, without an sdist between."""
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    (file,) = folder.glob("*.whl")
    return file


def in_sdist(file: Path) -> set[str]:
    """The files in it, as they are called in the tree."""
    with tarfile.open(file) as archive:
        return {str(PurePosixPath(*PurePosixPath(one.name).parts[1:])) for one in archive if not one.isdir()}


def in_wheel(file: Path) -> dict[str, int]:
    """The files in it, each with the checksum of its bytes."""
    with zipfile.ZipFile(file) as archive:
        return {one.filename: one.CRC for one in archive.infolist()}


def wrong_with_sdist(names: set[str], tracked: set[str]) -> list[str]:
    """What it holds that git does not have, what it lacks, and what is made rather than written."""
    return [
        *(f"{name}: git does not have it" for name in sorted(names - tracked - {"PKG-INFO"})),
        *(f"{name}: missing in the sdist" for name in sorted(tracked - names)),
        *(f"{name}: made, not written" for name in sorted(names) if MADE.search(name)),
    ]


def wrong_with_wheels(one: dict[str, int], other: dict[str, int]) -> list[str]:
    """How the wheel of the sdist differs from that of the tree, and what neither may hold."""
    return [
        *(f"{name}: in one of both wheels only" for name in sorted(one.keys() ^ other.keys())),
        *(
            f"{name}: not the same in both wheels"
            for name in sorted(one.keys() & other.keys())
            if one[name] != other[name]
        ),
        *(f"{name}: made, not written" for name in sorted(one) if MADE.search(name)),
    ]


def too_large(kind: str, size: int) -> list[str]:
    """Whether it has grown over what it may be: something got in that nobody meant."""
    most = LARGEST[kind]
    return [f"the {kind} has {size / 1e6:.1f} MB, more than {most / 1e6:.0f}"] if size > most else []


def _run(*words: str) -> str:
    done = subprocess.run(words, cwd=ROOT, text=True, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(f"dist: {' '.join(words[:4])} ... ended with {done.returncode}\n{done.stdout}")
    return done.stdout


def main() -> int:
    """Build in a folder apart, look, and put both files in place. Exit code 1: something is wrong, nothing is put."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where both files go (default: dist)")
    parser.add_argument("--twine", default=shutil.which("twine"), help="the program that checks them")
    asked = parser.parse_args()
    if not asked.twine:
        sys.exit("dist: there is no twine: make dist brings it, or --twine names it")
    with tempfile.TemporaryDirectory(prefix="gpuplan-dist-") as folder:
        made, apart = Path(folder) / "made", Path(folder) / "apart"
        sdist = source(made)
        wheel = wheel_of(sdist, made)
        wrong = wrong_with_sdist(in_sdist(sdist), set(_run("git", "ls-files", "-z").split("\0")) - {""})
        wrong += wrong_with_wheels(in_wheel(wheel), in_wheel(wheel_of_tree(apart)))
        wrong += [*too_large("sdist", sdist.stat().st_size), *too_large("wheel", wheel.stat().st_size)]
        if wrong:
            print("dist: " + "\ndist: ".join(wrong), file=sys.stderr)
            return 1
        print(_run(asked.twine, "check", "--strict", str(sdist), str(wheel)), end="")
        asked.out.mkdir(parents=True, exist_ok=True)
        for file, count in ((sdist, len(in_sdist(sdist))), (wheel, len(in_wheel(wheel)))):
            shutil.copy(file, asked.out)
            print(f"{asked.out / file.name}: {count} files, {file.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
