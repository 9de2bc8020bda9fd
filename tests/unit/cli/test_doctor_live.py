"""The parts of `gpuplan doctor --live` that need no machine: price, answers, and what is left out of a reply."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import typer

from orchestrator.cli.doctoring import doctor
from orchestrator.cli.live.answers import answers
from orchestrator.cli.live.command import LiveOptions, ask_live
from orchestrator.cli.live.probe import priced, printed
from orchestrator.cli.live.wire import Wire, scrubbed
from orchestrator.config import ConfigErrors
from orchestrator.rehearsal import client
from orchestrator.words.errors import ExitCode, NoMachine, OverBudget, UsageError
from orchestrator.words.observed import Observed
from orchestrator.words.spec import WorldSpec
from orchestrator.world import rehearsed
from orchestrator.world.home import Home
from tests.unit.cli.desk import Desk
from tests.unit.cli.test_doctor import PLAN


def test_the_cheapest_machine_is_priced_to_its_deadline(tmp_path: Path):
    """Hour price times 15 minutes and the hour to its deadline, a day of a volume; a dearer one within half as much."""
    desk = Desk(tmp_path, PLAN)
    provider = desk._provider("runpod")
    probe = priced(provider, desk.bench.spec.plan, Decimal(2))
    assert (probe.offer.gpu, probe.offer.private_network, probe.has_volume) == ("RTX-4090", True, True)
    assert probe.most_hour == probe.offer.price_hour * Decimal("1.5")
    volume = provider.volume_price_hour(10) * 2 * 24
    assert probe.usd == pytest.approx(probe.most_hour * Decimal("1.25") + volume)
    tight = priced(desk._provider("runpod"), desk.bench.spec.plan, Decimal(1))
    assert tight.offer.price_hour <= tight.most_hour < probe.most_hour
    assert tight.usd <= 1
    with pytest.raises(OverBudget, match="may cost"):
        priced(desk._provider("runpod"), desk.bench.spec.plan, Decimal("0.9"))


def test_one_phase_with_nothing_of_the_users(tmp_path: Path):
    """Its plan has the images at hand, the cap and a short deadline; no code, store, secret or message of the plan."""
    desk = Desk(tmp_path, PLAN.replace("settings: {", "settings: {stores: ['s3://b/p'], code: src, setup: make, "))
    probe = priced(desk._provider("runpod"), desk.bench.spec.plan, Decimal(1))
    plan = probe.plan(desk.bench.spec.plan, Decimal(1), 1.0)
    settings, phase = plan.settings, plan.phases[0]
    assert settings.images == desk.bench.spec.plan.settings.images
    assert (settings.stores, settings.code, settings.setup, settings.notify) == ((), "", "", ())
    assert (settings.budget_usd, phase.budget_usd, phase.secrets, phase.steps[0].secrets) == (1, 1, (), ())
    assert (phase.max_usd_hour, settings.max_replacements) == (probe.most_hour, 0)


class SoldOut:
    """A provider that has nothing."""

    name, capabilities = "runpod", frozenset[str]()

    def offers(self, **_asked: Any) -> list[Any]:
        return []


def test_sold_out_is_said(tmp_path: Path):
    """No machine with one GPU: that is no machine, whatever the cap."""
    desk = Desk(tmp_path, PLAN)
    with pytest.raises(NoMachine, match="no machine with one GPU"):
        priced(SoldOut(), desk.bench.spec.plan, Decimal(1))  # type: ignore[arg-type]  # no more is asked of it


@pytest.fixture
def one_sold_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two providers: one has nothing, of the other no key is set."""

    @contextmanager
    def asked(*_args: Any, **_flags: Any) -> Iterator[tuple[Any, None]]:
        why = {"lambda": "LAMBDA_API_KEY is not set"}
        yield SimpleNamespace(providers=lambda _names: ([SoldOut()], why), clock=SimpleNamespace(time_scale=1.0)), None

    monkeypatch.setattr("orchestrator.cli.offering.asked_world", asked)


