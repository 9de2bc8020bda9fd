"""The command that rents: run. Preview, one question, then the run until its end."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.app import app
from orchestrator.cli.common import ConfigFile, Detach, Json, PlanFolder, Yes, open_home, print_json, read_plan
from orchestrator.words.errors import OverBudget, StillRunning, UsageError
from orchestrator.words.lifecycle import RunState

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.words.model import Plan
    from orchestrator.words.spec import RunSpec
    from orchestrator.world.home import Home


@dataclass(frozen=True, slots=True)
class Way:
    """How a command drives a run. `yes`: nobody is asked anything; `detach`: in the background."""

    yes: bool
    json: bool
    detach: bool


@dataclass(frozen=True, slots=True)
class Wishes:
    """The flags of `run` that shape it."""

    dry_run: bool
    spot: bool
    spot_or_demand: bool
    provider: str | None
    ssh_host: str
    ssh_key: Path | None
    stores: tuple[str, ...]
    force: bool
    only: bool
    cloud: Path | None
    faults: tuple[str, ...]
    deadman_minutes: float | None


@app.command()
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
    store: Annotated[
        list[str] | None, typer.Option("--store", metavar="URL", help="Where artifacts go: s3://..., gs://...")
    ] = None,
    budget: Annotated[str | None, typer.Option("--budget", metavar="USD", help="Cap of the whole run.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Run steps again that are done.")] = False,
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
    plan: PlanFolder = None,
    config: ConfigFile = None,
    detach: Detach = False,
    json: Json = False,
) -> None:
    """Run phases: rent what they need, do their steps, check, upload, and leave nothing running."""
    wishes = Wishes(
        dry_run, spot, spot_or_demand, provider, ssh_host, ssh_key, tuple(store or ()), force, only, cloud,
        tuple(fault or ()), deadman,
    )  # fmt: skip
    _check_flags(wishes)
    loaded = read_plan(plan, config, {"budget_usd": budget})
    home, ledger = open_home()
    if all(row.state == RunState.DONE for row in ledger.runs.all()):
        home.timeline.anchor()  # nothing is being counted: times may follow the wall clock again
    spec = _draft(home, loaded, tuple(phases), wishes)
    begin(home, ledger, spec, Way(yes=yes, json=json, detach=detach), only=only, check=check)


def _check_flags(wishes: Wishes) -> None:
    if wishes.faults and not wishes.dry_run:
        raise UsageError("--fault rehearses a disaster", remedy="it needs --dry-run")
    if wishes.cloud and not wishes.dry_run:
        raise UsageError("--cloud is the folder of a rehearsed cloud", remedy="it needs --dry-run")
    if wishes.spot and wishes.spot_or_demand:
        raise UsageError("--spot and --spot-or-demand exclude each other")
    if wishes.ssh_host and (wishes.provider or wishes.spot or wishes.spot_or_demand):
        raise UsageError("--ssh-host rents nothing", remedy="leave --provider and --spot out")
    if wishes.ssh_key and not (wishes.ssh_host and wishes.ssh_key.is_file()):
        raise UsageError(f"--ssh-key {wishes.ssh_key}: no such file, or no --ssh-host to use it for")
    host = wishes.ssh_host.rpartition("@")[2].partition(":")[0]
    if wishes.dry_run and host and not (host == "localhost" or host.startswith("127.")):
        raise UsageError(
            f"a rehearsal's hub and stores are on this computer: {host} cannot reach them",
            remedy="rehearse on localhost, or leave --dry-run out",
        )


def _draft(home: Home, plan: Plan, asked: tuple[str, ...], wishes: Wishes) -> RunSpec:
    """The run as it was asked for; provider and place are chosen in `begin`."""
    from orchestrator.plan import resolve
    from orchestrator.words.spec import RunSpec, WorldSpec

    resolved = resolve(plan, asked)
    name = home.new_run()
    folder = home.run_folder(name)
    kept = os.environ.get("GPUPLAN_REHEARSAL", "") if wishes.dry_run else ""
    place = Path(kept).parent if kept else wishes.cloud or folder / "rehearsal"
    cloud = str(place.resolve()) if wishes.dry_run else ""
    stores = wishes.stores or plan.settings.stores
    if wishes.dry_run and not stores and any(p.phase.artifacts for p in resolved):
        stores = ("s3://gpuplan-rehearsal/artifacts",)
    return RunSpec(
        run=name,
        owner=home.owner(),
        plan=plan,
        asked=tuple(p.phase.name for p in resolved),
        whole_plan=len(resolved) == len(plan.phases),
        world=WorldSpec(
            provider="ssh-host" if wishes.ssh_host else wishes.provider or "",
            dry_run=wishes.dry_run,
            cloud=cloud,
            keep_cloud=wishes.cloud is not None or bool(kept),
            rehearsal=kept,
            faults=wishes.faults,
            ssh_host=wishes.ssh_host,
            ssh_key=str(wishes.ssh_key.absolute()) if wishes.ssh_key else "",
        ),
        place=None,
        spot=wishes.spot,
        spot_or_demand=wishes.spot_or_demand,
        force=wishes.force,
        deadman_minutes=wishes.deadman_minutes,
        stores=stores,
        pull_root=str(folder / "pulled") if wishes.dry_run else str(Path.cwd()),
        created_at=home.timeline(),
    )


def begin(home: Home, ledger: Ledger, spec: RunSpec, way: Way, *, only: bool = False, check: bool = False) -> None:
    """Choose, show, ask, freeze, and drive a new run."""
    from orchestrator.cli.prepare import prepare
    from orchestrator.engine.books import open_books, strike
    from orchestrator.report import pages
    from orchestrator.runner import first_row
    from orchestrator.world import session

    json = way.json
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the run is driven, it means what Ctrl-C means
    folder = home.run_folder(spec.run)
    folder.mkdir(parents=True, mode=0o700)
    rehearsal = None
    try:
        rehearsal = session.open_rehearsal(spec) if spec.world.dry_run else None
        ready = prepare(home, ledger, spec, rehearsal.facts if rehearsal else {}, only=only, check=check)
        if ready.up_to_date:
            typer.echo(f"up to date as of {ready.up_to_date}", err=json)
            if json:
                print_json({"run": None, "state": "DONE", "outcome": "succeeded", "up_to_date": ready.up_to_date})
            raise typer.Exit
        try:
            pages.preview(ready.preview, ready.spec, ready.volume, err=json)
        except BrokenPipeError:
            if not way.yes:
                raise
            _hush()  # nobody reads; what was asked for is done all the same
        if ready.preview.over_budget:
            raise OverBudget("; ".join(ready.preview.over_budget), remedy="raise the budget, or ask for less")
        if not way.yes and not sys.stdin.isatty():
            raise UsageError("nobody is there to confirm", remedy="--yes runs without asking")
        if not way.yes and not typer.confirm("Run it?", err=json):
            raise typer.Abort
        ready.spec.save(folder)
        open_books(ledger, ready.spec, first_row(ready.spec))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | typer.Abort):
            strike(ledger, spec.run)  # it may come when the books are open already
            typer.echo("nothing was rented", err=True)
        session.close_rehearsal(spec, rehearsal)
        shutil.rmtree(folder, ignore_errors=True)
        raise
    drive(home, ledger, ready.spec, way)


def require_open_secrets(ledger: Ledger, spec: RunSpec) -> None:
    """UsageError unless every secret is set that a step still to do needs; the machines that wait are named."""
    from orchestrator.ledger import tables
    from orchestrator.plan import resolve
    from orchestrator.world.session import require_secrets

    done = {s["id"] for s in ledger.all(tables.steps, run=spec.run) if s["state"] in ("DONE", "UP_TO_DATE")}
    steps = [s for p in resolve(spec.plan, spec.asked) for s in p.steps if s.id not in done]
    require_secrets(spec, {name for step in steps for name in step.secrets})


def drive(home: Home, ledger: Ledger, spec: RunSpec, way: Way) -> None:
    """Bring the run to its end, show it, and exit with its code; or have the background do so."""
    from orchestrator import runner
    from orchestrator.cli.background import detach
    from orchestrator.report.views import open_view

    if way.detach:
        detach(home, ledger, spec, json=way.json)
        return
    with open_view(err=way.json) as view:
        result = runner.drive(home, spec, view, attended=not way.yes and sys.stdin.isatty())
    try:
        show_end(home, ledger, spec, json=way.json)
    except BrokenPipeError:  # how it ended is said by the exit code all the same
        _hush()
    if result.left:
        raise StillRunning(
            "these may still cost money: " + "; ".join(result.left), remedy=f"gpuplan down {spec.run} ends them"
        )
    raise typer.Exit(int(result.exit_code))


def _hush() -> None:
    """Whoever read has gone: from now on nothing is said on standard output."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_end(home: Home, ledger: Ledger, spec: RunSpec, *, json: bool) -> None:
    """The final status: one JSON document, or the tables of deliverables and cost."""
    from orchestrator.report import documents, pages

    pages.end(ledger, spec, home.run_folder(spec.run), err=json)
    if json:
        document: dict[str, Any] = documents.status(ledger, spec.run)
        print_json(document)
