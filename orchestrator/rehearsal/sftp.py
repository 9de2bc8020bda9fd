"""SFTP on an emulated machine: `/workspace` and relative paths mean the machine's own workspace."""

from __future__ import annotations

import os
from pathlib import Path

import asyncssh

MOUNT = b"/workspace"  # where the vendors' machines have it


class WorkspaceSftp(asyncssh.SFTPServer):  # type: ignore[misc]  # mypy skips asyncssh, so its classes are Any
    """asyncssh's server with paths that agree with what commands see, and an exit status as sshd sends it."""

    def __init__(self, channel: asyncssh.SSHServerChannel, workspace: Path) -> None:
        super().__init__(channel)
        self._channel = channel
        self._workspace = os.fsencode(workspace)

    def map_path(self, path: bytes) -> bytes:
        """Return the path on this computer's disk."""
        if path == MOUNT or path.startswith(MOUNT + b"/"):
            path = path[len(MOUNT) + 1 :]
        return os.path.normpath(os.path.join(self._workspace, path))  # noqa: PTH118 - bytes have no Path

    def exit(self) -> None:
        """Send exit status 0: without one, scp of OpenSSH 9 copies everything and then fails."""
        try:
            self._channel.exit(0)
        except OSError:
            return  # the client has gone first