def live(desk: Desk, *, json: bool) -> None:
    """`gpuplan doctor --live`."""
    options = LiveOptions(cap=Decimal(1), provider=None, out=None, dry_run=False, yes=True, json=json)
    ask_live(desk.home, desk.bench.ledger(), desk.bench.spec.plan, options)


@pytest.mark.usefixtures("one_sold_out")
def test_who_is_sold_out_and_who_has_no_key_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Each provider with its reason, and exit code 4: nothing was rented anywhere."""
    desk = Desk(tmp_path, PLAN)
    with pytest.raises(typer.Exit) as end:
        live(desk, json=False)
    said = " ".join(capsys.readouterr().out.split())
    assert end.value.exit_code == ExitCode.NO_MACHINE
    assert "runpod: runpod: no machine with one GPU is for sale just now" in said
    assert "lambda is not asked: LAMBDA_API_KEY is not set" in said
    assert desk.bench.clouds.machines_left() == []


@pytest.mark.usefixtures("one_sold_out")
def test_programs_are_told_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """One document: who has no machine with its exit code and why, who was not asked and why."""
    with pytest.raises(typer.Exit) as end:
        live(Desk(tmp_path, PLAN), json=True)
    found = json.loads(capsys.readouterr().out)
    (one,) = found["providers"]
    assert (end.value.exit_code, found["ok"], one["provider"], one["exit"]) == (4, False, "runpod", 4)
    assert "no machine with one GPU" in one["why"]
    assert found["missing"] == {"lambda": "LAMBDA_API_KEY is not set"}


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "a lot"])
def test_a_cap_is_a_sum_of_money(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Anything else is refused, by its flag."""
    monkeypatch.setenv("GPUPLAN_HOME", str(tmp_path))
    with pytest.raises(ConfigErrors, match=r"^--max-usd: "):
        doctor(live=True, dry_run=True, plan="shipped", max_usd=text)


@pytest.mark.parametrize(
    ("seen", "question", "answer", "means"),
    [
        ({"bids": {}}, "minimumBidPrice", "no: no type has one", "--spot finds nothing there"),
        ({"bids": {"T": "0.5", "S": "0.2"}}, "minimumBidPrice", "yes: 2 types, from $0.20 (S)", "a create may be"),
        ({"volume_gb": 10, "disk_gb": 11}, "df shows", "its own size", "can be believed"),
        ({"volume_gb": 10, "disk_gb": 90000}, "df shows", "the pool behind it", "gpuplan counts the bytes"),
        ({"private_never": True}, "private address", "it never had one", "several nodes will not come up"),
        ({"ssh_s": 30, "private_s": 140}, "private address", "140 s", "within the 120 s after SSH"),
        ({"ssh_s": 30, "private_s": 160}, "private address", "160 s", "longer than the 120 s after SSH"),
        ({"torch": "2.4.1"}, "the torch of", "2.4.1", "older than 2.6"),
        ({"torch": "2.10.0+cu128"}, "the torch of", "2.10.0+cu128", "2.6 or newer"),
        ({"torch": "none"}, "the torch of", "none", "another is installed"),
        ({"volume_tier": "HIGH_PERFORMANCE"}, "kind of volume", "HIGH_PERFORMANCE", "asks for STANDARD"),
        ({"quotas": {"minute": 60}}, "requests that", "60 a minute", "about 5 machines"),
        ({"listed_s": 91}, "the list has a new", "91 s", "longer than the 90 s"),
        ({"unlisted_s": 3}, "the list has an ended", "3 s", "within the 90 s"),
        ({"address_s": 400}, "has an address", "400 s", "boot_seconds: 400"),
        ({"firewall": ("icmp from 0.0.0.0/0",)}, "firewall", "icmp from 0.0.0.0/0", "a worker's port needs"),
        ({"firewall": ("all from 10.0.0.0/8",)}, "firewall", "all from 10.0.0.0/8", "nodes reach each other's ports"),
        ({}, "SSH answers", "not seen", ""),
    ],
)
def test_each_answer_says_what_it_means(tmp_path: Path, seen: dict[str, Any], question: str, answer: str, means: str):
    """What was seen, beside what gpuplan takes it to be; what was not is said so."""
    provider = Desk(tmp_path, PLAN)._provider("runpod")
    found = [one for one in answers(Observed(provider="runpod", **seen), provider, 180.0) if question in one.question]
    assert len(found) == 1
    assert answer in found[0].answer
    assert means in found[0].means


