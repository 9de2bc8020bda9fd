"""The documentation beside the code that it speaks of: commands, exit codes, keys of phase files, links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel
from typer.core import TyperGroup

from orchestrator.words import model
from orchestrator.words.errors import ExitCode

PROJECT = Path(__file__).resolve().parents[2]
README = (PROJECT / "README.md").read_text()
PHASE_FILES = (PROJECT / "docs/phase-files.md").read_text()
PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")])

KEYS: dict[str, type[BaseModel]] = {
    "Phase": model.Phase,
    "`machine`": model.MachineNeed,
    "`volume`": model.VolumeNeed,
    "`planned`": model.Planned,
    "`inputs`": model.Input,
    "Step": model.Step,
    "`ready`: services": model.Ready,
    "`hub`: a checked download": model.HubCheckout,
    "Deliverable": model.Deliverable,
    "Settings": model.Settings,
    "`rates`": model.Rates,
    "`defaults`": model.Defaults,
}


def section(page: str, title: str) -> str:
    """The text below a heading, up to the next heading of any level."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section {title!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of a section's tables, without heads and rules."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row, after in zip(cells, [*cells[1:], [""]], strict=True) if not (_rule(row) or _rule(after))]


def _rule(row: list[str]) -> bool:
    return all(re.fullmatch(r":?-+:?", cell) for cell in row)


def without_code(text: str) -> str:
    """A page without what stands in code blocks and code spans."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(page: Path) -> set[str]:
    """The fragments that a page's headings can be linked by."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def tool() -> TyperGroup:
    """The application with its commands."""
    from orchestrator.cli.app import application

    command = typer.main.get_command(application())
    assert isinstance(command, TyperGroup)
    return command


def test_the_commands_are_those_of_the_tool():
    """The README lists every command of the application with the first line of its help, and no other."""
    group = tool()
    commands = {name: (command.help or "").split("\n\n")[0].strip() for name, command in group.commands.items()}
    listed = {row[0].strip("`"): row[1] for row in rows(section(README, "Commands"))}
    assert commands == listed
    assert list(listed) == group.list_commands(typer.Context(group)), "in the order of the help"


def test_what_is_said_to_be_missing_is_missing():
    """A command that has come is no longer listed among those that are not there yet."""
    line = re.search(r"\*\*Commands:\*\*(.*)", section(README, "What is not there yet"))
    assert line
    absent = set(re.findall(r"`([a-z]+)`", line[1]))
    assert absent
    assert absent & set(tool().commands) == set()


def test_every_exit_code_is_named():
    """The README's table has each exit code with its number and its name in the code, in order."""
    listed = [(int(row[0]), row[1].strip("`")) for row in rows(section(README, "Exit codes"))]
    assert [(int(code), code.name) for code in ExitCode] == listed


@pytest.mark.parametrize("title", KEYS)
def test_every_key_of_a_phase_file_is_explained(title: str):
    """The reference has one row for each key of each table, and none for a key that does not exist."""
    listed = [row[0].strip("`") for row in rows(section(PHASE_FILES, title))]
    assert sorted(field.alias or name for name, field in KEYS[title].model_fields.items()) == sorted(listed)


def test_every_gpu_name_is_listed():
    """The reference names every GPU that a phase file may ask for."""
    line = next(line for line in PHASE_FILES.splitlines() if line.startswith("GPU names:"))
    assert set(model.GPU_MEMORY_GB) == set(re.findall(r"`([^`]+)`", line))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())
def test_relative_links_lead_somewhere(page: Path):
    """Every link to a file of the project names one that is there, and a fragment one of its headings."""
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, fragment = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name} links to {target}, which is not there"
        assert file.is_relative_to(PROJECT), f"{page.name} links out of the project: {target}"
        assert not fragment or fragment in anchors(file), f"{file.name} has no heading for #{fragment}"


def test_every_decision_is_in_their_list():
    """Each page in docs/decisions is linked from the list there."""
    folder = PROJECT / "docs/decisions"
    listed = set(re.findall(r"\]\((\d{4}-[^)]+)\)", (folder / "README.md").read_text()))
    assert {page.name for page in folder.glob("[0-9]*.md")} == listed
