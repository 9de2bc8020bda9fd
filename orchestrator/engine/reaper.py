"""Ends what nobody ends any more, with nothing to go by but names: from another computer, with an empty ledger."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from orchestrator.engine import gone
from orchestrator.engine.names import Due
from orchestrator.words.ports import Capability, MachineView, Provider, VolumeView
from orchestrator.words.waiting import Clock


@dataclass(frozen=True, slots=True)
class Found:
    """One machine or volume of gpuplan's at a provider. price_hour None: the provider does not say."""

    provider: str
    kind: str  # machine | volume
    id: str
    name: str
    price_hour: Decimal | None
    owner: str  # "": no name of ours, only its beginning
    deadline: datetime | None  # when it was to be gone; None: the name does not say


def survey(provider: Provider) -> list[Found]:
    """Everything at this provider whose name begins as ours do, whoever made it."""
    views: list[MachineView | VolumeView] = [*provider.machines()]
    if Capability.VOLUMES in provider.capabilities:
        views += provider.volumes()
    return [_found(provider.name, view) for view in views]


def _found(provider: str, view: MachineView | VolumeView) -> Found:
    kind = "machine" if isinstance(view, MachineView) else "volume"
    due = Due.parse(view.name)
    deadline = datetime.fromtimestamp(due.deadline, UTC) if due else None
    return Found(provider, kind, view.id, view.name, view.price_hour, due.owner if due else "", deadline)


def overdue(found: Iterable[Found], owner: str, now: datetime, ended: frozenset[str] = frozenset()) -> list[Found]:
    """This owner's machines and volumes that should be gone: past their deadline, or machines named in `ended`.

    `ended`: machines whose run is over, as far as the ledger of this computer knows.
    """
    mine = [f for f in found if f.owner == owner]
    return [f for f in mine if (f.deadline and f.deadline < now) or (f.kind == "machine" and f.name in ended)]


def end(provider: Provider, clock: Clock, found: Found) -> gone.Proof:
    """End it, and wait for proof."""
    by_kind = gone.machine if found.kind == "machine" else gone.volume
    return by_kind(provider, clock, found.id)
