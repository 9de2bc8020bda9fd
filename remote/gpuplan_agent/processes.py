"""Starting a process of our own session, and ending all that came of it."""

from __future__ import annotations

import os
import signal
import sys
from typing import Callable

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent ends (Linux), so that none gets away."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def role_command(role: str) -> list[str]:
    """The argument list that runs this agent in another role; arguments may follow."""
    return [sys.executable, "-E", "-s", "-S", "-X", "utf8", os.path.abspath(sys.argv[0]), role]


def detach(body: Callable[[], None], errors: str) -> int:
    """Run `body` in a forked process of its own session; what it says on stderr goes to the file `errors`."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(0, 1)
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        body()
        status = 0
    except BaseException:  # noqa: BLE001 - nobody else would ever hear of it
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def spawn(argv: list[str], env: dict[str, str], cwd: str, output: int, errors: int | None = None) -> int:
    """Start a program in a session of its own; exit 127 says that it is not there.

    `output` gets its standard output, and its errors too unless they have a pipe of their own.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output if errors is None else errors, 2)
        for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)  # Python ignores SIGPIPE, and an ignored signal survives exec
        os.chdir(cwd)
        os.execvpe(argv[0], argv, env)  # noqa: S606 - the shell is one of the arguments
    except OSError as error:
        os.write(2, f"{argv[0]}: {error}\n".encode())
    finally:
        os._exit(127)


def parents() -> dict[int, int]:
    """Parent of every process that is not a zombie."""
    if not os.path.isdir("/proc/self"):
        return _parents_by_ps()
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                fields = file.read().rpartition(b") ")[2].split()
        except OSError:
            continue
        if fields[0] not in (b"Z", b"X"):
            found[int(entry)] = int(fields[1])
    return found


def _parents_by_ps() -> dict[int, int]:
    found = {}
    import subprocess

    listing = subprocess.run(["ps", "-axo", "pid=,ppid=,state="], stdout=subprocess.PIPE, check=False).stdout.decode()
    for line in listing.splitlines():
        pid, parent, state = line.split()[:3]
        if not state.startswith("Z"):
            found[int(pid)] = int(parent)
    return found


def descendants(root: int) -> set[int]:
    """Every living process below `root`, without itself."""
    table = parents()
    found: set[int] = set()
    grown = {pid for pid, parent in table.items() if parent == root}
    while grown:
        found |= grown
        grown = {pid for pid, parent in table.items() if parent in grown} - found
    return found - {os.getpid()}


def carriers(variable: bytes) -> set[int]:
    """Every other living process that began with this NAME=VALUE in its environment, in any session (Linux)."""
    found = set()
    for entry in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as file:
                if variable in file.read().split(b"\0"):
                    found.add(int(entry))
        except OSError:
            continue
    return found


def send(pids: set[int], number: int) -> None:
    """Send a signal to each process that is still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def send_session(leader: int, number: int) -> None:
    """Send a signal to a session leader's process group."""
    try:
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):
        return


def started_at(pid: int) -> int:
    """When a process began, in the kernel's own count: tells it from a later one of the same id. 0: not known."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b") ")[2].split()[19])
    except OSError:
        return 0


def boot_id() -> str:
    """Differs after a reboot, and after a restart of the container (process 1 began at another time).

    An emulated machine, which shares its kernel with others, says it in its environment.
    """
    emulated = os.environ.get("GPUPLAN_BOOT_ID")
    if emulated:
        return emulated
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()}:{started_at(1)}"
    except OSError:
        return ""
