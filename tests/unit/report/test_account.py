"""What a report knows of a run: the ledger's, and the very picture that status draws."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator import cost
from orchestrator.engine.artifacts import manifest_text
from orchestrator.engine.effects import ManifestFile
from orchestrator.engine.packs import Pack
from orchestrator.engine.sources import Sources
from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import ArtifactRow, FigureRow, RunRow
from orchestrator.report import views
from orchestrator.report.page import gather, html, markdown
from orchestrator.report.page.account import Use
from orchestrator.testing.machine import Script
from orchestrator.words.lifecycle import MachineState, Outcome, PhaseState, RunState
from orchestrator.words.model import Expected, Notes
from orchestrator.words.spec import RunSpec
from tests.unit.report.written import Written

T0 = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return Written(tmp_path_factory.mktemp("desk"))


def at(hours: float) -> datetime:
    return T0 + timedelta(hours=hours)


def paid(since: float, until: float | None, usd_hour: str) -> cost.MachineCharge:
    return cost.MachineCharge("m", "p", "runpod", Decimal(usd_hour), at(since), at(until) if until else None)


def test_what_accrues_is_straight_between_the_points():
    """A point for each change of what an hour costs, and one for the end; the last one is what is accrued by then."""
    charges: list[cost.Charge] = [
        paid(0, 2, "1"),
        paid(1, None, "3"),
        cost.VolumeCharge("v", Decimal("0.5"), at(0)),
    ]
    curve = gather.accrual(charges, at(4))
    assert curve == (
        (at(0), Decimal(0)),
        (at(1), Decimal("1.5")),
        (at(2), Decimal(6)),
        (at(4), Decimal(13)),
    )
    assert curve[-1][1] == cost.accrued(charges, at(4))
    assert gather.accrual([], at(4)) == ()


def test_an_account_is_the_picture_that_status_draws(made: Written):
    """The same frozen values; its curve ends at what was spent, and the machines are paid from rented to gone."""
    account = made.account()
    assert account.seen == views.snapshot(made.desk.bench.ledger(), made.desk.bench.spec, driven=False)
    assert account.curve[-1] == (account.seen.ended, account.seen.cost_usd)
    assert [(s.machine, s.phase) for s in account.stretches] == [("prepare#1", "prepare"), ("train#1", "train")]
    assert account.planned_usd == Decimal("9.9")
    assert [usd for _, usd in account.planned_at] == [Decimal("2.5"), Decimal("9.9")]
    assert account.outcome == "succeeded"
    assert [(v.name, v.ok) for v in account.verdicts] == [
        ("data there", True),
        ("answers", True),
        ("fast enough", True),
    ]
    (saved,) = account.saved
    assert (saved.name, saved.bytes, len(saved.sha256), saved.stores) == ("model.bin", 1000, 64, ("memory://store0",))
    (measure,) = account.measures
    assert (measure.name, measure.value, measure.measured_on) == ("tokens_per_second", 52.5, "RTX 4090")
    assert account.uses == (Use("train/train", 0, "NVIDIA GeForce RTX 4090", 71.5, 17500.0, 98.0),)
    assert account.failures == ()


def test_a_machine_that_is_up_before_the_first_step_is_set_up(made: Written):
    """So its phase says: packages and `setup` may take minutes. While it is rented alone nothing is."""
    ledger, spec = made.desk.bench.ledger(), made.desk.bench.spec
    (machine,) = ledger.machines.all(run=spec.run, phase="train")
    said = {}
    for state in (MachineState.CREATED, MachineState.REACHABLE):
        ledger.machines.put(replace(machine, state=state))
        ledger.phases.put(replace(ledger.phases.get(run=spec.run, name="train"), state=PhaseState.PROVISIONING))
        said[state] = [phase.detail for phase in views.snapshot(ledger, spec, driven=True).phases]
    assert said == {MachineState.CREATED: ["", ""], MachineState.REACHABLE: ["", "setting up"]}


def test_the_picture_calls_machines_as_people_do(tmp_path: Path):
    """What became of a step, a phase and a machine names machines by phase and number, as every other line does."""
    made = Written(tmp_path)
    ledger, spec = made.desk.bench.ledger(), made.desk.bench.spec
    (machine,) = ledger.machines.all(run=spec.run, phase="train")
    why = f"{machine.name}: it has not answered"
    ledger.machines.put(replace(machine, reason=why))
    ledger.phases.put(replace(ledger.phases.get(run=spec.run, name="train"), error=why))
    ledger.steps.put(replace(ledger.steps.get(run=spec.run, phase="train", id="train/train"), detail=why))
    seen = views.snapshot(ledger, spec, driven=True)
    train = next(phase for phase in seen.phases if phase.name == "train")
    said = {train.detail, next(m for m in seen.machines if m.long == machine.name).detail, train.steps[0].detail}
    assert said == {"train#1: it has not answered"}


def test_what_a_stand_in_sampled_is_no_cards(made: Written):
    """Of a rehearsal no peak of a GPU is in the account."""
    world = made.desk.bench.spec.world.model_copy(update={"dry_run": True})
    account = made.account(world=world)
    assert (account.gpus_shown, account.uses) == (False, ())


def test_a_failed_run_says_what_failed(tmp_path: Path):
    """The step, how, and the last lines of its log."""
    lines = "".join(f"line {n}\n" for n in range(40))
    made = Written(tmp_path, train=Script(exit=3, output=lines))
    account = made.account()
    (failure,) = account.failures
    assert (failure.step, failure.how) == ("train/train", "train/train: exit code 3")
    assert failure.lines == tuple(f"line {n}" for n in range(30, 40))
    assert account.outcome == "failed"
    assert account.reason.startswith("train/train: exit code 3")


def test_a_run_that_never_began_has_an_account(made: Written, tmp_path: Path):
    """No phase, no machine, nothing spent."""
    spec = made.desk.bench.spec.model_copy(update={"run": "1130-none"})
    ledger = made.desk.bench.ledger()
    ledger.runs.put(RunRow(id="1130-none", state=RunState.PLANNED, created_at=ledger.now()))
    account = gather.account(ledger, spec, tmp_path / "nowhere", driven=False)
    assert (account.curve, account.stretches, account.seen.phases) == ((), (), ())
    assert {v.ok for v in account.verdicts} == {None}


def test_an_expected_figure_stands_beside_the_measured_one(made: Written):
    """What the plan says, what is so, and what this run measured, with its place."""
    speed = Expected(what="speed", plan="20", fact="about 40", step="train/measure", metric="tokens_per_second",
                     unit="tokens/s")  # fmt: skip
    hours = Expected(what="hours", plan="13", fact="{planned_hours:.0f} in all")
    plan = made.desk.bench.spec.plan.model_copy(update={"notes": Notes(expected=(speed, hours))})
    first, second = made.account(plan=plan).benchmarks
    assert (first.measured, first.where) == ("52.5 tokens/s", "RTX 4090")
    assert (second.fact, second.measured, second.where) == ("13 in all", "", "")


@pytest.mark.parametrize(
    ("states", "stores", "missing"),
    [(("VERIFIED", "VERIFIED"), ("a", "b"), ()), (("VERIFIED", "UPLOADING"), ("a",), ("b",))],
)
def test_a_file_in_two_stores_is_one_artifact(
    made: Written, tmp_path: Path, states: tuple[str, str], stores: tuple[str, ...], missing: tuple[str, ...]
):
    """With the stores that have it verified, and those that do not."""
    spec, ledger = _another(made, f"1130-{states[1].lower()}")
    for store, state in zip("ab", states, strict=True):
        ledger.artifacts.put(ArtifactRow(run=spec.run, store=store, name="m", state=state, bytes=7, sha256="f" * 64))
    (saved,) = gather.account(ledger, spec, tmp_path, driven=False).saved
    assert (saved.bytes, saved.sha256, saved.stores, saved.missing) == (7, "f" * 64, stores, missing)


def test_a_packed_folder_says_how_many_files_it_is(made: Written, tmp_path: Path):
    """Beside its name, in the page and in Markdown."""
    spec, ledger = _another(made, "1130-packed")
    ledger.artifacts.put(
        ArtifactRow(run=spec.run, store="a", name="out.tar", state="VERIFIED", bytes=7, sha256="f" * 64)
    )
    pack = Pack(ManifestFile("out.tar", 7, "f" * 64), tuple(ManifestFile(f"out/{n}", 1, "0") for n in range(1234)))
    (tmp_path / "manifest-train.json").write_text(manifest_text([pack.file], Sources({}, {}, {}), {"out.tar": pack}))
    account = gather.account(ledger, spec, tmp_path, driven=False)
    assert "out.tar (1,234 files)" in html.page(account)
    assert "out.tar (1,234 files)" in markdown.page(account)


def test_each_node_has_its_own_peaks(made: Written, tmp_path: Path):
    """And what the agent measures of the disk is no figure of a GPU, nor one of the step."""
    spec, ledger = _another(made, "1130-two")
    for node, name, value in ((0, "gpu_utilisation", 5), (1, "gpu_utilisation", 80), (1, "disk_free_mib_min", 9)):
        ledger.figures.put(FigureRow(run=spec.run, step="train/x", node=node, name=name, value=value, device="H100"))
    account = gather.account(ledger, spec, tmp_path, driven=False)
    assert [(u.node, u.busy_percent, u.memory_mib) for u in account.uses] == [(0, 5.0, None), (1, 80.0, None)]
    assert account.measures == ()


def _another(made: Written, run: str) -> tuple[RunSpec, Ledger]:
    ledger = made.desk.bench.ledger()
    ledger.runs.put(RunRow(id=run, state=RunState.DONE, outcome=Outcome.FAILED, created_at=ledger.now()))
    return made.desk.bench.spec.model_copy(update={"run": run}), ledger
