"""What the source promises about its own shape."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PACKAGE = PROJECT / "orchestrator"
REHEARSED = re.compile(r"dry_run|rehears|ssh_host")
SUBSCRIPT = re.compile(r"\b(row|machine|phase|step|run|volume|charge|event)\w*\[[\"']")
LONGEST_MODULE = 350  # lines
JSON = {"documents.py", "pages.py", "model_hub.py"}  # documents, typed key by key; and the hub's answers


def test_the_engine_never_asks_which_world_it_is_in():
    """No file of the engine has a word for a rehearsal or for a machine that was there already."""
    found = [
        f"{file.name}:{number}: {line}"
        for file in sorted((PACKAGE / "engine").glob("*.py"))
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if REHEARSED.search(line)
    ]
    assert found == []


def test_no_row_is_read_by_a_string():
    """What decides over money and what tells of it reads rows by attributes, which mypy checks."""
    files = [*(PACKAGE / "engine").glob("*.py"), *(PACKAGE / "report").glob("*.py"), PACKAGE / "runner.py"]
    files += [*(PACKAGE / "cli").glob("*.py"), *(PACKAGE / "world").glob("*.py")]
    found = [f.name for f in files if f.name not in JSON and SUBSCRIPT.search(f.read_text())]
    assert found == []


def test_no_interpreter_looks_into_the_current_folder():
    """Every Python that we start is told with its first word not to look for modules where it is started."""
    started = [
        (file.name, first)
        for file in sorted(PACKAGE.rglob("*.py"))
        for first in re.findall(r"\[\s*sys\.executable,\s*(\S+),", file.read_text())
    ]
    assert len(started) >= 4
    assert [(name, first) for name, first in started if first != '"-P"'] == []


def chain() -> list[str]:
    """The files that ARCHITECTURE.md lists from the command to the request."""
    text = (PROJECT / "ARCHITECTURE.md").read_text().partition("## From the command to the machine")[2]
    return re.findall(r"^\d+\. `([\w/]+\.py)`", text.partition("\n## ")[0], re.MULTILINE)


def test_the_command_is_nine_files_from_the_request():
    """Each file of the list in ARCHITECTURE.md imports the next one, or calls what it is given of it by name."""
    files = chain()
    assert (files[0], files[-1], len(files)) == ("cli/app.py", "providers/http.py", 9)
    for caller, called in pairwise(files):
        text = (PACKAGE / caller).read_text()
        module = called.removesuffix(".py").replace("/", ".")
        names = re.findall(r"^(?:class|    def|def) ([a-z]\w*|[A-Z]\w*)", (PACKAGE / called).read_text(), re.MULTILINE)
        imports = re.search(rf"from orchestrator\.{re.escape(module)} import ", text)
        handed = called in ("engine/story.py", "providers/runpod.py") and [
            name for name in names if re.search(rf"(_story|_provider)\.{name}\(", text)
        ]
        assert imports or handed, f"{caller} does not lead to {called}"


def test_the_top_level_shows_the_layers():
    """At most eighteen entries."""
    entries = [p.name for p in PACKAGE.iterdir() if p.name != "__pycache__"]
    assert len(entries) <= 18, sorted(entries)


def test_no_module_is_long():
    """No module of either half has more than 350 lines: what grows over that is two matters."""
    files = [file for half in ("orchestrator", "remote") for file in sorted((PROJECT / half).rglob("*.py"))]
    assert len(files) > 300
    lengths = {str(file.relative_to(PROJECT)): len(file.read_text().splitlines()) for file in files}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_MODULE} == {}


@pytest.mark.parametrize(
    ("heading", "folder"),
    [
        ("Plans", "plan"),
        ("Commands", "cli"),
        ("The engine", "engine"),
        ("What people see", "report"),
        ("The bench", "testing"),
    ],
)
def test_the_tables_name_every_module(heading: str, folder: str):
    """The table of a folder in ARCHITECTURE.md names each of its modules, and no other."""
    text = (PROJECT / "ARCHITECTURE.md").read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = "".join(line for line in text.splitlines() if line.startswith("|"))
    named = re.findall(r"`(\w+\.py)`", rows)
    assert sorted(named) == sorted(f.name for f in (PACKAGE / folder).glob("*.py") if f.name != "__init__.py")


def lacking(word: str, *parts: str) -> set[str]:
    """The dataclasses in these parts of the package whose decorator does not say that."""
    found = set()
    files = [f for part in parts for f in ([PACKAGE / part] if part.endswith(".py") else (PACKAGE / part).glob("*.py"))]
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text()))):
        if isinstance(node, ast.ClassDef):
            words = [ast.unparse(decorator) for decorator in node.decorator_list]
            found |= {node.name for one in words if one.startswith("dataclass") and word not in one}
    return found


def test_what_was_decided_does_not_change():
    """A value of what decides is frozen: three there are that something is gathered in, and the engine's context."""
    assert lacking("frozen=True", "words", "cost.py", "plan", "engine") == {"Context", "Reaped", "Task", "_Coming"}


def test_values_between_layers_have_no_room_for_more():
    """A name that a value of the words or the engine does not have is an error where it is set."""
    assert lacking("slots=True", "words", "engine") == {"Context", "Reaped", "_Coming"}
