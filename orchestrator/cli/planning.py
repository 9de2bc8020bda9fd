"""Commands that decide nothing and rent nothing: plan, validate, schema."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import ConfigFile, Json, PlanName, open_home, print_json, read_plan
from orchestrator.report.console import say
from orchestrator.words.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from orchestrator.words.model import Plan


def plan(
    phases: Annotated[list[str] | None, typer.Argument(metavar="[PHASE]...", help="Left out: all phases.")] = None,
    *,
    provider: Annotated[str | None, typer.Option("--provider", metavar="NAME", help="Whose prices.")] = None,
    spot: Annotated[bool, typer.Option("--spot", help="Prices of interruptible machines.")] = False,
    notes: Annotated[bool, typer.Option("--notes", help="Show where the plan is wrong, in full.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Freeze what is shown: gpuplan run FILE does that.")
    ] = None,
    plan: PlanName = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Show what a run would take: a line a step, machines, hours and dollars beside the plan's own."""
    from orchestrator.cli import frozen
    from orchestrator.cli.proposal import estimate
    from orchestrator.cli.standing import standing
    from orchestrator.report import pages
    from orchestrator.world.opening import find_code

    home, ledger = open_home()
    loaded = read_plan(plan, config, phases or ())
    code = find_code(home, loaded, Path.cwd())
    found = estimate(home, ledger, loaded, tuple(phases or ("all",)), provider=provider, spot=spot)
    stands = standing(home, ledger, loaded, code)
    if out:
        shown = tuple(phase.phase for phase in found.preview.phases)
        kept = frozen.Frozen(plan=loaded, asked=shown, provider=provider or "", spot=spot, code=frozen.hashes(code))
        frozen.write(out, kept)
    if json:
        sent = {"files": len(code), "bytes": sum(entry.bytes for entry in code), "setup": loaded.settings.setup}
        stood = [{"id": name, "mark": one.mark, "why": one.why} for name, one in stands.items()]
        named = {"plan": {"name": loaded.name, "folder": loaded.folder}}
        print_json(named | found.preview.document() | {"prices_from": found.prices_from, "code": sent, "steps": stood})
    else:
        pages.plan(loaded, found.preview, found.prices_from, code, stands, notes=notes)
        if out:
            say(f"frozen in {out}: gpuplan run {out} does exactly this")


def validate(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="Files; left out: the whole plan.")
    ] = None,
    *,
    plan: PlanName = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Check phase files and settings: every mistake with file, line, column and what to do."""
    from orchestrator.config import load_file
    from orchestrator.config.problems import ConfigErrors

    checked, read = [str(f) for f in files or ()], ""
    notes: list[str] = []
    wrong: list[ConfigError] = []
    for file in files or (None,):
        try:
            if file:
                load_file(file)
            else:
                loaded = read_plan(plan, config)
                checked, read = [p.name for p in loaded.phases], f" {loaded.called}:"
                notes = _notes(loaded)
        except ConfigErrors as mistakes:
            wrong += mistakes.errors
    if json:
        said = [
            {"where": e.where, "message": e.message.removeprefix(f"{e.where}: "), "remedy": e.remedy} for e in wrong
        ]
        print_json({"valid": not wrong, "plan": read.strip(" :"), "checked": checked, "mistakes": said, "notes": notes})
        raise typer.Exit(int(ExitCode.USAGE if wrong else ExitCode.DONE))
    if wrong:
        raise ConfigErrors(wrong)
    say(f"valid:{read} {', '.join(checked)}")
    for note in notes:
        say(f"note: {note}")


def _notes(loaded: Plan) -> list[str]:
    """What is no mistake, and may surprise."""
    from orchestrator.plan.crews import left_behind

    return [
        f"{quiet.id} needs no GPU and creates nothing, and {user.id} needs it on a machine with one: what it leaves "
        "outside $WORKSPACE is not there. Say what it creates, leave gpu: false out, or write staging: none"
        for quiet, user in left_behind(loaded)
    ]


def schema(
    kind: Annotated[str, typer.Argument(metavar="[phase|settings]", help="Of which kind of file.")] = "phase",
    *,
    json: Json = True,
) -> None:
    """Print the JSON schema of phase files or of settings, for an editor."""
    from orchestrator.config import schema as of_kind
    from orchestrator.words.errors import UsageError

    del json  # it is one document anyway
    if kind not in ("phase", "settings"):
        raise UsageError(f"there is no schema {kind!r}", remedy="it is phase or settings")
    print_json(of_kind(kind))
