"""pip of an emulated machine: checks that what is asked for is installed already, fetches and changes nothing."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote

from orchestrator.rehearsal.standins import image

NOTE = "(rehearsal: nothing is fetched)"
VALUED = ("--index-url", "--extra-index-url", "--find-links", "--target", "--prefix", "--upgrade-strategy", "--timeout")
FLAGS = (
    "--quiet", "--upgrade", "--user", "--no-cache-dir", "--no-input", "--pre", "--no-deps", "--break-system-packages",
    "--disable-pip-version-check", "--no-index", "--require-hashes", "--no-warn-script-location", "--prefer-binary",
)  # fmt: skip


LOCKED = re.compile(r"\s*==\s*[^;\s]+")


def requirements(file: Path) -> Iterator[str]:
    """Yield the requirements of a file and of the files that it includes. SystemExit when one cannot be read.

    A locked version, one with hashes, is for machines: here what is installed stands in for it.
    """
    try:
        text = file.read_text()
    except OSError as error:
        sys.exit(f"ERROR: Could not open requirements file {file}: {error.strerror}")
    for line in text.replace("\\\n", " ").splitlines():
        wanted = line.strip() if not line.lstrip().startswith("#") else ""
        wanted = wanted.partition(" #")[0].partition(" --")[0].strip()  # a marker's quotes belong to it
        words = shlex.split(wanted)
        if words and words[0] in {"-r", "--requirement"}:
            yield from requirements(file.parent / words[1])
        elif words and not words[0].startswith("-"):
            yield LOCKED.sub("", wanted, count=1) if "--hash=" in line else wanted


def check(text: str) -> tuple[bool, str]:
    """Say whether one requirement holds here, in pip's words."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        wanted = Requirement(text)
    except InvalidRequirement:
        return False, f"ERROR: {text} is no name and version: a rehearsal installs from no file and no address"
    if wanted.marker and not wanted.marker.evaluate():
        return True, f"Ignoring {wanted.name}: markers {str(wanted.marker)!r} don't match your environment"
    if wanted.url:
        return False, f"ERROR: {text} has an address: a rehearsal fetches nothing"
    try:
        version = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return False, f"ERROR: No matching distribution found for {text} {NOTE}: install it where gpuplan runs"
    if not wanted.specifier.contains(version, prereleases=True):
        return False, f"ERROR: {text} is asked for, {wanted.name} {version} is installed {NOTE}"
    return True, f"Requirement already satisfied: {text} ({version}) {NOTE}"


def pinned(conf: Path) -> dict[str, str]:
    """Name -> version of what the environment's own pip.conf says stays as it is."""
    named = re.search(r"^constraint = file://(.+)$", conf.read_text(), re.MULTILINE) if conf.is_file() else None
    lines = Path(unquote(named[1])).read_text().split() if named else []
    return dict(line.split("==") for line in lines if "==" in line)


def resolve(text: str, pins: dict[str, str]) -> tuple[bool, str]:
    """Like `check`, with what is pinned; a package of the image that will not do is replaced by this computer's."""
    holds, words = check(text)
    name = re.split(r"[^A-Za-z0-9._-]", text, maxsplit=1)[0]
    if holds or not name:
        return holds, words
    from packaging.requirements import Requirement

    try:
        wanted = Requirement(text)
    except ValueError:
        return holds, words
    if wanted.name in pins and not wanted.specifier.contains(pins[wanted.name], prereleases=True):
        constraint = f"the user requested (constraint) {wanted.name}=={pins[wanted.name]}"
        return False, f"ERROR: Cannot install {text}, for {constraint}: ResolutionImpossible {NOTE}"
    other = next((o for o in image.others(wanted.name) if wanted.specifier.contains(o.version, prereleases=True)), None)
    if other is None:
        return holds, words
    image.replace(wanted.name)
    return True, f"Successfully installed {wanted.name}-{other.version} {NOTE}"


def install(arguments: list[str]) -> int:
    """Check each requirement. Exit code 0: all hold; 1: what is missing is on stderr."""
    parser = argparse.ArgumentParser(prog="pip install", description=NOTE)
    parser.add_argument("wanted", nargs="*")
    parser.add_argument("-r", "--requirement", action="append", default=[], type=Path)
    parser.add_argument("-c", "--constraint", action="append", default=[], type=Path)
    parser.add_argument("-q", "-U", dest="ignored", action="store_true")
    for option in VALUED:
        parser.add_argument(option)
    for flag in FLAGS:
        parser.add_argument(flag, action="store_true")
    options = parser.parse_args(arguments)
    wanted = [*options.wanted, *(line for file in options.requirement for line in requirements(file))]
    if not wanted:
        sys.exit("ERROR: You must give at least one requirement to install")
    pins = pinned(Path(sys.prefix) / "pip.conf")
    answers = [resolve(text, pins) for text in dict.fromkeys(wanted)]
    print(*(words for holds, words in answers if holds), sep="\n", flush=True)  # noqa: T201 - a command line
    failed = [words for holds, words in answers if not holds]
    if failed:
        print(*failed, sep="\n", file=sys.stderr)  # noqa: T201 - what went wrong is the last that is said
    return int(bool(failed))


def installed(arguments: list[str]) -> int:
    """List what is installed, as `pip list` and `pip freeze` do."""
    freeze = "freeze" in arguments or "--format=freeze" in arguments
    found = sorted({(item.name, item.version) for item in metadata.distributions()}, key=lambda item: item[0].lower())
    for name, version in found:
        print(f"{name}=={version}" if freeze else f"{name:<30} {version}")  # noqa: T201 - a command line
    return 0


def main(arguments: list[str]) -> int:
    """Run one pip command. Exit code 2: this stand-in has no such command."""
    command = arguments[0] if arguments else "--help"
    if command == "install":
        return install(arguments[1:])
    if command in {"list", "freeze"}:
        return installed(arguments)
    if command in {"--version", "-V"}:
        print(f"pip (gpuplan's stand-in {NOTE}) (python {sys.version_info.major}.{sys.version_info.minor})")  # noqa: T201
        return 0
    if command in {"--help", "-h", "help"}:
        print(f"usage: pip install REQUIREMENT... | -r FILE; pip list; pip freeze; pip --version {NOTE}")  # noqa: T201
        return 0
    print(f"ERROR: pip {command} is not rehearsed {NOTE}", file=sys.stderr)  # noqa: T201 - a command line
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
