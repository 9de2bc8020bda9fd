"""The command that rents: run. Preview, one question, then the run until its end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import (
    ConfigFile,
    Detach,
    Json,
    PlanName,
    Yes,
    open_home,
    open_world,
    print_json,
    read_plan,
)
from orchestrator.report.console import say
from orchestrator.words.errors import NoMachine, OverBudget, StillRunning, UsageError
from orchestrator.words.lifecycle import RunState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.ledger import Ledger
    from orchestrator.plan import PhaseRun
    from orchestrator.transport.code import Code
    from orchestrator.words.model import Plan
    from orchestrator.words.spec import RunSpec
    from orchestrator.world.home import Home
    from orchestrator.world.world import World


HOST_KEY = re.compile(r"SHA256:[A-Za-z0-9+/]{43}|[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True, slots=True)
class DriveOptions:
    """How a command drives a run. `yes`: nobody is asked anything; `detach`: in the background."""

    yes: bool
    json: bool
    detach: bool


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The flags of `run` that shape it."""

    dry_run: bool
    spot: bool
    spot_or_demand: bool
    provider: str | None
    ssh_host: str
    ssh_key: Path | None
    host_key: str
    stores: tuple[str, ...]
    force: tuple[str, ...]
    only: bool
    cloud: Path | None
    faults: tuple[str, ...]
    deadman_minutes: float | None


def run(
    phases: Annotated[list[str], typer.Argument(metavar="PHASE...|all", help="Phases of the plan, or all of them.")],
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Rehearse against emulated clouds on this computer.")
    ] = False,
    yes: Yes = False,
    spot: Annotated[bool, typer.Option("--spot", help="Interruptible machines only.")] = False,
    spot_or_demand: Annotated[
        bool, typer.Option("--spot-or-demand", help="Interruptible machines, on-demand ones where none is to be had.")
    ] = False,
    provider: Annotated[str | None, typer.Option("--provider", metavar="NAME", help="runpod or lambda.")] = None,
    ssh_host: Annotated[
        str, typer.Option("--ssh-host", metavar="USER@HOST:PORT", help="Use this machine; nothing is rented.")
    ] = "",
    ssh_key: Annotated[
        Path | None,
        typer.Option("--ssh-key", metavar="FILE", help="Private key for --ssh-host (default: gpuplan's own)."),
    ] = None,
    host_key: Annotated[
        str, typer.Option("--host-key", metavar="KEY", help="Host key of --ssh-host: SHA256:..., or TYPE BASE64.")
    ] = "",
    store: Annotated[
        list[str] | None, typer.Option("--store", metavar="URL", help="Where artifacts go: s3://..., gs://...")
    ] = None,
    budget: Annotated[str | None, typer.Option("--budget", metavar="USD", help="Cap of the whole run.")] = None,
    force: Annotated[
        list[str] | None,
        typer.Option("--force", metavar="STEP|all", help="Run this step, and all that need it, though they are done."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Look again at what is done, on the volume itself; rents a machine.")
    ] = False,
    only: Annotated[bool, typer.Option("--only", help="Refuse when steps of other phases are missing.")] = False,
    cloud: Annotated[
        Path | None, typer.Option("--cloud", metavar="DIR", help="Keep the rehearsed cloud here, for more runs.")
    ] = None,
    fault: Annotated[
        list[str] | None, typer.Option("--fault", metavar="NAME[@STEP]", help="Rehearse a disaster (--dry-run).")
    ] = None,
    deadman: Annotated[
        float | None,
        typer.Option(
            "--deadman",
            metavar="MINUTES",
            min=0.05,
            help="Without a sign of life from here for so long, a machine stops its steps and ends its bill.",
        ),
    ] = None,
    plan: PlanName = None,
    config: ConfigFile = None,
    detach: Detach = False,
    json: Json = False,
) -> None:
    """Run phases: rent what they need, do their steps, check, upload, and leave nothing running.

    Without --plan the plan is the nearest folder upwards with gpuplan.yaml or phases/; where there is none, phases of
    the plan that comes with gpuplan are meant by their names.
    """
    options = RunOptions(
        dry_run, spot, spot_or_demand, provider, ssh_host, ssh_key, host_key, tuple(store or ()), tuple(force or ()),
        only, cloud,
        tuple(fault or ()), deadman,
    )  # fmt: skip
    _check_flags(options)
    loaded = read_plan(plan, config, phases, {"budget_usd": budget})
    home, ledger = open_home()
    if all(row.state == RunState.DONE for row in ledger.runs.all()):
        home.timeline.anchor()  # nothing is being counted: times may follow the wall clock again
    spec = _draft(home, loaded, tuple(phases), options)
    begin(home, ledger, spec, DriveOptions(yes=yes, json=json, detach=detach), only=only, check=check)


