"""Where things lie on the machine, and how a file is written so that nobody sees half of it."""

from __future__ import annotations

import io
import os
import stat
from typing import Any

from gpuplan_agent.wire import AgentError

SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
CREDENTIALS = ("KEY", "TOKEN", "SECRET", "PASSWORD")
# How an image tunes the hub's client: for speed at the price of half the memory, and with its caches on the volume.
HUB_TUNING = frozenset({
    "HF_XET_HIGH_PERFORMANCE", "HF_HUB_ENABLE_HF_TRANSFER", "HF_HOME", "HF_HUB_CACHE", "HF_XET_CACHE",
    "HF_ASSETS_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE",
})  # fmt: skip
LONGEST_NAME = 180  # most file systems allow 255 bytes; temporary names add to it


def home() -> str:
    """The machine's own folder, ~/.gpuplan, private to the user; made if missing."""
    folder = os.path.join(os.path.expanduser("~"), ".gpuplan")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return folder


def workspace(request: dict[str, Any]) -> str:
    """Absolute path of the workspace: the environment's if it names one, else the request's; made if missing."""
    folder = os.path.abspath(os.path.expanduser(os.environ.get("WORKSPACE") or request["workspace"]))
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise AgentError("no_workspace", f"the workspace {folder} cannot be made: {error}") from error
    return folder


def resolve(request: dict[str, Any], path: str) -> str:
    """An absolute path: relative ones are below the workspace."""
    return os.path.normpath(os.path.join(workspace(request), path))


def private(request: dict[str, Any], path: str) -> str:
    """Like resolve, but refuses whatever is not below the workspace's .gpuplan, links included."""
    root = os.path.join(workspace(request), ".gpuplan")
    full = resolve(request, path)
    real = os.path.join(os.path.realpath(os.path.dirname(full)), os.path.basename(full))
    if not real.startswith(os.path.realpath(root) + os.sep):
        raise AgentError("outside", f"{path} is not below {root}")
    return full


def file_name(text: str) -> str:
    """A file name for any text: other characters as %XX, a leading dot too; a long one ends in a hash."""
    name = "".join(
        chr(byte) if chr(byte) in SAFE and (at or byte != ord(".")) else f"%{byte:02X}"
        for at, byte in enumerate(text.encode("utf-8", "surrogateescape"))
    )
    if len(name) <= LONGEST_NAME:
        return name
    import hashlib

    return name[: LONGEST_NAME - 17] + "-" + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def write_atomic(path: str, data: bytes) -> None:
    """Replace a file whole, readable by the user only: after a crash it is the old one or the new one."""
    temporary = f"{path}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def open_regular(path: str) -> io.FileIO:
    """Open a file to be read. AgentError no_file: it is a pipe, a device or a folder, which nobody waits for."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise AgentError("no_file", f"{path} is no regular file")
    return io.FileIO(handle)


def remove(request: dict[str, Any], path: str) -> bool:
    """Remove a file or a folder below the workspace's .gpuplan; False: it was not there."""
    full = private(request, path)
    try:
        if os.path.isdir(full) and not os.path.islink(full):
            import shutil

            shutil.rmtree(full)
        else:
            os.unlink(full)
    except FileNotFoundError:
        return False
    return True


def machine_env(first: str = "/proc/1/environ") -> dict[str, str]:
    """Our environment, completed by what the machine's image has set and an SSH session does not see.

    That stands in ~/.gpuplan/environ where an image brings this file (NUL between the entries, as in /proc), else in
    the environment of a container's first process: its PATH, library folders and CUDA settings. The session's own
    values win, the image's PATH comes behind the session's, credentials are left where they are, and so is HUB_TUNING.
    A machine whose first process is an init has nothing to add.
    """
    env = dict(os.environ)
    brought = os.path.join(home(), "environ")
    if not os.path.exists(brought) and os.path.isdir("/run/systemd/system"):
        return env
    try:
        with open(brought if os.path.exists(brought) else first, "rb") as file:
            entries = [entry.partition("=") for entry in os.fsdecode(file.read()).split("\0")]
    except OSError:  # another user's
        return env
    image = {
        name: text
        for name, _, text in entries
        if name and name not in HUB_TUNING and not any(word in name for word in CREDENTIALS)
    }
    ours = env.get("PATH", os.defpath).split(os.pathsep)
    more = [folder for folder in image.pop("PATH", "").split(os.pathsep) if folder and folder not in ours]
    return {**image, **env, "PATH": os.pathsep.join([*ours, *more])}


def caches() -> dict[str, str]:
    """Where compilers keep what they made: on this machine's own disk; what lies on a volume is run elsewhere too."""
    folder = os.path.join(home(), "cache")
    return {
        "NUMBA_CACHE_DIR": os.path.join(folder, "numba"),
        "TRITON_CACHE_DIR": os.path.join(folder, "triton"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def search_path(rest: str = "") -> str:
    """PATH for everything that runs here: our venv, then `rest` (the machine's)."""
    return os.pathsep.join([os.path.join(home(), "venv", "bin"), rest or machine_env().get("PATH", os.defpath)])
