"""The plan's code: frozen into a run's folder, and laid byte for byte on the own disk of every machine."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from orchestrator.transport import bundle, commands
from orchestrator.transport.agent import Agent
from orchestrator.transport.code_folder import CodeFile
from orchestrator.words.errors import StepFailed, UsageError

SEND_S = 600.0
HASH_CHARS = 32


@dataclass(frozen=True)
class Code:
    """What a run sends to its machines: the files of `folder`, a copy of the run's own. One that is not there: nothing.

    Names, contents and whether a file can be run count; times and owners do not.
    """

    folder: Path

    @staticmethod
    def freeze(found: Iterable[CodeFile], into: Path) -> Code:
        """Copy these files, so that a run that is resumed later sends the same."""
        for entry in found:
            target = into / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(entry.file, target)
        return Code(into)

    @cached_property
    def content(self) -> list[CodeFile]:
        """What there is, sorted by path."""
        found = self.folder.rglob("*") if self.folder.is_dir() else ()
        files = {path.relative_to(self.folder).as_posix(): path for path in found if path.is_file()}
        return [CodeFile(name, file, file.stat().st_size) for name, file in sorted(files.items())]

    @cached_property
    def files(self) -> dict[str, str]:
        """Path -> sha256, as the plan's `uses` and done-records mean it."""
        return {entry.path: bundle.sha256_of(entry.file) for entry in self.content}

    @cached_property
    def hash(self) -> str:
        """The name of this very content; "": there is nothing to send. The agent computes the same from what it has."""
        lines = [
            f"{self.files[entry.path]} {'x' if bundle.can_be_run(entry.file) else '-'} {entry.path}\n"
            for entry in self.content
        ]
        return hashlib.sha256("".join(lines).encode()).hexdigest()[:HASH_CHARS] if lines else ""

    def require(self, names: Iterable[str]) -> None:
        """UsageError unless each of these files is among it."""
        for name in names:
            if name not in self.files:
                raise UsageError(f"the code has no {name}", remedy="requirements: names files of the code")

    @property
    def bytes(self) -> int:
        """The size of all files together."""
        return sum(entry.bytes for entry in self.content)

    def push(self, agent: Agent, *, kept: bool, sent: Callable[[int], None] = lambda _bytes: None) -> str:
        """Bring exactly these files to the machine's own disk, and return their folder there.

        `kept`: one that is there is left as it is, whatever `setup` has made of it; `sent`: see engine.context.Code.
        """
        if not (found := agent.code(self.hash, kept=kept)):
            chunks = _counted(bundle.stream({entry.path: entry.file for entry in self.content}), sent)
            result = agent.transport.send(commands.unpack_code(self.hash).text, chunks, timeout_s=SEND_S)
            found = "" if result.exit else agent.code(self.hash, kept=False)
            if not found:
                said = result.stderr.decode("utf-8", "replace").strip() or "what arrived is not what was sent"
                raise StepFailed(f"the code cannot be put on the machine: {said}")
        return found


def _counted(chunks: Iterator[bytes], sent: Callable[[int], None]) -> Iterator[bytes]:
    """The same chunks; `sent` hears of the bytes before each."""
    count = 0
    for chunk in chunks:
        sent(count)
        yield chunk
        count += len(chunk)
