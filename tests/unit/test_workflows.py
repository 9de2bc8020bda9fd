"""The workflows for GitHub Actions: what they run is what the program and this project have."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from orchestrator.cli.app import application

PROJECT = Path(__file__).resolve().parents[2]
EXAMPLE = PROJECT / "docs" / "examples" / "rehearse.yml"
OWN = PROJECT / ".github" / "workflows" / "tests.yml"
PAGES = (PROJECT / "docs" / "ci.md", PROJECT / "docs" / "install.md")


def _job(file: Path) -> dict[str, Any]:
    (job,) = yaml.safe_load(file.read_text())["jobs"].values()
    return dict(job)


def _lines(file: Path) -> list[str]:
    return [line.strip() for step in _job(file)["steps"] for line in step.get("run", "").splitlines()]


def _words(line: str) -> list[str]:
    """What the program is started with: without redirections, remarks, and what follows in a pipe."""
    words = shlex.split(re.split(r"\s+(?:\d?>|\||&&|#)", line)[0])
    return words[words.index("gpuplan") + 1 :]


def _gpuplan(lines: list[str]) -> list[str]:
    return [line for line in lines if re.match(r"gpuplan\s", line)]


def accept(words: list[str]) -> str:
    """The command that these words name; the option parser's own error where it does not take them."""
    group: Any = typer.main.get_command(application())
    context = group.make_context("gpuplan", list(words))
    name, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
    command.make_context(name, rest, parent=context)
    return str(name)


def test_the_examples_commands_are_the_programs():
    """The option parser takes each line of the example, which validates, rehearses without a question, and reports."""
    commands = [accept(_words(line)) for line in _gpuplan(_lines(EXAMPLE))]
    assert commands == ["validate", "run", "report", "report"]
    assert {"--dry-run", "--yes", "--json"} <= set(_words(_gpuplan(_lines(EXAMPLE))[1]))


@pytest.mark.parametrize("line", ["gpuplan run all --dry-runs", "gpuplan rehearse all", "gpuplan report --md --to x"])
def test_a_line_that_the_program_does_not_have_is_found(line: str):
    """An option that is misspelled, and a command that there is not."""
    with pytest.raises(Exception, match=r"[Nn]o such (option|command)"):
        accept(_words(line))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_pages_commands_are_the_programs(page: Path):
    """Each gpuplan line in a block of the pages on installing is accepted too."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = _gpuplan([line.strip() for block in blocks for line in block.splitlines()])
    assert lines
    assert all(accept(_words(line)) for line in lines)


def test_the_example_installs_what_there_is():
    """Its extras are the project's, its torch is the one that [rehearsal] pins."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    text = EXAMPLE.read_text()
    found = re.search(r'gpuplan-\*\.whl\)\[([\w,]+)\]"', text)
    assert found
    assert set(found[1].split(",")) <= set(extras)
    assert re.findall(r"torch==\S+", text) == [one for one in extras["rehearsal"] if one.startswith("torch==")]


@pytest.mark.parametrize("file", [EXAMPLE, OWN], ids=lambda file: file.name)
def test_a_workflow_may_read_and_nothing_else(file: Path):
    """No permission but to read the code, no secret, an end by the clock; `on` is not YAML's word for true alone."""
    document = yaml.safe_load(file.read_text())
    assert document["permissions"] == {"contents": "read"}
    assert set(document.get("on", document.get(True))) == {"push", "pull_request"}
    assert "secrets." not in file.read_text()
    assert _job(file)["timeout-minutes"] <= 120


def test_our_own_workflow_runs_what_a_fresh_machine_does():
    """It calls .ci/run, with the system packages that .ci/run wants, on the Pythons that pyproject.toml names."""
    lines = _lines(OWN)
    assert ".ci/run" in lines
    wanted = re.search(r"install -y -qq --no-install-recommends (git make .*)", (PROJECT / ".ci" / "run").read_text())
    assert wanted
    assert any(line.endswith(wanted[1]) for line in lines)
    classifiers = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["classifiers"]
    pythons = [line.rpartition(" ")[2] for line in classifiers if re.search(r":: 3\.\d+$", line)]
    assert _job(OWN)["strategy"]["matrix"]["python"] == pythons