def _check_flags(options: RunOptions) -> None:
    if options.faults and not options.dry_run:
        raise UsageError("--fault rehearses a disaster", remedy="it needs --dry-run")
    if options.cloud and not options.dry_run:
        raise UsageError("--cloud is the folder of a rehearsed cloud", remedy="it needs --dry-run")
    if options.spot and options.spot_or_demand:
        raise UsageError("--spot and --spot-or-demand exclude each other")
    if options.ssh_host and (options.provider or options.spot or options.spot_or_demand):
        raise UsageError("--ssh-host rents nothing", remedy="leave --provider and --spot out")
    if options.ssh_key and not (options.ssh_host and options.ssh_key.is_file()):
        raise UsageError(f"--ssh-key {options.ssh_key}: no such file, or no --ssh-host to use it for")
    if options.host_key and not (options.ssh_host and HOST_KEY.fullmatch(options.host_key)):
        raise UsageError(
            "--host-key is SHA256:... or `ssh-ed25519 AAAA...` of --ssh-host",
            remedy="ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub on that machine prints it",
        )
    if options.ssh_key:
        from orchestrator.transport.keys import require_private

        require_private(options.ssh_key)
    host = options.ssh_host.rpartition("@")[2].partition(":")[0]
    if options.dry_run and host and not (host == "localhost" or host.startswith("127.")):
        raise UsageError(
            f"a rehearsal's hub and stores are on this computer: {host} cannot reach them",
            remedy="rehearse on localhost, or leave --dry-run out",
        )


def _check_faults(options: RunOptions, resolved: Sequence[PhaseRun]) -> None:
    if options.faults:
        from orchestrator.cli.disasters import require_real

        require_real(options.faults, resolved)


def _draft(home: Home, plan: Plan, asked: tuple[str, ...], options: RunOptions) -> RunSpec:
    """The run as it was asked for; provider and place are chosen in `begin`."""
    from orchestrator.plan import forced, resolve
    from orchestrator.words.spec import RunSpec, WorldSpec

    resolved = resolve(plan, asked)
    _check_faults(options, resolved)
    name = home.new_run()
    folder = home.run_folder(name)
    kept = os.environ.get("GPUPLAN_REHEARSAL", "") if options.dry_run else ""
    place = Path(kept).parent if kept else options.cloud or folder / "rehearsal"
    cloud = str(place.resolve()) if options.dry_run else ""
    stores = options.stores or plan.settings.stores
    if options.dry_run and not stores and any(p.phase.artifacts for p in resolved):
        stores = ("s3://gpuplan-rehearsal/artifacts",)
    return RunSpec(
        run=name,
        owner=home.owner(),
        plan=plan,
        asked=tuple(p.phase.name for p in resolved),
        whole_plan=len(resolved) == len(plan.phases),
        world=WorldSpec(
            provider="ssh-host" if options.ssh_host else options.provider or "",
            dry_run=options.dry_run,
            cloud=cloud,
            keep_cloud=options.cloud is not None or bool(kept),
            rehearsal=kept,
            faults=options.faults,
            ssh_host=options.ssh_host,
            ssh_key=str(options.ssh_key.absolute()) if options.ssh_key else "",
            host_key=options.host_key,
        ),
        place=None,
        spot=options.spot,
        spot_or_demand=options.spot_or_demand,
        force=forced(resolved, options.force),
        deadman_minutes=options.deadman_minutes,
        stores=stores,
        pull_root=str(folder / "pulled") if options.dry_run else str(Path.cwd()),
        created_at=home.timeline(),
    )


