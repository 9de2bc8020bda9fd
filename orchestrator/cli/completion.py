"""Completion in bash, zsh and fish: the shell asks `gpuplan --complete WORDS` for what the last word may become."""

from __future__ import annotations

import contextlib
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.report.console import say
from orchestrator.words.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.ledger import Ledger

ASK = "--complete"
SCRIPTS = {
    "bash": """_gpuplan() {
    local IFS=$'\\n'
    COMPREPLY=($(compgen -W "$(gpuplan --complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- \\
        "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _gpuplan gpuplan""",
    "zsh": """#compdef gpuplan
_gpuplan() {
    local -a found
    found=("${(@f)$(gpuplan --complete "${(@)words[2,$CURRENT]}" 2>/dev/null)}")
    if [[ -n "$found" ]]; then compadd -a found; else _files; fi
}
compdef _gpuplan gpuplan""",
    "fish": """complete -c gpuplan -a '(gpuplan --complete (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'""",
}
OF_RUNS = frozenset({"status", "logs", "cost", "resume", "down", "pull", "ssh", "rm", "report", "publish"})


def completion(
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="For which shell.")],
) -> None:
    """Print what completes commands, options, phases, runs and steps in your shell."""
    if shell not in SCRIPTS:
        raise UsageError(f"there is no completion for {shell!r}", remedy=f"it is {', '.join(SCRIPTS)}")
    say(SCRIPTS[shell])


def answer(words: Sequence[str], group: Any) -> None:
    """Print what the last of the words after `gpuplan` may become, a line each; nothing where it may be a file."""
    with contextlib.suppress(Exception):  # whatever is wrong is said by the command, not between two keystrokes
        for one in candidates(words, group):
            say(one)


def candidates(words: Sequence[str], group: Any) -> list[str]:
    """What the last word may become. `group`: the application, as typer's command."""
    *before, last = words or [""]
    if not before:
        return _that_begin(last, [*group.list_commands(None), "--help", "--version", "--debug"])
    command = group.commands.get(before[0])
    if command is None:
        return []
    options = {name: one for one in command.params if one.param_type_name == "option" for name in one.opts}
    if last.startswith("-"):
        return _that_begin(last, [*options, "--help"])
    asked = options.get(before[-1]) if len(before) > 1 else None
    if asked is not None and not asked.is_flag:
        values = _VALUES.get(before[-1])
        return _that_begin(last, values(before)) if values else []
    return _that_begin(last, _arguments(before))


def _arguments(before: Sequence[str]) -> list[str]:
    command, used = before[0], set(before[1:])
    if command in ("run", "plan"):
        return [name for name in [*_phases(before), "all"] if name not in used]
    if command in OF_RUNS:
        return [] if used & set(found := _runs(before)) else found
    return {"schema": ["phase", "settings"], "completion": list(SCRIPTS)}.get(command, [])


def _that_begin(word: str, found: Sequence[str]) -> list[str]:
    return [one for one in found if one.startswith(word)]


def _phases(before: Sequence[str]) -> list[str]:
    """The phases of the plan that is meant; of the shipped one where there is none."""
    from orchestrator.config import SHIPPED, find_plan, load_plan

    named = next((after for word, after in pairwise(before) if word == "--plan"), None)
    folder = Path(named) if named and named != SHIPPED else None if named else find_plan(Path.cwd())
    return [phase.name for phase in load_plan(folder).phases]


def _runs(_before: Sequence[str]) -> list[str]:
    """All runs, the newest first."""
    from orchestrator.cli.common import open_home

    _, ledger = open_home()
    return [row.id for row in reversed(ledger.runs.all())]


def _steps(before: Sequence[str]) -> list[str]:
    """The steps of the run that is named, or of the newest."""
    ledger, named = _meant(before)
    return [row.id for row in ledger.steps.all(run=named)] if named else []


def _phases_of_a_run(before: Sequence[str]) -> list[str]:
    """The phases of the run that is named, or of the newest."""
    ledger, named = _meant(before)
    return [row.name for row in ledger.phases.all(run=named)] if named else []


def _meant(before: Sequence[str]) -> tuple[Ledger, str | None]:
    from orchestrator.cli.common import open_home

    _, ledger = open_home()
    named = next((word for word in before[1:] if ledger.runs.maybe(id=word)), None)
    return ledger, named or ledger.newest_run()


def _steps_of_the_plan(_before: Sequence[str]) -> list[str]:
    from orchestrator.config import find_plan, load_plan

    plan = load_plan(find_plan(Path.cwd()))
    return [f"{phase.name}/{step.name}" for phase in plan.phases for step in phase.steps] + ["all"]


def _tags(_before: Sequence[str]) -> list[str]:
    from orchestrator.cli.common import open_home

    _, ledger = open_home()
    return sorted({tag for row in ledger.runs.all() for tag in row.tags.split(",") if tag})


_VALUES: dict[str, Callable[[Sequence[str]], list[str]]] = {
    "--plan": lambda _before: ["shipped"],
    "--provider": lambda _before: ["runpod", "lambda"],
    "--step": _steps,
    "--phase": _phases_of_a_run,
    "--force": _steps_of_the_plan,
    "--tag": _tags,
}
