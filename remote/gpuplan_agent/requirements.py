"""Install what the plan's files of requirements ask for into the venv of the steps, whose Python runs this.

The image's own packages stay as they are: numpy and torch are compiled for its driver and for each other.
- A file with hashes is a lock: exactly what it lists is installed, without asking what that needs.
- Of a file that names its constraints (a line `-c FILE`), a line that the image satisfies changes nothing; what it does
  not satisfy is installed in the versions of that file.
- Any other is pip's own matter, but for the versions of the image's numpy and torch, which stay unless the file itself
  asks for others: an image may bring older ones than its name says.
Afterwards these are pinned, for whatever a step installs.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import subprocess
import sys
from typing import Any

PINNED = ("numpy", "torch", "torchvision", "torchaudio")
TORCHES = ("torch", "torchvision", "torchaudio")  # built for each other: one of another version takes the others along
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
PIP = os.path.join(os.path.dirname(sys.executable), "pip")
DONE = os.path.join(sys.prefix, "requirements")  # the hashes of what was installed
CONSTRAINTS = os.path.join(sys.prefix, "constraints.txt")
CONF = os.path.join(sys.prefix, "pip.conf")


def main(files: list[str]) -> int:
    """Install each file once for each content of it, then pin. Exit code: pip's."""
    installed = _read(DONE).split() if os.path.exists(DONE) else []
    for file in files:
        lines = _lines(file)
        companions = [os.path.join(os.path.dirname(file), line.split()[1]) for line in lines if line.startswith("-c ")]
        digest = hashlib.sha256("\0".join(map(_read, [file, *companions])).encode()).hexdigest()
        if digest in installed:
            continue
        _unpin()
        code = _install(file, lines, companions)
        if code:
            return code
        with open(DONE, "a", encoding="ascii") as done:
            done.write(digest + "\n")
    _pin(PINNED)
    print("the venv sees Python", sys.version.split()[0], *_pins(PINNED))
    return 0


def _install(file: str, lines: list[str], companions: list[str]) -> int:
    if any("--hash=" in line for line in lines):
        return _pip("--no-deps", "--require-hashes", "-r", file)
    if not companions:
        outdated = _outdated(lines)
        if outdated:
            print("not of the image:", *outdated)
        names = _named(outdated)
        loose = {*names, *(TORCHES if names & set(TORCHES) else ())}
        _pin([name for name in PINNED if name not in loose])
        return _pip("-r", file)
    asked = [line for line in lines if not line.startswith("-")]
    missing = [line for line in asked if not _is_there(line)]
    if not missing:
        return 0
    print("not of the image:", *missing)
    names = _named(missing)
    _pin([name for name in PINNED if name not in names])
    return _pip(*(word for companion in companions for word in ("-c", companion)), *missing)


def asks_for(name: str, files: list[str]) -> bool:
    """Whether one of these files of requirements names the package."""
    return any(name in _named(_lines(file)) for file in files)


def _named(lines: list[str]) -> set[str]:
    """The packages that lines of requirements are about."""
    return {match[0].lower() for line in lines for match in [NAME.match(line)] if match}


def _outdated(lines: list[str]) -> list[str]:
    """Those lines about what is otherwise pinned that the image's version does not satisfy."""
    pinned = [line for line in lines if _named([line]) & set(PINNED)]
    return [line for line in pinned if not _is_there(line)]


def _lines(file: str) -> list[str]:
    """Its lines, joined where they go on, without comments."""
    joined = re.sub(r"\\\n", " ", _read(file))
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines()]
    return [line for line in lines if line]


def _is_there(line: str) -> bool:
    """Whether what the venv sees satisfies a requirement."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        syntax: Any = importlib.import_module("packaging.requirements")
    except ImportError:  # pip brings a copy; whatever pip there is is there once it was called
        subprocess.run([PIP, "--version"], stdout=subprocess.DEVNULL, check=True)
        syntax = importlib.import_module("pip._vendor.packaging.requirements")
    wanted = syntax.Requirement(line)
    if wanted.marker and not wanted.marker.evaluate():
        return True
    try:
        return bool(wanted.specifier.contains(version(wanted.name), prereleases=True))
    except PackageNotFoundError:
        return False


def _pip(*words: str) -> int:
    command = [PIP, "install", "--quiet", "--disable-pip-version-check", *words]
    return subprocess.run(command, check=False).returncode


def _pins(names: list[str] | tuple[str, ...]) -> list[str]:
    """name==version of those that the venv sees."""
    code = (
        "import sys\nfrom importlib.metadata import PackageNotFoundError, version\n"
        "for name in sys.argv[1:]:\n try: print(name + '==' + version(name))\n except PackageNotFoundError: pass"
    )
    return (
        subprocess.run([sys.executable, "-c", code, *names], stdout=subprocess.PIPE, check=True).stdout.decode().split()
    )


def _pin(names: list[str] | tuple[str, ...]) -> None:
    """Have pip keep what the venv sees of these."""
    with open(CONSTRAINTS, "w", encoding="ascii") as file:
        file.write("".join(pin + "\n" for pin in _pins(names)))
    with open(CONF, "w", encoding="utf-8") as file:
        file.write(f"[install]\nconstraint = {_uri(CONSTRAINTS)}\n")


def _unpin() -> None:
    if os.path.exists(CONF):
        os.unlink(CONF)


def _uri(path: str) -> str:
    from urllib.request import pathname2url

    return "file://" + pathname2url(path)


def _read(file: str) -> str:
    with open(file, encoding="utf-8") as opened:
        return opened.read()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
