"""What a failed run advises: no command that pays for the same failure again without saying so."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator.cli.resuming import _with_budget
from orchestrator.config import ConfigErrors
from orchestrator.report import advice, documents, ending, figures
from orchestrator.testing.machine import Script
from orchestrator.words.errors import UsageError
from orchestrator.words.lifecycle import Outcome
from tests.unit.cli.desk import Desk

PLAN = """
one:
  machine: {gpu: [RTX-4090]}
  volume: {name: data, size_gb: 10}
  steps:
    - {name: make, run: make, creates: [one.txt], expect: 1800}
    - {name: use, run: use, needs: [make], expect: 1800}
  deliverables:
    - {name: large, file: one.txt, min_bytes: LEAST}
    - {name: right, step: make, stdout: Paris}
"""
GOOD = Script(creates={"one.txt": "1"}, output="Paris\n")


def desk(folder: Path, *, least: int = 1, **scripts: Script) -> Desk:
    return Desk(folder, PLAN.replace("LEAST", str(least)), scripts={"make": GOOD, **scripts})


def test_a_failed_step_has_two_ways_on(tmp_path: Path):
    """A mended plan is a new run, which skips what is done; as it was, it is resumed: each with what is left to pay."""
    made = desk(tmp_path, use=Script(exit=1))
    assert made.run("one").outcome == Outcome.FAILED
    ledger, spec = made.bench.ledger(), made.bench.spec
    (machine,) = ledger.machines.all()
    about = f", about ${machine.price_hour * 3 / 2:.2f}"  # an hour's boot, half an hour's step: `make` is done
    assert [str(way) for way in advice.after(ledger, spec)] == [
        f"mended it?  gpuplan run all --plan {tmp_path}/plan  (skips what is done{about})",
        f"as it was?  gpuplan resume {spec.run}  (goes on with what is missing{about})",
        f"or no more?  gpuplan down {spec.run} --volumes  (deletes volume desk-data)",
    ]


def test_the_end_of_a_failed_run_says_each_thing_once(tmp_path: Path):
    """What failed with its last line, where the plan names it, its log; what is done and safe; then what to do."""
    made = desk(tmp_path, use=Script(exit=1, output="Traceback\nModuleNotFoundError: No module named 'x'\n"))
    made.run("one")
    lines = ending.block(made.bench.ledger(), made.bench.spec, [])
    assert lines[0] == "FAILED  one/use  exit code 1"
    assert lines[1] == "  ModuleNotFoundError: No module named 'x'"
    assert re.fullmatch(r"  .*phases/0-one.yaml:\d+, gpuplan logs \S+ --step one/use", lines[2]), lines[2]
    assert re.fullmatch(r"spent \$[\d.]+; 1 step is done and safe on volume desk-data \(\$[\d.]+ a day\)", lines[3])
    assert [line.split("?")[0] for line in lines[4:] if "?" in line] == ["mended it", "as it was", "or no more"]
    assert lines[-1] == f"{made.bench.spec.run}: failed"
    assert "\n".join(lines).count("ModuleNotFoundError") == 1


def test_what_was_spent_is_what_the_table_adds_up_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each phase's cost is rounded, and so their sum is: the line below the table has no other number."""
    made = desk(tmp_path, use=Script(exit=1))
    made.run("one")
    ledger, spec = made.bench.ledger(), made.bench.spec
    seen = replace(documents.bill(ledger, spec.run, spec.plan), volumes_usd=Decimal("12.345"))
    monkeypatch.setattr(ending, "bill", lambda *_: seen)
    assert f"spent {figures.money(seen.total_usd)};" in "\n".join(ending.block(ledger, spec, []))


def test_a_deliverable_that_fails_on_a_finished_step_offers_to_repeat_it(tmp_path: Path):
    """The step that it names, or that makes its file: `run` alone would find the same result again."""
    made = desk(tmp_path, least=1000, make=Script(creates={"one.txt": "1"}, output="London\n"))
    assert made.run("one").outcome == Outcome.FAILED
    large, right, *_ = advice.after(made.bench.ledger(), made.bench.spec)
    again = f"gpuplan run all --plan {tmp_path}/plan --force one/make  (repeats the step that it is about)"
    assert (str(large), str(right)) == (f"large?  {again}", f"right?  {again}")
    proposal = made.propose("one", force=("one/make", "one/use"))
    assert [s.done for s in proposal.preview.phases[0].steps] == [False, False]


def test_a_budget_that_is_used_up_offers_another(tmp_path: Path):
    """Over budget, `resume` as it was would stop again: the way on names --max-usd."""
    made = desk(tmp_path, use=Script(exit=1))
    made.run("one")
    ledger, spec = made.bench.ledger(), made.bench.spec
    ledger.runs.change({"id": spec.run}, outcome=Outcome.OVER_BUDGET)
    assert f"gpuplan resume {spec.run} --max-usd USD" in str(advice.after(ledger, spec)[1])
    assert _with_budget(spec.plan, "7.50").settings.budget_usd == 7.5
    assert _with_budget(spec.plan, None) is spec.plan
    with pytest.raises(ConfigErrors, match="--max-usd"):
        _with_budget(spec.plan, "much")


def test_the_command_means_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Phases, plan, cloud, kind of machine and stores are as they were; what this folder means anyway is left out."""
    made = desk(tmp_path, use=Script(exit=1))
    made.run("one")
    spec = made.bench.spec
    monkeypatch.chdir(tmp_path / "plan" / "phases")
    assert advice.command(spec) == "gpuplan run all"
    part = spec.model_copy(update={"whole_plan": False, "spot": True, "stores": ("s3://b/p",)})
    assert advice.command(part) == "gpuplan run one --spot --store s3://b/p"
    shipped = spec.plan.model_copy(update={"folder": ""})
    assert advice.command(spec.model_copy(update={"plan": shipped})) == "gpuplan run all --plan shipped"
    rehearsed = spec.world.model_copy(update={"dry_run": True, "cloud": "/c", "keep_cloud": True})
    assert advice.command(spec.model_copy(update={"world": rehearsed})) == "gpuplan run all --dry-run --cloud /c"
    thrown = spec.model_copy(update={"world": spec.world.model_copy(update={"dry_run": True})})
    assert "rehearses it anew" in str(advice.after(made.bench.ledger(), thrown)[0])


def test_force_takes_a_step_and_all_that_need_it(tmp_path: Path):
    """A name alone will do where one phase has it; one that no phase has is refused with the nearest."""
    from orchestrator.plan import forced, resolve

    plan = desk(tmp_path).bench.spec.plan
    runs = resolve(plan, ["all"])
    assert forced(runs, ["make"]) == ("one/make", "one/use")
    assert forced(runs, ["one/use"]) == ("one/use",)
    assert forced(runs, ["all"]) == ("one/make", "one/use")
    with pytest.raises(UsageError, match="the run has no step mak") as caught:
        forced(runs, ["mak"])
    assert caught.value.remedy == "did you mean make?"


def test_a_run_of_before_says_whether_all_was_forced(tmp_path: Path):
    """run.json of an earlier version has a truth value there: it means every step, or none."""
    from orchestrator.words.spec import RunSpec

    made = desk(tmp_path)
    for was, means in ((True, ("one/make", "one/use")), (False, ())):
        text = made.propose("one").spec.model_dump_json()
        (tmp_path / "run.json").write_text(text.replace('"force":[]', f'"force":{str(was).lower()}'))
        assert RunSpec.load(tmp_path).force == means
