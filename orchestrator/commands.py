"""Every command that gpuplan runs on a machine or beside it, as data. Pure: nothing is run here.

Quoting and masking are decided where a value enters: a plain word is quoted, a Secret is quoted and shown as ***, and
only what is marked as Shell is left for the remote shell to expand.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from orchestrator.ports import Address
from orchestrator.secret import Secret

NO_FILE = 44  # exit code of `fetch`: there is no such file
NO_AGENT = 97  # exit code of `call_agent`: it has to be installed first


@dataclass(frozen=True, slots=True)
class Shell:
    """Text that the remote shell is to see as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """A command as shell text; printed, it shows no secret."""

    text: str
    shown: str

    def __str__(self) -> str:
        return self.shown

    def __repr__(self) -> str:
        return f"Command({self.shown!r})"


def command(*words: str | Secret | Shell) -> Command:
    """Join words to one simple command."""
    return Command(" ".join(_text(word) for word in words), " ".join(_shown(word) for word in words))


def chain(*commands: Command) -> Command:
    """Commands that run one after the other for as long as each succeeds."""
    return Command(" && ".join(c.text for c in commands), " && ".join(c.shown for c in commands))


def _text(word: str | Secret | Shell) -> str:
    if isinstance(word, Shell):
        return word.text
    return shlex.quote(word.reveal() if isinstance(word, Secret) else word)


def _shown(word: str | Secret | Shell) -> str:
    return str(word) if isinstance(word, Secret) else _text(word)


_NO_PYTHON = 'echo "there is no Python on this machine" >&2; exit 127'
_FIND_PYTHON = f'python="$(command -v python3 || command -v python)" || {{ {_NO_PYTHON}; }}'
_AGENT_PARENT = '"$HOME"/.gpuplan'


def _agent_folder(digest: str) -> str:
    return f"{_AGENT_PARENT}/agent-{digest}"


def call_agent(digest: str) -> Command:
    """Run the agent of that hash, its request on standard input. Exit code NO_AGENT: it is not installed."""
    folder = _agent_folder(digest)
    there = f"[ -e {folder}/__main__.py ] || exit {NO_AGENT}"
    return command(Shell(f'{there}; {_FIND_PYTHON}; exec "$python" -I -S -X utf8 {folder}'))


def install_agent(digest: str) -> Command:
    """Unpack the agent's tar from standard input. Whole or not at all; one that is there is left alone."""
    folder = _agent_folder(digest)
    there = f"if [ -e {folder}/__main__.py ]; then cat >/dev/null; exit 0; fi"
    return command(Shell(f"{there}; umask 077; {_unpack(_AGENT_PARENT, folder)}"))


def unpack_payload(folder: str) -> Command:
    """Unpack the payload's tar from standard input as `folder` (absolute), whole or not at all."""
    return command(Shell(_unpack(shlex.quote(str(Path(folder).parent)), shlex.quote(folder))))


def _unpack(parent: str, target: str) -> str:
    """Shell text; both are quoted already. The rename, unlike mv's, never moves into a folder that is there."""
    rename = (
        '"$python" -c \'import os, shutil, sys\ntry: os.rename(*sys.argv[1:])\n'
        "except OSError:\n shutil.rmtree(sys.argv[1])\n if not os.path.isdir(sys.argv[2]): raise'"
    )
    unpack = 'tar xf - -C "$new" || { rm -rf "$new"; exit 1; }'
    prepare = f'set -e; {_FIND_PYTHON}; mkdir -p {parent}; cd {parent}; new="$(mktemp -d ./new.XXXXXX)"'
    return f'{prepare}; {unpack}; {rename} "$new" {target}'


def fetch(path: str, offset: int) -> Command:
    """The bytes of a regular file from `offset` on. Exit code NO_FILE: there is none."""
    quoted = shlex.quote(path if path.startswith("/") else f"./{path}")
    return command(Shell(f"[ -f {quoted} ] || exit {NO_FILE}; exec tail -c +{offset + 1} {quoted}"))


def ssh_argv(address: Address, key_file: Path, known_hosts: Path, *remote: str, tty: bool = False) -> list[str]:
    """The argument list of the user's own ssh into a machine; `remote` is shell text to run there (none: a shell)."""
    options = ["-o", f"UserKnownHostsFile={known_hosts}", "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes"]
    words = ["ssh", *options, "-i", str(key_file), "-p", str(address.port), *(["-t"] if tty else [])]
    return [*words, "--", f"{address.user}@{address.host}", *remote]
