"""What reads a code block: the parser that would read it if somebody typed or saved it, and nothing that does it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import typer
import yaml
from packaging.requirements import InvalidRequirement, Requirement

from orchestrator.config import load_file, load_plan
from orchestrator.words.errors import GpuplanError
from orchestrator.words.model import Phase, Settings

PROJECT = Path(__file__).resolve().parents[2]
DLLAMA = PROJECT / "remote" / "distributed-llama"
HARMLESS = {
    "init",
    "validate",
    "schema",
    "completion",
}  # commands that are run: they read and write here, and ask nobody
BUILTINS = {"cd", "mkdir", "export", "source", "echo", "true"}
BETWEEN = re.compile(r"&&|\|\||[;|&\n]|<\(|\$\(|\)")


class Unread(Exception):
    """Nothing reads this block, or what would refuses it."""


def shell(text: str) -> bool:
    """Read each command of a block by its own parser; run the block where all are harmless. True: it was run."""
    checked = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    if checked.returncode:
        raise Unread(f"bash refuses it: {checked.stderr.strip()}")
    commands = list(_commands(text))
    if not commands:
        raise Unread("it has no command")
    for words in commands:
        _read_command(words)
    if not all(_harmless(words) for words in commands) or not any(words[0] == "gpuplan" for words in commands):
        return False
    _run(text)
    return True


def _commands(text: str) -> Iterator[list[str]]:
    """The simple commands of a block, without variables before them and where their output goes."""
    whole = text.replace("\\\n", " ")
    for line in whole.splitlines():
        bare = _without_comment(line)
        for part in BETWEEN.split(bare):
            words = shlex.split(re.sub(r"\d?>>?\s*\S+", "", part))
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words:
                yield words


def _without_comment(line: str) -> str:
    """A line up to a # that begins a word outside of quotes."""
    quote = ""
    for at, letter in enumerate(line):
        if letter in "'\"" and quote in ("", letter):
            quote = "" if quote else letter
        elif letter == "#" and not quote and (at == 0 or line[at - 1].isspace()):
            return line[:at]
    return line


