"""A terminal that a program types into: bash in a tmux of its own, seen as a person would see it."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

PROMPT = "$ "


@dataclass(frozen=True)
class Terminal:
    """One screen; `socket` is where its tmux listens. Ends with the `with` block, and all that runs in it."""

    socket: Path

    @classmethod
    def open(cls, socket: Path, folder: Path, env: Mapping[str, str], *, columns: int = 100, rows: int = 40) -> Self:
        """Begin with a prompt in `folder`; what of `env` is not in this process's environment is added to it."""
        opened = cls(socket)
        outer = {name: value for name, value in os.environ.items() if not name.startswith(("TMUX", "CI"))}
        size = ("-x", str(columns), "-y", str(rows))
        shell = ("bash", "--norc", "--noprofile")
        words = ("-f", "/dev/null", "new-session", "-d", *size, "-c", str(folder), *shell)
        opened._tmux(*words, env=outer | {"PS1": PROMPT, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"} | dict(env))
        opened._tmux("set-option", "-g", "history-limit", "5000")
        return opened

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["tmux", "-S", self.socket, "kill-server"], check=False, capture_output=True)

    def type(self, text: str) -> None:
        """Type a line, and Enter."""
        self._tmux("send-keys", "-l", text)
        self._tmux("send-keys", "Enter")

    def text(self, *, colours: bool = False) -> str:
        """What has been written so far, the lines that have scrolled away too, each as long as it was written."""
        said = self._tmux("capture-pane", "-p", "-J", "-S", "-5000", *(["-e"] if colours else []))
        return "\n".join(line.rstrip() for line in said.rstrip().splitlines())

    def wait(self, pattern: str, seconds: float = 60, *, after: int = 0) -> str:
        """Wait until what was written from its `after`th character on has the pattern; return all of that.

        AssertionError: it did not come.
        """
        deadline = time.monotonic() + seconds
        while not re.search(pattern, said := self.text()[after:], re.MULTILINE):
            assert time.monotonic() < deadline, f"{pattern!r} did not come within {seconds} s:\n{said}"
            time.sleep(0.1)
        return said

    def command(self, line: str, seconds: float = 60) -> str:
        """Type a line and wait for the next prompt; return what the command has written."""
        before = len(self.text())
        self.type(line)
        said = self.wait(rf"\n{re.escape(PROMPT.rstrip())}\Z", seconds, after=before)
        return said.partition("\n")[2].rpartition("\n")[0]

    def _tmux(self, *words: str, env: Mapping[str, str] | None = None) -> str:
        done = subprocess.run(["tmux", "-S", self.socket, *words], check=True, capture_output=True, text=True, env=env)
        return done.stdout


def lines_of(readme: str) -> list[str]:
    """The commands of the README's block that begins a plan of one's own, as they are typed."""
    found = re.search(r"^```sh\n(mkdir .*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert found, "the README has no block that begins with mkdir"
    return found[1].splitlines()
