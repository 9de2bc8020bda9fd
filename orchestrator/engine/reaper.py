"""Ends what nobody ends any more, with nothing to go by but names: from another computer, with an empty ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from orchestrator.engine import gone
from orchestrator.engine.effects import NotGone
from orchestrator.engine.names import Due
from orchestrator.words.errors import GpuplanError
from orchestrator.words.provider import Capability, MachineView, Provider, VolumeView
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


@dataclass
class Reaped:
    """What came of a reap. `left`: what may still cost money, in words; `others`: what was left alone."""

    ended: list[tuple[Found, gone.Proven]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    others: list[Found] = field(default_factory=list)


def reap(
    providers: Iterable[Provider], clock: Clock, owner: str, ended: frozenset[str], agreed: Callable[[Found], bool]
) -> Reaped:
    """End everything of this owner's that is overdue (see `overdue`); a volume only if that is `agreed`.

    One provider that cannot be asked keeps nothing alive at the others.
    """
    reaped = Reaped()
    for provider in providers:
        try:
            found = survey(provider)
        except GpuplanError as error:
            reaped.left.append(f"{provider.name} could not be asked: {error.message}")
            continue
        late = overdue(found, owner, clock.wall(), ended)
        reaped.others += [one for one in found if one not in late]
        for one in late:
            if one.kind == "volume" and not agreed(one):
                reaped.others.append(one)
                continue
            proof = end(provider, clock, one)
            if isinstance(proof, NotGone):
                reaped.left.append(f"{one.name} ({proof.why})")
            else:
                reaped.ended.append((one, proof))
    return reaped


def end(provider: Provider, clock: Clock, found: Found) -> gone.Proof:
    """End it, and wait for proof."""
    by_kind = gone.machine if found.kind == "machine" else gone.volume
    return by_kind(provider, clock, found.id)
