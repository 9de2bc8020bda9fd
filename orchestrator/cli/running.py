"""The command that rents: run. Preview, one question, then the run until its end."""

from __future__ import annotations

import shutil
import signal
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import telling
from orchestrator.cli.common import (
    ConfigFile,
    Detach,
    EventsFile,
    Json,
    PlanName,
    Yes,
    open_home,
    open_world,
    read_plan,
)
from orchestrator.cli.confirming import agreed_on
from orchestrator.cli.drafting import draft
from orchestrator.cli.driving import DriveOptions, discard_output, open_views, show_end
from orchestrator.cli.flags import RunOptions, check_flags, seconds, skew
from orchestrator.report.console import say
from orchestrator.words.errors import StillRunning, UsageError
from orchestrator.words.lifecycle import RunState

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.words.spec import RunSpec
    from orchestrator.world.home import Home
    from orchestrator.world.world import Amend, World


def run(
    phases: Annotated[
        list[str] | None, typer.Argument(metavar="PHASE...|all", help="Phases of the plan, or all of them.")
    ] = None,
    *,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Rehearse against emulated clouds on this computer.", rich_help_panel="Rehearse"
        ),
    ] = False,
    yes: Yes = False,
    spot: Annotated[
        bool, typer.Option("--spot", help="Interruptible machines only.", rich_help_panel="Machines")
    ] = False,
    spot_or_demand: Annotated[
        bool,
        typer.Option(
            "--spot-or-demand",
            help="Interruptible machines, on-demand ones where none is to be had.",
            rich_help_panel="Machines",
        ),
    ] = False,
    provider: Annotated[
        str | None, typer.Option("--provider", metavar="NAME", help="runpod or lambda.", rich_help_panel="Machines")
    ] = None,
    move: Annotated[
        str,
        typer.Option(
            "--move",
            metavar="PLACE",
            help="Leave the volume where it is and start over at this place, with a new one.",
            rich_help_panel="Machines",
        ),
    ] = "",
    ssh_host: Annotated[
        str,
        typer.Option(
            "--ssh-host",
            metavar="USER@HOST:PORT",
            help="Use this machine; nothing is rented.",
            rich_help_panel="Machines",
        ),
    ] = "",
    ssh_key: Annotated[
        Path | None,
        typer.Option(
            "--ssh-key",
            metavar="FILE",
            help="Private key for --ssh-host (default: gpuplan's own).",
            rich_help_panel="Machines",
        ),
    ] = None,
    host_key: Annotated[
        str,
        typer.Option(
            "--host-key",
            metavar="KEY",
            help="Host key of --ssh-host: SHA256:..., or TYPE BASE64.",
            rich_help_panel="Machines",
        ),
    ] = "",
    store: Annotated[
        list[str] | None,
        typer.Option(
            "--store",
            metavar="URL",
            help="Where artifacts go: s3://..., gs://...",
            rich_help_panel="Limits and results",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--max-usd",
            "--budget",
            metavar="USD",
            help="Cap of the whole run, its end included.",
            rich_help_panel="Limits and results",
        ),
    ] = None,
    force: Annotated[
        list[str] | None,
        typer.Option(
            "--force",
            metavar="STEP|all",
            help="Run this step, and all that need it, though they are done.",
            rich_help_panel="What is done",
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Look again at what is done, on the volume itself; rents a machine.",
            rich_help_panel="What is done",
        ),
    ] = False,
    only: Annotated[
        bool,
        typer.Option("--only", help="Refuse when steps of other phases are missing.", rich_help_panel="What is done"),
    ] = False,
    cloud: Annotated[
        Path | None,
        typer.Option(
            "--cloud", metavar="DIR", help="Keep the rehearsed cloud here, for more runs.", rich_help_panel="Rehearse"
        ),
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            "--fault", metavar="NAME[@STEP]", help="Rehearse a disaster (--dry-run).", rich_help_panel="Rehearse"
        ),
    ] = None,
    network: Annotated[
        str,
        typer.Option(
            "--network",
            metavar="RATE,DELAY",
            help="Rehearse with lines that slow, as 100mbit,50ms (--dry-run).",
            rich_help_panel="Rehearse",
        ),
    ] = "",
    clock_skew: Annotated[
        str | None,
        typer.Option(
            "--clock-skew",
            metavar="TIME",
            help="Rehearse with machines whose clocks are that far ahead, or behind: -10m (--dry-run).",
            rich_help_panel="Rehearse",
        ),
    ] = None,
    wait: Annotated[
        str | None,
        typer.Option(
            "--wait",
            metavar="TIME",
            help="Where no machine is to be had, ask again for so long (2h, 30m); nothing is rented meanwhile.",
            rich_help_panel="Machines",
        ),
    ] = None,
    hold: Annotated[
        str | None,
        typer.Option(
            "--hold",
            metavar="TIME",
            help="Keep the machine of a step that failed for so long (30m), to look at it; it is paid for.",
            rich_help_panel="Machines",
        ),
    ] = None,
    deadman: Annotated[
        float | None,
        typer.Option(
            "--deadman",
            metavar="MINUTES",
            min=0.05,
            help="Without a sign of life from here for so long, a machine stops its steps and ends its bill.",
            rich_help_panel="Machines",
        ),
    ] = None,
    plan: PlanName = None,
    config: ConfigFile = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="WORD", help="To find it by; repeatable.", rich_help_panel="Limits and results"),
    ] = None,
    detach: Detach = False,
    queue: Annotated[bool, typer.Option("--queue", help="Once it is confirmed, leave it for a worker.")] = False,
    json: Json = False,
    json_events: EventsFile = None,
) -> None:
    """Run phases: rent what they need, do their steps, check, upload, and leave nothing running.

    Without --plan the plan is the nearest folder upwards with gpuplan.yaml or phases/; where there is none, phases of
    the plan that comes with gpuplan are meant by their names.
    """
    options = RunOptions(
        dry_run, spot, spot_or_demand, provider, ssh_host, ssh_key, host_key, tuple(store or ()), tuple(force or ()),
        only, cloud,
        tuple(fault or ()), deadman, tuple(tag or ()), seconds("--wait", wait), seconds("--hold", hold),
        move, network, skew(clock_skew),
    )  # fmt: skip
    check_flags(options)
    if phases and len(phases) == 1 and phases[0].endswith(".json") and Path(phases[0]).is_file():
        _run_frozen(Path(phases[0]), options, DriveOptions(yes=yes, json=json, detach=detach, events=json_events))
        return
    loaded = read_plan(plan, config, phases or (), {"budget_usd": budget})
    if not phases:
        named = ", ".join(phase.name for phase in loaded.phases)
        raise UsageError(f"which phases? {loaded.called} has {named}", remedy="name some, or all")
    home, ledger = open_home()
    if all(row.state == RunState.DONE for row in ledger.runs.all()):
        home.timeline.anchor()  # nothing is being counted: times may follow the wall clock again
    spec = draft(home, loaded, tuple(phases), options)
    how = DriveOptions(yes=yes, json=json, detach=detach, events=json_events, queue=queue)
    begin(home, ledger, spec, how, only=only, check=check)