def begin(
    home: Home, ledger: Ledger, spec: RunSpec, options: DriveOptions, *, only: bool = False, check: bool = False
) -> None:
    """Choose, show, ask, freeze, and drive a new run."""
    from orchestrator.engine.books import open_books, strike
    from orchestrator.runner import first_row
    from orchestrator.world.opening import freeze_code

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the run is driven, it means what Ctrl-C means
    folder = home.run_folder(spec.run)
    folder.mkdir(parents=True, mode=0o700)
    world: World | None = None
    try:
        world = open_world(home, ledger, spec)
        code = freeze_code(home, spec)
        confirmed = _confirmed(world, spec, code, options, only=only, check=check)
        confirmed = confirmed.model_copy(update={"created_at": home.timeline()})  # the wait for an answer costs nothing
        confirmed.save(folder)
        open_books(ledger, confirmed, first_row(confirmed))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | typer.Abort):
            strike(ledger, spec.run)  # it may come when the books are open already
            say("nothing was rented", err=True)
        if world:
            world.leave(spec.run)
        shutil.rmtree(folder, ignore_errors=True)
        raise
    carry_out(world, confirmed, options)


def _confirmed(world: World, spec: RunSpec, code: Code, options: DriveOptions, *, only: bool, check: bool) -> RunSpec:
    """The run with provider and place, once it was shown and somebody said yes. Exit: there is nothing to do."""
    from orchestrator.cli import terms
    from orchestrator.cli.proposal import propose
    from orchestrator.report import pages

    json = options.json
    proposal = propose(world, spec, code, only=only, check=check)
    if proposal.up_to_date:
        say(f"{spec.plan.called}: up to date as of {proposal.up_to_date}", err=json)
        if json:
            known = {"plan": spec.plan.name, "up_to_date": proposal.up_to_date}
            print_json({"run": None, "state": "DONE", "outcome": "succeeded", **known})
        raise typer.Exit
    try:
        pages.preview(proposal.preview, proposal.spec, proposal.volume, code, proposal.passed_over, err=json)
        agreed = terms.show(world.home, proposal.spec, err=json)
    except BrokenPipeError:
        if not options.yes:
            raise
        _discard_output()  # nobody reads; what was asked for is done all the same
        agreed = ""
    if proposal.preview.over_budget:
        raise OverBudget("; ".join(proposal.preview.over_budget), remedy="raise the budget, or ask for less")
    if short := proposal.preview.short_of_credit:
        raise NoMachine(f"{proposal.spec.world.provider}: {short}", remedy="add credit, or ask for less")
    if not options.yes and not sys.stdin.isatty():
        raise UsageError("nobody is there to confirm", remedy="--yes runs without asking")
    if not options.yes and not typer.confirm("Run it?", err=json):
        say("nothing was rented", err=json)
        if json:
            print_json({"run": None, "plan": spec.plan.name, "state": "PLANNED", "outcome": None})
        raise typer.Exit
    if agreed:
        world.home.agree(agreed)
    return proposal.spec


def carry_out(world: World, spec: RunSpec, options: DriveOptions) -> None:
    """Bring the run to its end, show it, and exit with its code; or have the background do so."""
    from orchestrator.cli.background import detach
    from orchestrator.report.views import open_view
    from orchestrator.runner import drive

    if options.detach:
        detach(world.home, world.ledger, spec, json=options.json)
        return
    with open_view(err=options.json) as view:
        result = drive(world, spec, view, attended=not options.yes and sys.stdin.isatty())
    try:
        show_end(world.home, world.ledger, spec, json=options.json)
    except BrokenPipeError:  # how it ended is said by the exit code all the same
        _discard_output()
    if result.left:
        raise StillRunning(
            "these may still cost money: " + "; ".join(result.left), remedy=f"gpuplan down {spec.run} ends them"
        )
    for fault in result.unfired:
        say(f"the fault {fault} never happened: what it was to show was not shown", err=True)
    raise typer.Exit(int(result.exit_code))


def _discard_output() -> None:
    """Whoever read has gone: from now on nothing is said on standard output."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_end(home: Home, ledger: Ledger, spec: RunSpec, *, json: bool) -> None:
    """The final status: one JSON document, or the tables of deliverables and cost."""
    from orchestrator.report import documents, pages

    pages.end(ledger, spec, home.run_folder(spec.run), err=json)
    if json:
        print_json(documents.status(ledger, spec, driven=False))
