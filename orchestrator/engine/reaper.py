"""Ends what nobody ends any more, with nothing to go by but names: from another computer, with an empty ledger.

A machine is called gpuplan-OWNER-RUN-PHASE-N-tDEADLINE, a volume gpuplan-OWNER-vol-PLAN-RUN-tDEADLINE.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from orchestrator.words.errors import GpuplanError
from orchestrator.words.ports import Capability, Clock, MachineView, Provider, VolumeView

DESTROY_S = 600.0  # how long one of them is waited for, in the cloud's time
POLL_S = 5.0
_NAME = re.compile(r"gpuplan-(?P<owner>[^-]+)-.*-t(?P<deadline>\d{9,11})")


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
    name = _NAME.fullmatch(view.name)
    deadline = datetime.fromtimestamp(int(name["deadline"]), UTC) if name else None
    return Found(provider, kind, view.id, view.name, view.price_hour, name["owner"] if name else "", deadline)


def overdue(found: Iterable[Found], owner: str, now: datetime, ended: frozenset[str] = frozenset()) -> list[Found]:
    """This owner's machines and volumes that should be gone: past their deadline, or machines named in `ended`.

    `ended`: machines whose run is over, as far as the ledger of this computer knows.
    """
    mine = [f for f in found if f.owner == owner]
    return [f for f in mine if (f.deadline and f.deadline < now) or (f.kind == "machine" and f.name in ended)]


def end_machine(provider: Provider, clock: Clock, machine_id: str) -> str:
    """Destroy it and wait for proof: accepted, absent from the list, unknown to GET. "" or why it is not gone."""

    def gone() -> bool:
        provider.destroy(machine_id)
        listed = any(v.id == machine_id for v in provider.machines())
        return not listed and provider.machine(machine_id) is None

    return insist(clock, gone)


def end_volume(provider: Provider, clock: Clock, volume_id: str) -> str:
    """Delete a volume and wait until the list lacks it. "" or why it is not gone."""

    def gone() -> bool:
        provider.destroy_volume(volume_id)
        return all(v.id != volume_id for v in provider.volumes())

    return insist(clock, gone)


def insist(clock: Clock, gone: Callable[[], bool], within_s: float = DESTROY_S) -> str:
    """Try until it is gone. "" or why it is not: what was said last, and errors of the provider count as not yet."""
    give_up, why = clock.now() + timedelta(seconds=clock.real(within_s)), "it is still listed"
    while clock.now() < give_up:
        try:
            if gone():
                return ""
            why = "it is still listed"
        except GpuplanError as error:
            why = error.message
        clock.sleep(POLL_S)
    return why
