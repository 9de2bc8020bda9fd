"""The README followed word by word, at a terminal, by a program that types what stands there."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.e2e.terminal import Terminal, lines_of
from tests.e2e.tool import PROJECT

PICTURE = PROJECT / "docs" / "run.svg"
README = (PROJECT / "README.md").read_text()
RUN = r"1\d{3}-[a-z2-9]{4}"


def shown_below(first: str) -> list[str]:
    """The lines of the README's first text block below that line."""
    found = re.search(r"^```text\n(.*?)^```", README[README.index(first) :], re.MULTILINE | re.DOTALL)
    assert found
    return [line.rstrip() for line in found[1].splitlines()]


def shape(line: str) -> str:
    """A line of a run's end without what is another one in each run: name, times, amounts, and the room they take."""
    line = re.sub(rf"{RUN}|\$[\d.]+|\b\d+m \d+s|\b[\d.]+(?:ms|s)\b|~/\S*|/\S*/runs\b\S*", "*", line)
    return re.sub(r"─+", "-", re.sub(r"\s+", " ", line)).strip()


@pytest.mark.slow
def test_what_the_readme_says_is_what_happens(tmp_path: Path):
    """The preview is the README's to the letter, the end its picture's but for names, times and amounts."""
    *first, last = lines_of(README)
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin" / "gpuplan"
    tool.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'from orchestrator.cli import main; main()' \"$@\"\n")
    tool.chmod(0o755)
    (tmp_path / "there").mkdir()
    env = {"GPUPLAN_HOME": str(tmp_path / "home"), "PYTHONPATH": str(PROJECT)}
    env["PATH"] = f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin"
    with Terminal.open(tmp_path / "socket", tmp_path / "there", env) as terminal:
        for line in first:
            said = terminal.command(line)
            assert "gpuplan:" not in said, said
        assert "valid: plan my-job" in said
        before = len(terminal.text())
        terminal.type(last)
        asked = terminal.wait(r"Run it\? \[y/N\]", after=before)
        for line in shown_below(first[0]):
            assert line in [written.rstrip() for written in asked.splitlines()], line
        terminal.type("y")
        ended = terminal.wait(rf"^{RUN}: \w+\n\$\Z", 240, after=before)
        kept = terminal.command("gpuplan ls --json")
    screen = [shape(line) for line in ended[ended.index("Run it?") :].splitlines() if line.strip()]
    drawn = [shape(line) for line in _lines_of_the_picture() if line.strip()]
    assert len(drawn) > 15
    assert screen[: len(drawn)] == drawn
    assert list((tmp_path / "home").glob("runs/*/pulled/local/results/best.json"))
    assert '"usd_hour": "0"' in kept, kept


def _lines_of_the_picture() -> list[str]:
    """The picture's texts, from above: those that lie on one height are one line."""
    lines: dict[str, str] = {}
    for text in ET.parse(PICTURE).iter("{http://www.w3.org/2000/svg}text"):
        height = text.attrib["y"]
        lines[height] = lines.get(height, "") + (text.text or "")
    return list(lines.values())
