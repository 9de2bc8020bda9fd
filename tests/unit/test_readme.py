"""The documentation beside the code that it speaks of: commands, exit codes, messages, keys of phase files, links."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from orchestrator.config import schema
from orchestrator.config.meanings import MEANINGS
from orchestrator.config.schema import tables
from orchestrator.plan.placeholders import CARD, FACTS
from orchestrator.words.errors import ExitCode

PROJECT = Path(__file__).resolve().parents[2]
README = (PROJECT / "README.md").read_text()
COMMANDS = (PROJECT / "docs/commands.md").read_text()
TROUBLE = (PROJECT / "docs/troubleshooting.md").read_text()
PUBLISHING = (PROJECT / "docs/publishing.md").read_text()
PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")])


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
    """The page of commands lists every one of the application with the first line of its help, and no other."""
    group = tool()
    commands = {name: (command.help or "").split("\n\n")[0].strip() for name, command in group.commands.items()}
    listed = {row[0].strip("`"): row[1] for row in rows(section(COMMANDS, "Commands"))}
    assert commands == listed
    assert list(listed) == group.list_commands(typer.Context(group)), "in the order of the help"


def test_what_is_said_to_be_missing_is_missing():
    """A command that has come is no longer listed among those that are not there yet."""
    line = re.search(r"\*\*Commands:\*\*(.*)", section(README, "What is not there yet"))
    absent = set(re.findall(r"`([a-z]+)`", line[1])) if line else set()
    assert absent & set(tool().commands) == set()


def test_every_exit_code_is_named():
    """The table of troubleshooting has each exit code with its number and its name in the code, in order."""
    listed = [(int(row[0]), row[1].strip("`")) for row in rows(section(TROUBLE, "Exit codes"))]
    assert [(int(code), code.name) for code in ExitCode] == listed


def test_every_message_is_one_that_gpuplan_says():
    """What troubleshooting quotes stands in the source, word by word, but for the names and numbers that are `…`."""
    source = "\n".join(file.read_text() for file in (PROJECT / "orchestrator").rglob("*.py"))
    source = re.sub(r'"\s*\n\s*f?"', "", source)  # a sentence in two lines
    quoted = [said for row in rows(TROUBLE) if len(row) == 3 for said in re.findall(r"`([^`]+)`", row[0])]
    assert len(quoted) > 30
    absent = [part for said in quoted for part in said.split("…") if part.strip() not in source]
    assert not absent


def test_the_readme_is_short():
    """It is read in five minutes: what is longer has a page of its own."""
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("kind", ["phase", "settings"])
def test_every_key_of_every_schema_says_what_it_is_for(kind: str):
    """Each has one sentence or two for a person, none is left of a key that is gone, and an editor gets it."""
    document = schema(kind)
    for name, table in tables(kind, document).items():
        assert table["properties"].keys() == MEANINGS[name].keys(), name
        for key, about in table["properties"].items():
            assert about["description"].startswith(MEANINGS[name][key])
            assert re.fullmatch(r"[A-Z0-9`].{8,}\.", MEANINGS[name][key]), f"{name}.{key} is no sentence"


def test_the_reference_is_what_the_schema_says():
    """docs/reference.md and configs/*.schema.json are what tools/reference.py would write now."""
    tool = [sys.executable, str(PROJECT / "tools" / "reference.py"), "--check"]
    env = os.environ | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run(tool, check=False, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_placeholder_is_explained():
    """docs/publishing.md lists every fact that a text may name, and no other."""
    listed = re.findall(r"^\| `\$\{([a-z_]+)\}`", section(PUBLISHING, "Texts"), re.MULTILINE)
    assert sorted(listed) == sorted(FACTS | CARD)


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
