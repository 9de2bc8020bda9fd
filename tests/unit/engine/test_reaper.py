"""What another computer ends by names alone: its own, once it is overdue; and what it says of the rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, cast

import pytest

from orchestrator.engine import gone, reaper
from orchestrator.engine.reaper import Found
from orchestrator.words.errors import ProviderUnavailable
from orchestrator.words.provider import Capability, VolumeView
from tests.unit.engine.stepping import START, Cloud, SteppingClock

OURS, DUE = "abcdefgh", int(START.timestamp())


@dataclass
class Disks(Cloud):
    """With volumes. `stuck`: what every delete is refused for."""

    disks: dict[str, str] = field(default_factory=dict)
    stuck: str = ""
    capabilities = frozenset({Capability.VOLUMES})

    def volumes(self) -> list[VolumeView]:
        return [VolumeView(i, name, 10, "A", Decimal("0.01")) for i, name in self.disks.items()]

    def destroy(self, machine_id: str) -> None:
        if self.stuck:
            raise ProviderUnavailable(self.stuck)
        super().destroy(machine_id)

    def destroy_volume(self, volume_id: str) -> None:
        self.disks.pop(volume_id, None)


def machine(owner: str, deadline: int, number: int = 1) -> str:
    return f"gpuplan-{owner}-1101-aaaa-only-{number}-t{deadline}"


def volume(owner: str, deadline: int) -> str:
    return f"gpuplan-{owner}-vol-data-1101-aaaa-t{deadline}"


def reaped(*clouds: Disks, passed: float = 1.0, ended: tuple[str, ...] = (), agreed: bool = True) -> reaper.Reaped:
    return reaper.reap(cast("Any", clouds), SteppingClock(passed), OURS, frozenset(ended), lambda _: agreed)


@pytest.mark.parametrize(("owner", "late", "over"), [(OURS, 1, True), (OURS, 0, False), ("zzzzzzzz", 1, False)])
def test_ones_own_is_overdue_once_its_deadline_has_passed(owner: str, late: int, *, over: bool):
    """Not at the very second, and nobody else's however late it is."""
    one = Found("p", "machine", "i", machine(owner, DUE), None, owner, START)
    assert reaper.overdue([one], OURS, START + timedelta(seconds=late)) == [one] * over


def test_the_machine_of_a_run_that_is_over_is_overdue_at_once():
    """So says the ledger here; a volume of that name is kept until its deadline."""
    one, other = (Found("p", kind, "i", "name", None, OURS, None) for kind in ("machine", "volume"))
    assert reaper.overdue([one, other], OURS, START, frozenset({"name"})) == [one]


def test_what_is_overdue_is_ended_and_the_rest_is_named():
    """Each with the moment of its proof; another owner's, and what has time left, is left alone."""
    mine, theirs, later = machine(OURS, DUE), machine("zzzzzzzz", DUE), machine(OURS, DUE + 100)
    cloud = Disks({"a": mine, "b": theirs, "c": later}, disks={"v": volume(OURS, DUE)})
    found = reaped(cloud)
    assert [(one.id, proof) for one, proof in found.ended] == [
        (name, gone.Proven(START + timedelta(seconds=1))) for name in ("a", "v")
    ]
    assert ([one.id for one in found.others], found.left) == (["b", "c"], [])
    assert (cloud.there, cloud.disks) == ({"b": theirs, "c": later}, {})


def test_a_volume_is_ended_only_if_that_is_agreed():
    """What is on it cannot be had again."""
    cloud = Disks(disks={"v": volume(OURS, DUE)})
    found = reaped(cloud, agreed=False)
    assert ([one.id for one in found.others], found.ended) == (["v"], [])
    assert list(cloud.disks) == ["v"]


def test_a_provider_that_cannot_be_asked_keeps_nothing_alive_elsewhere():
    """It is said that nobody knows what it has; the other one's machine is ended."""
    away, there = Disks(refusals=1), Disks({"a": machine(OURS, DUE)})
    found = reaped(away, there)
    assert found.left == ["p could not be asked: 503"]
    assert [one.id for one, _ in found.ended] == ["a"]


def test_what_cannot_be_ended_is_said_with_the_reason():
    """It may still cost money."""
    name = machine(OURS, DUE)
    found = reaped(Disks({"a": name}, stuck="no deletes today"))
    assert (found.ended, found.left) == ([], [f"{name} (no deletes today)"])
