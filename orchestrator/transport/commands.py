"""Every command that gpuplan runs on a machine or beside it, as data. Pure: nothing is run here.

Quoting and masking are decided where a value enters: a plain word is quoted, a Secret is quoted and shown as ***, and
only what is marked as Shell is left for the remote shell to expand.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.words.errors import ConnectionLost
from orchestrator.words.provider import Address
from orchestrator.words.secret import Secret

NO_FILE = 44  # exit code of `fetch`: there is no such file
NO_JUPYTER = 98  # exit code of `serve_jupyter`
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


def _text(word: str | Secret | Shell) -> str:
    if isinstance(word, Shell):
        return word.text
    return shlex.quote(word.reveal() if isinstance(word, Secret) else word)


def _shown(word: str | Secret | Shell) -> str:
    return str(word) if isinstance(word, Secret) else _text(word)


_NO_PYTHON = 'echo "there is no Python on this machine" >&2; exit 127'
_FIND_PYTHON = f'python="$(command -v python3 || command -v python)" || {{ {_NO_PYTHON}; }}'
_AGENTS = '"$HOME"/.gpuplan'


def _agent_folder(digest: str) -> str:
    return f"{_AGENTS}/agent-{digest}"


def call_agent(digest: str, *words: str) -> Command:
    """Run the agent of that hash, its request on standard input. Exit code NO_AGENT: it is not installed.

    `words`: what it is to do instead; `standing`: to take any number of requests.
    """
    folder = _agent_folder(digest)
    there = f"[ -e {folder}/__main__.py ] || exit {NO_AGENT}"
    return command(Shell(f'{there}; {_FIND_PYTHON}; exec "$python" -I -S -X utf8 {folder}'), *words)


def install_agent(digest: str) -> Command:
    """Unpack the agent's tar from standard input. Whole or not at all; one that is there is left alone."""
    folder = _agent_folder(digest)
    there = f"if [ -e {folder}/__main__.py ]; then cat >/dev/null; exit 0; fi"
    return command(Shell(f"{there}; umask 077; {_unpack(Shell(_AGENTS), Shell(folder))}"))


def unpack_code(digest: str) -> Command:
    """Unpack the code's tar from standard input into the machine's own folder for it, whole or not at all."""
    return command(Shell(_unpack(Shell(f"{_AGENTS}/code"), Shell(f"{_AGENTS}/code/{digest}"))))


_RENAME = """
import os, shutil, sys
try:
    os.rename(*sys.argv[1:])
except OSError:
    shutil.rmtree(sys.argv[1])
    if not os.path.isdir(sys.argv[2]):
        raise
"""


def _unpack(parent: str | Shell, target: str | Shell) -> str:
    """Shell text that unpacks standard input beside `target` and renames it.

    Unlike mv's, the rename never moves into a folder that is there: then somebody else was quicker, and whole too.
    """
    new = Shell('"$new"')
    unpack = f"{command('tar', 'xf', '-', '-C', new).text} || {{ {command('rm', '-rf', new).text}; exit 1; }}"
    rename = command(Shell('"$python"'), "-I", "-S", "-c", _RENAME, new, target).text
    prepare = f"set -e; {_FIND_PYTHON}; {command('mkdir', '-p', parent).text}; {command('cd', parent).text}"
    return f'{prepare}; new="$(mktemp -d ./new.XXXXXX)"; {unpack}; {rename}'


def fetch(path: str, offset: int, most: int | None = None) -> Command:
    """The bytes of a regular file from `offset` on, `most` of them. Exit code NO_FILE: there is none."""
    file = path if path.startswith("/") else f"./{path}"
    there = command("test", "-f", file)
    cut: list[str | Shell] = [] if most is None else [Shell("|"), "head", "-c", str(most)]
    return command(Shell(f"{there.text} || exit {NO_FILE};"), "tail", "-c", f"+{offset + 1}", file, *cut)


def require_fetched(path: str, code: int) -> None:
    """FileNotFoundError, ConnectionLost: what the exit code of `fetch` says."""
    if code == NO_FILE:
        raise FileNotFoundError(path)
    if code:
        raise ConnectionLost(f"reading {path} on the machine ended with {code}")


def lay_code() -> Command:
    """Copy the code, which the job's environment names, over the folder that the job runs in, and say so."""
    copied = command("cp", "-R", Shell('"$GPUPLAN_CODE/."'), ".")
    return command(Shell(f'{copied.text} && echo "code $GPUPLAN_CODE_HASH laid over $PWD"'))


def copy(source: str, target: str, said: str) -> Command:
    """Copy one file, and say that."""
    return command(Shell(f"{command('cp', '--', source, target).text} && {command('echo', said).text}"))


def listens(port: int) -> Command:
    """Exit code 0: something on the machine listens on that TCP port. Nobody is dialled: a worker takes one caller.

    Where the kernel does not show who listens (macOS), there is no way but to dial.
    """
    waiting = f"awk '$4 == \"0A\" {{print $2}}' | grep -q ':{port:04X}$'"
    table = f"cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | {waiting}"
    dial = f"(exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null"
    return command("bash", "-c", f"if [ -r /proc/net/tcp ]; then {table}; else {dial}; fi")


def serve_jupyter() -> Command:
    """Serve Jupyter's lab, or where there is none its notebook, on the machine's own loopback, at a free port.

    The token that lets in is in the environment, as JUPYTER_TOKEN. Exit code NO_JUPYTER: it is not installed.
    """
    there = f"command -v jupyter >/dev/null || exit {NO_JUPYTER}"
    kind = "kind=notebook; if jupyter lab --version >/dev/null 2>&1; then kind=lab; fi"
    options = "--no-browser --allow-root --ip=127.0.0.1 --port=8888 --port-retries=50"
    return command(Shell(f'{there}; {kind}; exec jupyter "$kind" {options}'))


def known_hosts(address: Address, host_key: str) -> str:
    """The text of a known_hosts file in which the address has that one key, TYPE BASE64."""
    return f"[{address.host}]:{address.port} {host_key}\n{address.host} {host_key}\n"


def ssh_argv(
    address: Address,
    key_file: Path,
    known: Path,
    *remote: str,
    tty: bool = False,
    forward: Sequence[str] = (),
    agent: bool = False,
    settings: Sequence[str] = (),
) -> list[str]:
    """The argument list of the user's own ssh into a machine; `remote` is shell text to run there (none: a shell).

    `forward` are ssh's own -L words, PORT:HOST:PORT: ports here that lead to what the machine reaches. `agent`: the
    machine may use the user's keys. Nothing else is forwarded or sent, whatever the user's own settings of ssh say.
    """
    file = f'UserKnownHostsFile="{known}"'  # ssh reads a list of files there, split at spaces
    said = [file, "GlobalKnownHostsFile=none", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes", *settings]
    options = ["-F", "none", *(word for setting in said for word in ("-o", setting))]
    words = ["ssh", *options, "-A" if agent else "-a", "-x"]
    words += ["-i", str(key_file), "-p", str(address.port), *(["-t"] if tty else [])]
    words += [word for local in forward for word in ("-L", local)]
    return [*words, "--", f"{address.user}@{address.host}", *remote]