def _read_command(words: list[str]) -> None:
    program, *rest = words
    if program == "gpuplan":
        _gpuplan(rest)
    elif program == "make":
        done = subprocess.run(["make", "-n", *rest], cwd=PROJECT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unread(f"make refuses {shlex.join(rest)}: {done.stderr.strip()}")
    elif program in ("./dllama", "./dllama-worker"):
        _dllama([*(["worker"] if program.endswith("worker") else []), *rest])
    elif program == "python" and rest[:1] == ["convert-hf.py"]:
        _by_argparse(_dllama_part("dllama_glm.convert.command")._parser().parse_args, rest[1:])
    elif program not in BUILTINS:
        raise Unread(f"nothing here reads the command {program}: <!-- not run: WHY --> before its block")


@cache
def _tool() -> Any:
    from orchestrator.cli.app import application

    return typer.main.get_command(application())


def _gpuplan(words: list[str]) -> None:
    """The options and arguments of a command line, as the program takes them; nothing of it is done."""
    tool = _tool()
    try:
        with contextlib.redirect_stdout(io.StringIO()), tool.make_context("gpuplan", list(words)) as context:
            name, command, rest = tool.resolve_command(context, [*context._protected_args, *context.args])
            command.make_context(name, rest, parent=context)
    except typer.Exit:  # --help, --version
        return
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        raise Unread(f"gpuplan {shlex.join(words)}: {error.format_message()}") from error


def _dllama_part(name: str) -> Any:
    import importlib

    if str(DLLAMA) not in sys.path:
        sys.path.append(str(DLLAMA))
    return importlib.import_module(name)


def _dllama(words: list[str]) -> None:
    if words[:1] == ["compare"]:
        _by_argparse(_dllama_part("dllama_glm.verify.compare.command")._parser().parse_args, words[1:])
    else:
        _by_argparse(_dllama_part("dllama_glm.cli.options").parse, words)


def _by_argparse(parse: Callable[[list[str]], object], words: list[str]) -> None:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parse(words)
    except SystemExit as end:
        if end.code:
            raise Unread(f"{shlex.join(words)}: {said.getvalue().strip().splitlines()[-1]}") from end


def _harmless(words: list[str]) -> bool:
    if words[0] == "gpuplan":
        return words[1] in HARMLESS or not {"--help", "-h", "--version"}.isdisjoint(words)
    return words[0] in ("cd", "mkdir")


def _run(text: str) -> None:
    """Type it into a folder of its own, with a home of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tool = folder / "bin" / "gpuplan"
        tool.parent.mkdir()
        tool.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'from orchestrator.cli import main; main()' \"$@\"\n")
        tool.chmod(0o755)
        (folder / "here").mkdir()
        env = {"PATH": f"{tool.parent}:{os.environ['PATH']}", "GPUPLAN_HOME": str(folder / "home")}
        env |= {"PYTHONPATH": str(PROJECT), "HOME": name}
        words = ["bash", "-eo", "pipefail", "-c", text]
        done = subprocess.run(words, cwd=folder / "here", env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unread(f"it ends with {done.returncode}: {done.stderr.strip()[-300:]}")


def plan(folder: Path) -> None:
    """A whole plan, by the reader of `gpuplan validate`."""
    try:
        load_plan(folder, environ={})
    except GpuplanError as error:
        raise Unread(f"gpuplan validate refuses it: {error}") from error


def one_file(name: str, text: str) -> None:
    """A file of a plan that gpuplan itself does not read; its own files are read as the plan."""
    if name.endswith(".py"):
        python(text)
    elif name.endswith("requirements.txt"):
        try:
            for line in text.splitlines():
                if line and not line.startswith("#"):
                    Requirement(line)
        except InvalidRequirement as error:
            raise Unread(f"{name}: {error}") from error
    elif not (name == "gpuplan.yaml" or re.fullmatch(r"phases/[\w.-]+\.yaml", name)):
        raise Unread(f"nothing here reads {name}: <!-- not run: WHY --> before it")


def fragment(text: str) -> None:
    """Some keys of a phase file or of settings, or some steps: read as a file that has nothing else."""
    try:
        said = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Unread(f"no YAML: {error}") from error
    if isinstance(said, list):
        names = {step.get("name") for step in said if isinstance(step, dict)}
        needs = {need for step in said if isinstance(step, dict) for need in step.get("needs", ())} - names
        lines = [f"- {{name: {need}, run: 'true'}}" for need in sorted(needs)]
        _load("phase.yaml", "name: fragment\nsteps:\n" + _indented("\n".join([*lines, text])))
    elif isinstance(said, dict) and said.keys() <= Settings.model_fields.keys():
        _load("gpuplan.yaml", text)
    elif isinstance(said, dict) and said.keys() <= Phase.model_fields.keys():
        name = "" if "name" in said else "name: fragment\n"
        steps = "" if "steps" in said else "steps: [{name: one, run: 'true'}]\n"
        _load("phase.yaml", f"{name}{steps}{text}")
    else:
        raise Unread("neither keys of a phase, nor of settings, nor steps")


def _indented(text: str) -> str:
    """Steps below `steps:`."""
    return "".join(f"  {line}\n" if line.strip() else "\n" for line in text.splitlines())


def _load(name: str, text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_text(text)
        try:
            load_file(file)
        except GpuplanError as error:
            raise Unread(f"gpuplan validate refuses it: {error}") from error


def python(text: str) -> None:
    """By Python's own compiler."""
    try:
        compile(text, "block", "exec", dont_inherit=True)
    except SyntaxError as error:
        raise Unread(f"Python refuses it: {error}") from error


def document(text: str) -> None:
    """JSON."""
    try:
        json.loads(text)
    except ValueError as error:
        raise Unread(f"no JSON: {error}") from error


def settings(text: str) -> None:
    """TOML."""
    try:
        tomllib.loads(text)
    except ValueError as error:
        raise Unread(f"no TOML: {error}") from error


READERS: dict[str, Callable[[str], None]] = {"yaml": fragment, "python": python, "json": document, "toml": settings}
