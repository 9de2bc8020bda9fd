"""Confining an emulated machine: its processes see its own folder and the system's, and no other process.

By Landlock, which any process of Linux 5.19 or newer may lay on itself and its children, in containers too. What is
not below the folders that are named cannot be opened; processes outside can neither be looked into (their environment,
memory, files) nor, since Linux 6.12, be sent a signal. The network is as it was. Standard library only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Iterable, Sequence

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # system calls, the same number on every architecture
_VERSION = 1  # flag: say which version there is
_PATH_BENEATH = 1
_NO_NEW_PRIVILEGES, _DROP = 38, 24
_OF_ROOT = (19, 21, 38, 39)  # CAP_SYS_PTRACE, SYS_ADMIN, PERFMON, BPF
OLDEST = 2  # the first version that lets files be renamed from folder to folder
_EXECUTE, _WRITE, _READ, _READ_DIR, _TRUNCATE, _IOCTL = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
_ALL = {2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_OF_FILES = _EXECUTE | _WRITE | _READ | _TRUNCATE | _IOCTL  # all that a rule for one file may say
_SIGNALS = 1 << 1  # scope: none to processes outside
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/opt", "/nix/store", "/proc", "/sys")
RESOLVER = "/run/systemd/resolve"  # where /etc/resolv.conf may point


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scope", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def version() -> int:
    """Which version of Landlock this system has; 0: none that confines."""
    if not sys.platform.startswith("linux"):
        return 0
    found = int(_libc().syscall(_CREATE, None, ctypes.c_size_t(0), _VERSION))
    return found if found >= OLDEST else 0


def how() -> str:
    """What a rehearsal's steps are kept from on this system, in words for whoever starts one."""
    if not version():
        return "NOT confined: this system has no Landlock (Linux 5.19 or newer), so they can do what you can"
    return (
        "confined: of your files they see the rehearsal's own only, and none of your processes; your network they have"
    )


def confine(writes: Iterable[str], reads: Iterable[str]) -> None:
    """Lay it on this process and all that it starts, for good; nothing happens where the system has none.

    `writes`: folders in which everything may be done; `reads`: folders and files that may be read and run.
    OSError: it is there and does not work.
    """
    if not (abi := version()):
        return
    for capability in _OF_ROOT:  # by which root looks into processes all the same; others have none
        _libc().prctl(_DROP, capability, 0, 0, 0)
    everything = _ALL[min(abi, max(_ALL))]
    facts = _Ruleset(everything, 0, _SIGNALS if abi >= 6 else 0)
    ruleset = _call(_CREATE, ctypes.byref(facts), ctypes.c_size_t(24 if abi >= 6 else 16 if abi >= 4 else 8), 0)
    try:
        for path in ("/dev/shm", *writes):  # noqa: S108  shared memory is made there
            _allow(ruleset, path, everything)
        for path in ("/dev", "/proc"):  # devices are written to, and what a process tells of itself
            _allow(ruleset, path, everything & (_OF_FILES | _READ_DIR) & ~_EXECUTE)
        for path in (*SYSTEM, RESOLVER, *reads):
            _allow(ruleset, path, _EXECUTE | _READ | _READ_DIR)
        if _libc().prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
        _call(_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def python_places(root: str, path: Sequence[str] = tuple(sys.path)) -> list[str]:
    """What the interpreter that runs here needs to read, with everything that is installed for it."""
    found = [root, sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.realpath(sys.executable), *path]
    return sorted({place for place in found if place.startswith("/")})


def _allow(ruleset: int, path: str, access: int) -> None:
    if sys.platform != "linux":  # nor is there Landlock then, nor O_PATH
        return
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EACCES, errno.ENOTDIR):
            return  # not on this system
        raise
    try:
        if not os.path.isdir(path):  # noqa: PTH112  one import less in every machine's first process
            access &= _OF_FILES
        rule = _Beneath(access, place)
        _call(_ADD, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(place)


def _call(number: int, *arguments: object) -> int:
    found = int(_libc().syscall(number, *arguments))
    if found < 0:
        raise OSError(ctypes.get_errno(), "Landlock")
    return found


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
