"""`gpuplan offers`: what would be tried, in order, and why others are left out; what failed rests for a while."""

from __future__ import annotations

import io
import json
import re
from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator import cost
from orchestrator.cli.market import ProviderOffers, Survey
from orchestrator.engine import accounting, resting
from orchestrator.plan import resolve
from orchestrator.report import offers as shown
from orchestrator.words.errors import RequestRefused
from orchestrator.words.lifecycle import Outcome
from orchestrator.words.provider import MachineSpec
from tests.unit.cli.desk import Desk
from tests.unit.cli.test_market import Spots

ONE = "large: {machine: {gpu: [A100-80GB]}, volume: {name: data, size_gb: 10}, steps: [{name: l, run: l}]}"
PAIR = ONE.replace("{gpu: [A100-80GB]}", "{gpu: [A100-80GB], nodes: 2}").replace("run: l}", "run: l, 'on': all}")


def survey(desk: Desk, provider: str = "runpod", place: str | None = None) -> ProviderOffers:
    plan, ledger = desk.bench.spec.plan, desk.bench.ledger()
    rests = resting.resting(ledger, desk.bench.spec, desk.bench.clock)
    return Survey(plan, resolve(plan, ("all",)), place=place, rests=rests).of(desk._provider(provider))


def test_what_is_offered_first_is_what_is_rented(tmp_path: Path):
    """Place, type and price of the first line are those of the run's first machine."""
    desk = Desk(tmp_path, ONE, place=None)
    found = survey(desk)
    assert desk.run("all").outcome == Outcome.SUCCEEDED
    (row,) = desk.bench.ledger().machines.all()
    first = found.crews[0].tried[0]
    assert (found.place, first.type_id, first.price_hour) == (row.place, row.type_id, row.price_hour)


def test_places_without_a_private_network_are_left_out_for_several_nodes(tmp_path: Path):
    """The reason is said; a worker's machines are priced as a crew of their own."""
    found = survey(Desk(tmp_path, PAIR, place=None))
    assert all(offer.private_network for crew in found.crews for offer in crew.tried)
    assert [crew.crew for crew in found.crews] == ["main", "workers"]
    assert any(left.why.endswith("2 nodes need one") or left.reason == "elsewhere" for left in found.crews[0].left_out)


def test_stock_on_older_drivers_alone_says_so(tmp_path: Path):
    """Where the catalogue has the type, and none with the CUDA that the image needs, that is its capacity."""
    found = survey(Desk(tmp_path, ONE, place=None))
    words = {shown.capacity(offer) for crew in found.crews for offer in crew.tried}
    words |= {shown.capacity(left.offer) for crew in found.crews for left in crew.left_out}
    assert "high" in words
    assert found.cuda == "12.8"


def test_people_and_programs_see_the_same(tmp_path: Path):
    """The table has the first machine with its price an hour; the document has all, and every reason."""
    found = [survey(Desk(tmp_path, ONE, place=None))]
    out = io.StringIO()
    shown.show(found, {"lambda": "no API key"}, "", out=out)
    assert re.search(r"^1 +A100 80GB \(.*\) +CA-MTL-1 +\$1.80 +\w+ ", out.getvalue(), re.MULTILINE)
    assert "cannot be asked: lambda: no API key" in out.getvalue()
    document = json.loads(json.dumps(shown.document(found, {}, "")))
    (crew,) = document["providers"][0]["crews"]
    assert "in a machine's price: $0.00694/h for its own disk of 50 GB" in out.getvalue()
    assert (crew["tried"][0]["usd_hour"], crew["tried"][0]["usd_hour_disk"]) == ("1.7969445", "0.0069445")
    assert {left["reason"] for left in crew["left_out"]} >= {"too small", "elsewhere"}


def test_a_type_that_was_refused_rests_and_comes_back(tmp_path: Path):
    """Sold out in the first run: the next one, ten minutes later at most, tries another; then it is tried again."""
    desk = Desk(tmp_path, ONE, faults=("create-refused-capacity",))
    desk.run("all")
    assert "refused" in survey(desk, place="EU-RO-1").crews[0].left_out[-1].why
    assert desk.propose("all", force=("large/l",)).preview.phases[0].offer.type_id == "NVIDIA A100-SXM4-80GB"
    desk.bench.clock.sleep(resting.REFUSED_S)
    assert desk.propose("all", force=("large/l",)).preview.phases[0].offer.type_id == "NVIDIA A100 80GB PCIe"


def test_what_a_machine_cost_that_did_not_come_up_is_a_line_of_its_own(tmp_path: Path):
    """Neither a boot nor a step: the bill says what the failed try cost, and the preview leaves it out for an hour."""
    desk = Desk(tmp_path, ONE, faults=("boot-never",))
    desk.run("all")
    ledger, run = desk.bench.ledger(), desk.bench.spec.run
    report = cost.report(
        run, accounting.machine_charges(ledger, run), [], [], now=desk.bench.clock.now(), planned={"large": None}
    )
    failed = next(step for step in report.phases[0].steps if step.name == cost.FAILED)
    assert failed.seconds >= 900
    assert Decimal("0.4") < failed.usd < report.phases[0].usd
    assert "was not ready" in survey(desk, place="EU-RO-1").crews[0].left_out[-1].why


class Strict(Spots):
    """A provider whose schema has changed: every create is a 422."""

    def create(self, spec: MachineSpec) -> str:
        raise RequestRefused(f"RunPod refused POST pods (422): additional property {spec.name[:7]!r} not allowed")


def test_a_request_that_is_wrong_is_sent_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """422 is about the request: no other candidate is tried, and the words are the provider's."""
    from orchestrator.testing import bench

    desk = Desk(tmp_path, ONE)
    desk.providers["runpod"] = Strict(desk._provider("runpod"))
    monkeypatch.setattr(bench, "_provider", lambda _bench: desk.providers["runpod"])
    assert desk.run("all").outcome == Outcome.NO_MACHINE
    (phase,) = desk.bench.ledger().phases.all()
    assert phase.error.startswith("RunPod refused POST pods (422)")
    assert len(desk.bench.ledger().machines.all()) == 1