def _run_frozen(file: Path, options: RunOptions, how: DriveOptions) -> None:
    """Do what `plan --out` has shown. UsageError: the code has changed since, or flags ask for something else."""
    from orchestrator.cli import frozen
    from orchestrator.world.opening import find_code

    kept = frozen.read(file)
    if options.provider or options.spot or options.spot_or_demand or options.force or options.move:
        raise UsageError(f"{file} says what is done", remedy="leave --provider, --spot, --move and --force out")
    home, ledger = open_home()
    frozen.require_same_code(kept, find_code(home, kept.plan, Path.cwd()))
    options = replace(options, provider=kept.provider or None, spot=kept.spot)
    begin(home, ledger, draft(home, kept.plan, kept.asked, options), how)


def begin(
    home: Home, ledger: Ledger, spec: RunSpec, options: DriveOptions, *, only: bool = False, check: bool = False
) -> None:
    """Choose, show, ask, freeze, and drive a new run."""
    if options.queue and not ledger.is_shared:
        raise UsageError("--queue leaves a run for a worker", remedy="GPUPLAN_DATABASE_URL names the database of both")
    world, confirmed = prepared(home, ledger, spec, options, only=only, check=check)
    carry_out(world, confirmed, options)


def prepared(
    home: Home,
    ledger: Ledger,
    spec: RunSpec,
    options: DriveOptions,
    *,
    only: bool = False,
    check: bool = False,
    up_to: Decimal | None = None,
    amend: Amend | None = None,
) -> tuple[World, RunSpec]:
    """Choose, show, ask, freeze; the run, and the world that it is in.

    `up_to`: see confirming.agreed_on; `amend`: see common.choose_world.
    """
    from orchestrator.engine.books import open_books, strike
    from orchestrator.runner import first_row
    from orchestrator.world import sharing
    from orchestrator.world.opening import freeze_code

    for number in (signal.SIGTERM, signal.SIGHUP):  # until the run is driven, they mean what Ctrl-C means
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup's wish is respected
            signal.signal(number, signal.default_int_handler)
    folder = home.run_folder(spec.run)
    folder.mkdir(parents=True, mode=0o700)
    world: World | None = None
    try:
        world = open_world(home, ledger, spec, amend)
        telling.require(spec)
        code = freeze_code(home, spec)
        confirmed = agreed_on(world, spec, code, options, only=only, check=check, up_to=up_to)
        confirmed = confirmed.model_copy(update={"created_at": home.timeline()})  # the wait for an answer costs nothing
        confirmed.save(folder)
        sharing.share(ledger, home, confirmed, code)
        open_books(ledger, confirmed, first_row(confirmed))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | typer.Abort):
            strike(ledger, spec.run)  # it may come when the books are open already
            say("nothing was rented", err=True)
        if world:
            world.leave(spec.run)
        sharing.unshare(ledger, spec.run)
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return world, confirmed


