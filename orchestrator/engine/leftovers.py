"""What a provider lists under a run's name, whatever the ledger knows of it: found by name, ended, written down."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from orchestrator.engine import gone
from orchestrator.engine.context import Context
from orchestrator.engine.effects import NotGone
from orchestrator.engine.names import MachineName
from orchestrator.engine.reach import patiently
from orchestrator.ledger.rows import MachineRow
from orchestrator.words.errors import GpuplanError
from orchestrator.words.lifecycle import MachineState
from orchestrator.words.provider import MachineView

NOTE_BYTES = 16384  # kept free for a note when the disk is full: a hundred machines


@dataclass(frozen=True, slots=True)
class Ended:
    """A machine that was found by name and is proven gone; `at`: Unix seconds on the ledger's line."""

    name: str
    id: str
    at: float


def listed(context: Context) -> list[MachineView]:
    """The run's machines that the provider lists now; asked again until it answers, GpuplanError: it never did."""
    found = patiently(context.clock, context.provider.machines, within_s=gone.DESTROY_S, on=(GpuplanError,))
    return [view for view in found if _is_ours(context, view.name)]


def _is_ours(context: Context, name: str) -> bool:
    if row := context.ledger.machines.maybe(name=name):
        return row.run == context.run
    parsed = MachineName.parse(name)
    return parsed is not None and parsed.is_of(context.spec.owner, context.run)


def sweep(context: Context, reason: str) -> list[str]:
    """End what is listed although the ledger ended it, or never had it; return what could not be ended, in words."""
    try:
        views = listed(context)
    except Exception as error:  # noqa: BLE001  an unreadable answer is no proof that nothing is left
        return [f"{context.provider.name} could not be asked what is left: {error}"]
    left = []
    for view in views:
        row = context.ledger.machines.maybe(name=view.name)
        if row and not row.state.is_final and row.provider_id in ("", view.id):
            continue  # it has a destroy of its own
        context.event(f"{view.name}: found by name ({reason}): ending it")
        proof = gone.machine(context.provider, context.clock, view.id)
        if isinstance(proof, NotGone):
            costs = f"${view.price_hour:.2f} an hour; " if view.price_hour is not None else ""
            left.append(f"{view.name} ({costs}{proof.why})")
        elif row:
            write_down(context, Ended(view.name, view.id, proof.at.timestamp()))
    return left


def end_unwritten(context: Context) -> str:
    """End the run's machines though the ledger may not take a word of it; return what was done, in words."""
    try:
        views = listed(context)
    except GpuplanError as error:
        return f"{context.provider.name} could not be asked: {error.message}"
    said, ended = [], []
    proofs = context.clock.gather([partial(gone.machine, context.provider, context.clock, v.id) for v in views])
    for view, proof in zip(views, proofs, strict=True):
        if isinstance(proof, NotGone):
            said.append(f"{view.name} was not ended ({proof.why})")
        else:
            said.append(f"{view.name} was ended")
            ended.append(Ended(view.name, view.id, proof.at.timestamp()))
    _note(context.folder, ended)
    return "; ".join(said) or f"{context.provider.name} lists no machine of this run"


def write_down(context: Context, ended: Ended) -> None:
    """Give a machine of the ledger its id and its end, though the ledger may have had another opinion of it."""
    ledger, key = context.ledger, {"name": ended.name}
    row = ledger.machines.get(**key)
    if row.provider_id not in ("", ended.id):
        return  # another machine of the same name: this one's span is its own
    born = row.accepted_at or row.sent_at
    ledger.machines.change(key, provider_id=ended.id, accepted_at=born)
    if row.state.is_final:
        _prolong(context, row, ended.at)
    else:
        ledger.gone(ended.name, "found by name", MachineState.DESTROYED, ended.at)


def _prolong(context: Context, row: MachineRow, at: float) -> None:
    """It lived longer than was thought: whoever paid for it last paid until then."""
    context.ledger.machines.change({"name": row.name}, gone_at=at)
    if charges := context.ledger.charges.all(machine=row.name):
        last = charges[-1]
        context.ledger.charges.change({"machine": last.machine, "run": last.run, "phase": last.phase}, until=at)


# -- a note beside the ledger ------------------------------------------------------------------------------------------


def _file(folder: Path) -> Path:
    return folder / "ended-unwritten"


def reserve(folder: Path) -> None:
    """Make the room for a note now: on a full disk an old file can be written over, and no new one made."""
    if not _file(folder).exists():
        _file(folder).write_bytes(b" " * NOTE_BYTES)


def _note(folder: Path, ended: list[Ended]) -> None:
    """Keep what the ledger cannot take now; without a reserved file it is lost, and the ledger asks again later."""
    text = json.dumps([asdict(one) for one in ended]).encode()
    with contextlib.suppress(OSError):
        if len(text) <= NOTE_BYTES:
            with _file(folder).open("r+b") as file:
                file.write(text.ljust(NOTE_BYTES))


def recall(context: Context) -> None:
    """Write into the ledger what a note says of machines that ended while nothing could be written."""
    try:
        found = json.loads(_file(context.folder).read_text() or "[]")
    except (OSError, ValueError):
        return  # there is no note
    for one in found:
        if context.ledger.machines.maybe(name=str(one["name"])):
            write_down(context, Ended(str(one["name"]), str(one["id"]), float(one["at"])))
    _note(context.folder, [])
