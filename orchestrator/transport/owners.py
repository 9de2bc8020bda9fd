"""Who rents, as a file: the eight letters in every name, and the SSH key that opens the machines."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from orchestrator.transport.keys import NAME, ensure_key_pair, key_file
from orchestrator.words.errors import UsageError

OWNER = re.compile(r"[a-z0-9]{8}")


def write(file: Path, home: Path, owner: str) -> None:
    """Write it, for its owner's eyes only. UsageError: there is such a file, or it cannot be written."""
    ensure_key_pair(home)
    text = json.dumps({"owner": owner, "key": key_file(home).read_text()})
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}", remedy="name a new file") from error
    with os.fdopen(handle, "w") as out:
        out.write(text + "\n")


def read(file: Path, home: Path) -> str:
    """Be who the file says, in this home; return the owner. UsageError: it is not private, or this home is another's.

    A key that no owner has used is nobody's loss.
    """
    owner, key = _content(file)
    mine, there = home / "owner", key_file(home)
    is_mine = mine.exists() and mine.read_text().strip() == owner
    if mine.exists() and not is_mine:
        raise UsageError(
            f"this GPUPLAN_HOME is of another owner ({mine.read_text().strip()}), whose machines only its key opens",
            remedy="GPUPLAN_HOME=DIR gpuplan owner import FILE makes another home",
        )
    if is_mine and there.exists() and there.read_text() != key:
        raise UsageError(f"{there} is another key of the same owner", remedy="put it aside, if nothing runs with it")
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = home / f"{NAME}.import"
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(key)
    new.rename(there)
    (home / f"{NAME}.pub").unlink(missing_ok=True)
    ensure_key_pair(home)
    mine.write_text(owner)
    return owner


def _content(file: Path) -> tuple[str, str]:
    """Owner and key. UsageError: others can read the file, or it is no such file."""
    from cryptography.hazmat.primitives import serialization

    try:
        if file.stat().st_mode & 0o077:
            raise UsageError(f"others can read {file}, and it holds a private key", remedy=f"chmod 600 {file}")
        found = json.loads(file.read_text())
        owner, key = str(found["owner"]), str(found["key"])
        serialization.load_ssh_private_key(key.encode(), password=None)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} is no file of gpuplan owner export", remedy="write it anew there") from error
    if not OWNER.fullmatch(owner):
        raise UsageError(f"{file} names no owner", remedy="write it anew there")
    return owner, key
