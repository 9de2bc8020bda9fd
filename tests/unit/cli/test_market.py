"""Which provider and which machines a preview shows: those that are rented then, and why not others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.cli import driving, running
from orchestrator.ledger import open_ledger
from orchestrator.testing import bench
from orchestrator.words.errors import NoMachine, UsageError
from orchestrator.words.lifecycle import Outcome
from orchestrator.words.provider import Offer
from orchestrator.world.home import Home
from tests.unit.cli.desk import Desk

PLAN = """
small:
  machine: {gpu: [RTX-4090]}
  volume: {name: data, size_gb: 10}
  steps: [{name: s, run: s}]
large:
  machine: {gpu: [A100-80GB]}
  volume: {name: data, size_gb: 10}
  steps: [{name: l, run: l}]
none:
  volume: {name: data, size_gb: 10}
  steps: [{name: n, run: n, gpu: false}]
"""
ONE = "large: {machine: {gpu: [A100-80GB]}, volume: {name: data, size_gb: 10}, steps: [{name: l, run: l}]}"


class Spots:
    """A provider that sells interruptible machines with these GPUs only."""

    def __init__(self, provider: Any, *gpus: str) -> None:
        self._provider, self._gpus = provider, gpus

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider, name)

    def offers(self, *, gpus: int, spot: bool, min_cuda: str = "") -> list[Offer]:
        return [
            o for o in self._provider.offers(gpus=gpus, spot=spot, min_cuda=min_cuda) if not spot or o.gpu in self._gpus
        ]


def test_one_hiccup_does_not_move_the_plan(tmp_path: Path):
    """A single 503 at the preview is asked again: the preferred provider is taken, and nothing is said."""
    proposal = Desk(tmp_path, ONE, faults=("unavailable@1",)).propose("all")
    assert (proposal.spec.world.provider, proposal.passed_over) == ("runpod", ())


def test_a_provider_that_is_passed_over_is_named(tmp_path: Path):
    """One that answers none of three tries is, with its reason, before the question."""
    proposal = Desk(tmp_path, ONE, faults=("unavailable@3",), place=None).propose("all")
    (reason,) = proposal.passed_over
    assert (proposal.spec.world.provider, reason.split(":")[0]) == ("lambda", "runpod")
    assert "503" in reason


def test_a_provider_without_a_key_is_named(tmp_path: Path):
    """Where the preferred one cannot be asked at all, that is said too; one that comes later does not matter."""
    desk = Desk(tmp_path, ONE, place=None)
    real = desk._provider

    def keyless(name: str) -> Any:
        if name == "runpod":
            raise UsageError("RUNPOD_API_KEY is not set")
        return real(name)

    desk._provider = keyless  # type: ignore[method-assign]
    assert desk.propose("all").passed_over == ("runpod: RUNPOD_API_KEY is not set",)


def test_spot_or_demand_previews_what_it_rents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each phase has the kind that is sold for it, in the preview as in the run, at that price; a CPU is never spot."""
    desk = Desk(tmp_path, PLAN)
    desk.providers["runpod"] = Spots(desk._provider("runpod"), "RTX-4090")
    monkeypatch.setattr(bench, "_provider", lambda _bench: desk.providers["runpod"])
    shown = {p.phase: p.offer for p in desk.propose("all", spot_or_demand=True).preview.phases}
    assert {name: offer.spot for name, offer in shown.items() if offer} == {
        "large": False,
        "small": True,
        "none": False,
    }
    assert desk.run("all", spot_or_demand=True).outcome == Outcome.SUCCEEDED
    rented = {row.phase: (row.spot, row.price_hour) for row in desk.bench.ledger().machines.all()}
    assert rented == {name: (offer.spot, offer.price_hour) for name, offer in shown.items() if offer}


def test_spot_does_not_concern_cpu_machines(tmp_path: Path):
    """`--spot` with a phase that needs no GPU: that gets an ordinary machine; a GPU that is not sold so refuses."""
    desk = Desk(tmp_path, PLAN)
    shown = {p.phase: p.offer for p in desk.propose("large", "none", spot=True).preview.phases}
    assert {name: offer.spot for name, offer in shown.items() if offer} == {"large": True, "none": False}
    assert desk.run("large", "none", spot=True).outcome == Outcome.SUCCEEDED
    desk.providers["runpod"] = Spots(desk._provider("runpod"))
    with pytest.raises(NoMachine, match="small needs 1x RTX-4090"):
        desk.propose("small", spot=True, provider="runpod")


def test_the_wait_for_an_answer_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A run begins when it is confirmed: an hour at the question is in no elapsed time and in no cost of the volume."""
    times = iter((1000.0, 4600.0))
    home, ledger = Home(tmp_path), open_ledger(tmp_path)
    home.make()
    monkeypatch.setitem(home.__dict__, "timeline", lambda: next(times))
    spec = Desk(tmp_path / "desk", ONE).propose("all").spec.model_copy(update={"created_at": home.timeline()})
    begun = []
    monkeypatch.setattr(running, "open_world", lambda *_: SimpleNamespace(leave=lambda _run: None))
    monkeypatch.setattr(running, "agreed_on", lambda _world, spec, _code, _options, **_more: spec)
    monkeypatch.setattr(running, "carry_out", lambda _world, spec, _options: begun.append(spec))
    running.begin(home, ledger, spec, driving.DriveOptions(yes=True, json=False, detach=False))
    assert begun[0].created_at == 4600.0
    assert ledger.runs.get(id=spec.run).created_at == 4600.0
