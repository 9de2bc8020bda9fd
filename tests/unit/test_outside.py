"""Text from outside: one escape, used wherever such a text reaches a terminal."""

from __future__ import annotations

import ast
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.report import console
from orchestrator.report.rendering import StrictConsole
from orchestrator.words.outside import escape, quoted

ORCHESTRATOR = Path(__file__).resolve().parents[2] / "orchestrator"
SHOWS = ("cli", "report", "runner.py", "world", "engine")  # what may speak to a person
HOSTILE = "a\x1b[2Jb\x1b]0;t\x07c\r\ngpuplan: all is well\x9b31md\u202ee\U000e0041f"
WRITERS = {
    "orchestrator/report/console.py",  # escapes and masks
    "orchestrator/report/plain.py",  # escapes and masks, line by line
    "orchestrator/report/rendering.py",  # StrictConsole escapes
    "orchestrator/report/live.py",  # by StrictConsole
    "orchestrator/report/homeward.py",  # likewise
}


def writes(tree: ast.AST) -> list[int]:
    """The lines of a module that write to a terminal by themselves."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            said = ast.unparse(node.func)
            if said in {"print", "typer.echo", "typer.secho"} or said.endswith(
                ("stdout.write", "stderr.write", "out.write", "console.print", "stdout.writelines")
            ):
                found.append(node.lineno)
    return found


def test_nothing_but_the_console_writes_to_a_terminal():
    """No module that speaks to people prints by another way than the few that escape what they write."""
    files = [
        f
        for part in SHOWS
        for f in ([ORCHESTRATOR / part] if part.endswith("py") else (ORCHESTRATOR / part).rglob("*.py"))
    ]
    wrong = {
        f"{name}:{line}"
        for file in files
        if (name := file.relative_to(ORCHESTRATOR.parent).as_posix()) not in WRITERS
        for line in writes(ast.parse(file.read_text()))
        if "sys." in file.read_text().splitlines()[line - 1] or "print" in file.read_text().splitlines()[line - 1]
        or "echo" in file.read_text().splitlines()[line - 1]
    }  # fmt: skip
    assert wrong == set()


def clean(text: str) -> bool:
    """Whether it holds nothing that commands a terminal."""
    return escape(text) == text


def test_say_escapes(capsys: pytest.CaptureFixture[str]):
    """What a command says is escaped, on both outputs."""
    console.say(HOSTILE)
    console.say(HOSTILE, err=True)
    assert all(clean(text) and text.endswith("f\n") for text in capsys.readouterr())


def test_tables_and_pictures_escape():
    """Whatever a table or the live picture holds, on a terminal too, the text in it is escaped."""
    out = io.StringIO()
    shown = StrictConsole(file=out, force_terminal=False, width=200, markup=False)
    table = Table(title=HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(HOSTILE)
    table.add_row(Text(HOSTILE))
    shown.print(table)
    shown.print(HOSTILE)
    with Live(Text(HOSTILE), console=shown, auto_refresh=False):
        pass
    assert clean(out.getvalue())
    assert "\\u202e" in out.getvalue()


def test_a_document_is_ascii():
    """A JSON document holds no character that could command a terminal."""
    assert json.dumps({"text": HOSTILE}).isascii()


def test_no_line_of_a_quoted_text_passes_for_ours():
    """An outside text within a sentence stays in its line; in a longer text its lines are indented."""
    assert "\n" not in quoted(HOSTILE)
    assert "\\n" in quoted(HOSTILE)
    assert (
        console.indented("gpuplan: x\ngpuplan: all is well\n  do so") == "gpuplan: x\n  gpuplan: all is well\n  do so"
    )


@given(st.text(max_size=400), st.integers(10, 300))
@settings(max_examples=300, deadline=None, database=None, derandomize=True)
def test_a_quoted_text_is_short_and_clean(text: str, most: int):
    """At most so many characters, in one line, without anything that commands a terminal."""
    shown = quoted(text, most)
    assert len(shown) <= most
    assert clean(shown)
    assert "\n" not in shown
    assert "\r" not in shown
