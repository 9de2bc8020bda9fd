"""The code blocks of the project's pages: which there are, and what becomes of each of them."""

from __future__ import annotations

import re
import tempfile
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.unit import block_readers as readers

PROJECT = Path(__file__).resolve().parents[2]
MARK = re.compile(r"\s*<!-- not run: (\S.{7,}\S) -->")
FENCE = re.compile(r"( *)(`{3,}|~{3,})(\S*)\s*$")
TITLE = re.compile(r"# ([\w.-]+(?:/[\w.-]+)*\.\w+)\n")  # a block that begins so is that file of its section's plan


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, what it says to be, and below which heading it stands."""

    page: str
    line: int
    kind: str
    text: str
    reason: str
    section: str

    @property
    def where(self) -> str:
        """For a message."""
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str:
        """The file of a plan that it is; "": none."""
        found = TITLE.match(self.text)
        return found[1] if found and not self.reason else ""


def pages(project: Path = PROJECT) -> list[Path]:
    """Every page with blocks that somebody might type."""
    top = [
        project / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "ARCHITECTURE.md", "CHANGELOG.md")
    ]
    return [*(page for page in top if page.exists()), *sorted((project / "docs").rglob("*.md"))]


def blocks(page: Path, project: Path = PROJECT) -> Iterator[Block]:
    """The blocks of a page. ValueError: one has no end."""
    name, section, before = page.relative_to(project).as_posix(), "", ""
    lines = page.read_text().splitlines()
    at = 0
    while at < len(lines):
        fence, heading = FENCE.match(lines[at]), re.match(r"#+ (.+)", lines[at])
        if heading:
            section = heading[1]
        if not fence:
            before, at = lines[at], at + 1
            continue
        end = next((n for n in range(at + 1, len(lines)) if lines[n].strip() == fence[2]), None)
        if end is None:
            raise ValueError(f"{name}:{at + 1}: a block without an end")
        mark = MARK.fullmatch(before)
        text = textwrap.dedent("\n".join(lines[at + 1 : end]) + "\n")
        yield Block(name, at + 1, fence[3], text, mark[1] if mark else "", section)
        before, at = lines[end], end + 1


def become(found: Iterable[Block]) -> tuple[Counter[str], list[str]]:
    """How many blocks were `run`, `read` and `marked`, and what is wrong with others, each with its place."""
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    plans: dict[tuple[str, str], list[Block]] = {}
    for block in found:
        if block.reason:
            counts["marked"] += 1
        elif block.file:
            plans.setdefault((block.page, block.section), []).append(block)
        else:
            try:
                counts[_read(block)] += 1
            except readers.Unread as error:
                wrong.append(f"{block.where}: {error}")
    for plan in plans.values():
        try:
            _read_plan(plan)
            counts["read"] += len(plan)
        except readers.Unread as error:
            wrong.append(f"{plan[0].where}: {error}")
    return counts, wrong


def _read(block: Block) -> str:
    """What becomes of a block that is no file of a plan."""
    if block.kind == "sh":
        return "run" if readers.shell(block.text) else "read"
    if block.kind not in readers.READERS:
        raise readers.Unread(
            f"nothing here reads {block.kind or 'a block of no kind'}: <!-- not run: WHY --> before it"
        )
    readers.READERS[block.kind](block.text)
    return "read"


def _read_plan(files: list[Block]) -> None:
    """Files that stand in one section are one plan: read as `gpuplan validate` reads it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "plan"
        for block in files:
            readers.one_file(block.file, block.text)
            target = folder / block.file
            if target.exists():
                raise readers.Unread(f"{block.file} is there twice in this section")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text)
        readers.plan(folder)