POD = {
    "id": "x1y2z3", "name": "gpuplan-abcd1234-r-p-1", "status": "RUNNING", "dataCenterId": "EU-RO-1", "cost": 0.74,
    "env": {"PUBLIC_KEY": "ssh-ed25519 AAAA", "odd key": "rpa_0123"},
    "ssh": {"direct": {"host": "192.0.2.7", "port": 22}},
}  # fmt: skip


def test_a_reply_keeps_its_shape_and_the_vendors_words_alone():
    """Ids, names, addresses and keys are gone; so is every machine that gpuplan did not make."""
    kept = scrubbed({"pods": [POD, POD | {"name": "somebody-elses"}]})
    assert kept == {"pods": [{
        "id": "...", "name": "...", "status": "RUNNING", "dataCenterId": "EU-RO-1", "cost": 0.74,
        "env": {"PUBLIC_KEY": "...", "...": "..."}, "ssh": {"direct": {"host": "...", "port": 22}},
    }]}  # fmt: skip


def test_the_road_hands_on_what_came_and_keeps_no_account_matter():
    """The client gets each answer whole; balances, keys and the path's ids are not among what is kept."""
    said = {
        "/v2/pods/x1y2z3w4": POD,
        "/v2/account/ssh-keys": {"keys": ["k"]},
        "/graphql": {"data": {"clientBalance": 9}},
    }
    wire = Wire()
    wire._client = httpx.Client(transport=httpx.MockTransport(lambda r: httpx.Response(200, json=said[r.url.path])))
    with httpx.Client(transport=wire, base_url="http://cloud.test") as one:
        assert one.get("/v2/pods/x1y2z3w4").json() == POD
        assert one.get("/v2/account/ssh-keys").json() == {"keys": ["k"]}
        assert one.post("/graphql", json={"query": "{ myself { clientBalance } }"}).json() == said["/graphql"]
    with httpx.Client(transport=wire, base_url="http://cloud.test") as another:
        assert another.get("/v2/pods/x1y2z3w4").is_success  # one client's end is not the road's
    assert [(r["request"], r["status"]) for r in wire.replies] == [("GET /v2/pods/{id}", 200)]


def test_what_a_step_printed_is_its_last_whole_line(tmp_path: Path):
    """Lines of others, and half a line, are passed over."""
    assert printed(tmp_path) == {}
    folder = tmp_path / "logs" / "probe"
    folder.mkdir(parents=True)
    (folder / "look.log").write_text('hello\nprobe: {"torch": "2.8.0", "disk_kib": 7}\nprobe: {"torch"\n')
    assert printed(tmp_path) == {"torch": "2.8.0", "disk_kib": 7}


def test_a_rehearsal_of_this_home_is_told_what_was_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """GPUPLAN_HOME/fixtures is what its cloud begins with, where there is one; a damaged file is refused by name."""
    asked: list[Path | None] = []

    def start(_folder: Path, *, conditions: object, fixtures: Path | None) -> object:
        asked.append(fixtures)
        return SimpleNamespace(facts=SimpleNamespace(conditions=conditions))

    monkeypatch.setattr(client, "start", start)
    home = Home(tmp_path / "home")
    spec = WorldSpec(provider="", dry_run=True, cloud=str(tmp_path))
    rehearsed._ours(spec, "r", home.fixtures)
    Observed(provider="runpod", listed_s=7).save(home.fixtures)
    rehearsed._ours(spec, "r", home.fixtures)
    assert asked == [None, home.fixtures]
    (home.fixtures / "runpod.json").write_text("{")
    with pytest.raises(UsageError, match=r"runpod\.json is not what"):
        rehearsed._ours(spec, "r", home.fixtures)
