"""df of an emulated machine whose disk is to show another size than this computer's; else this computer's own."""

from __future__ import annotations

import os
import shutil
import sys

from orchestrator.rehearsal.standins.machine import this_machine

SYSTEM_PATH = "/usr/bin:/bin"
NOT_FOUND = 127  # the shell's


def main(arguments: list[str]) -> int:
    """Print one file system, empty and of that size, in blocks of 1 KiB whatever was asked for (as `df -kP`)."""
    size = this_machine().disk_kib
    if size is None:
        real = shutil.which("df", path=SYSTEM_PATH)
        if real is None:
            return NOT_FOUND
        os.execv(real, ["df", *arguments])  # noqa: S606  this program becomes it
    print("Filesystem 1024-blocks Used Available Capacity Mounted on")  # noqa: T201 - a command line
    print(f"rehearsal {size} 0 {size} 0% {arguments[-1] if arguments else '/'}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
