"""The command that offers a run's results to others: a branch and a pull request, models; shown, asked, then sent."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.common import Json, RunName, find_run, open_home, print_json
from orchestrator.report.console import say
from orchestrator.words.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.cli.outgoing import Model, Offer
    from orchestrator.ledger import Ledger
    from orchestrator.words.model import Plan
    from orchestrator.words.spec import RunSpec


def publish(
    run: RunName = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Push to a stand-in on this computer; ask and reach nobody.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Write branch and texts there; send and ask nothing."),
    ] = None,
    agree: Annotated[
        list[str] | None,
        typer.Option("--agree", metavar="DIGEST", help="Send what was shown with this digest, without asking; repeat."),
    ] = None,
    artifacts: Annotated[
        Path | None,
        typer.Option("--artifacts", metavar="DIR", help="Where the run's artifacts were pulled to, if elsewhere."),
    ] = None,
    plan: Annotated[
        str | None,
        typer.Option("--plan", metavar="DIR|shipped", help="Whose texts count; left out: those of the run's own plan."),
    ] = None,
    json: Json = False,
) -> None:
    """Offer a run's results to others: show branch, pull request and models, ask, then run gh and hf."""
    from orchestrator.cli import outgoing, sending
    from orchestrator.cli.collecting import Desk, secrets_of

    home, ledger = open_home()
    spec = find_run(home, ledger, run)
    _require_a_result(ledger, spec, dry_run=dry_run)
    found = outgoing.results(home, ledger, spec, artifacts)
    desk = Desk(home, ledger, spec, _plan_of(spec, plan), found, dry_run, secrets_of(spec.plan))
    repository = desk.repository()
    if out is not None:
        offer = desk.offer(repository, fetch=dry_run) if dry_run or repository.has(desk.base) else None
        written = sending.write(out, repository, offer, desk.files(), desk.words(offer), desk.models(offer))
        _tell({"run": spec.run, "folder": str(out.absolute()), "files": written}, f"{out}: {', '.join(written)}", json)
        return
    offer = desk.offer(repository, fetch=True)
    offered = desk.models(offer)
    for line in sending.shown(offer, offered):
        say(line, err=json)
    if dry_run:
        how = "pushed to" if repository.push(offer.branch, offer.upstream) else "already in"
        said = f"{how} the stand-in {desk.mirror}: nobody else was reached"
        _tell(sending.document(spec.run, offer, offered, {}), said, json)
        return
    agreed = _agreed(offer, [one for one in offered if not one.missing], agree or [], json=json)
    outbox = sending.Outbox(ledger, spec.run, repository, desk.folder, err=json)
    done = outbox.send(offer if offer.digest in agreed else None, [one for one in offered if one.digest in agreed])
    _tell(sending.document(spec.run, offer, offered, done), "" if done else "nothing was sent", json)


def _require_a_result(ledger: Ledger, spec: RunSpec, *, dry_run: bool) -> None:
    """UsageError: the run did not succeed, or was a rehearsal and strangers would read of it."""
    from orchestrator.words.lifecycle import Outcome

    row = ledger.runs.get(id=spec.run)
    if row.outcome != Outcome.SUCCEEDED:
        how = str(row.outcome).replace("_", " ") if row.outcome else "it has not ended"
        raise UsageError(f"{spec.run} has no result to publish: {how}", remedy=f"gpuplan status {spec.run}")
    if spec.world.dry_run and not dry_run:
        raise UsageError(
            f"{spec.run} was a rehearsal: what it measured is no GPU's, and goes to nobody",
            remedy=f"gpuplan publish {spec.run} --dry-run rehearses this too",
        )


def _plan_of(spec: RunSpec, named: str | None) -> Plan:
    """The run's plan as its folder has it now: its texts may have been mended since. UsageError: it is gone."""
    from orchestrator.config import SHIPPED, load_plan

    if named is not None:
        return load_plan(None if named == SHIPPED else Path(named))
    if spec.plan.folder and not Path(spec.plan.folder).is_dir():
        raise UsageError(f"the plan's folder {spec.plan.folder} is gone", remedy="--plan DIR names another one")
    return load_plan(Path(spec.plan.folder) if spec.plan.folder else None)


def _agreed(offer: Offer, offered: Sequence[Model], given: Sequence[str], *, json: bool) -> set[str]:
    """The digests of what somebody wants sent.

    UsageError: a digest that was given stands for nothing of this, or nobody is there to be asked.
    """
    from orchestrator.cli import sending

    there = {offer.digest, *(one.digest for one in offered)}
    if strange := next((one for one in given if one not in there), ""):
        raise UsageError(
            f"nothing that would be sent now has the digest {strange}: it has changed since, or is not at home",
            remedy="look at what is shown above, and agree to that",
        )
    if given:
        return set(given)
    if not sys.stdin.isatty():
        what = " ".join(f"--agree {one}" for one in (offer.digest, *(one.digest for one in offered)))
        raise UsageError("nobody is there to be asked", remedy=f"what is shown above is sent with {what}")
    agreed = set()
    if typer.confirm(f"Push the branch, and open a draft pull request at {offer.name}?", err=json):
        agreed.add(offer.digest)
    for one in offered:
        if typer.confirm(f"Upload {sending.weight(one)} to {sending.place(one)} on the model hub?", err=json):
            agreed.add(one.digest)
    return agreed


def _tell(document: object, line: str, json: bool) -> None:
    if json:
        print_json(document)
    elif line:
        say(line)