def carry_out(world: World, spec: RunSpec, options: DriveOptions) -> None:
    """Bring the run to its end, show it, and exit with its code; or have the background do so."""
    from orchestrator.cli import failover
    from orchestrator.cli.background import detach
    from orchestrator.runner import drive
    from orchestrator.world import sharing

    if options.queue:
        sharing.queue(world.ledger, spec.run)
        say(f"{spec.run} waits for a worker: gpuplan status --watch {spec.run} looks on", err=options.json)
        return
    if options.detach:
        detach(world.home, world.ledger, spec, json=options.json, events=options.events)
        return

    def again(wanted: RunSpec, up_to: Decimal) -> tuple[World, RunSpec]:
        return prepared(world.home, world.ledger, wanted, options, up_to=up_to)

    while True:
        with open_views(options) as view, telling.about(world, spec, view) as told:
            result = drive(world, spec, told.view, attended=not options.yes and sys.stdin.isatty())
            told.ended(result)
        if (found := failover.elsewhere(world, spec, result, again)) is None:
            break
        world, spec = found
    try:
        show_end(world.ledger, spec, json=options.json, exit_code=int(result.exit_code))
    except BrokenPipeError:  # how it ended is said by the exit code all the same
        discard_output()
    if spec.world.throwaway:
        from orchestrator.world import tidy

        tidy.clear(tidy.litter(world.home, world.ledger))
    if result.left:
        raise StillRunning(
            "these may still cost money: " + "; ".join(result.left), remedy=f"gpuplan down {spec.run} ends them"
        )
    for fault in result.unfired:
        say(f"the fault {fault} never happened: what it was to show was not shown", err=True)
    raise typer.Exit(int(result.exit_code))
