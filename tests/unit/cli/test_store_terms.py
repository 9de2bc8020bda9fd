"""A plan that brings the address of its store: nothing is signed for it before somebody has agreed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from orchestrator.cli import terms
from orchestrator.cli.checks import Patient, examine
from orchestrator.cli.confirming import agreed_on
from orchestrator.cli.driving import DriveOptions
from orchestrator.transport.code import Code
from orchestrator.world.world import World
from tests.unit.cli.desk import Desk

URL = "s3://theirs/p?endpoint_url=https://elsewhere.test&region=auto"
PLAN = """
settings: {stores: [{url: s3://theirs/p, endpoint_url: https://elsewhere.test, region: auto}, "s3://mine/p"]}
one: {machine: {gpu: [RTX-4090]}, steps: [{name: x, run: x, creates: [x.txt]}], artifacts: [x.txt]}
"""


class Asked:
    """Stores that note which of them were asked."""

    def __init__(self) -> None:
        self.urls: list[str] = []

    def __call__(self, url: str) -> Any:
        self.url = url
        return self

    def check(self) -> None:
        self.urls.append(self.url)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A plan from a folder, whose first store is at an address of its own."""
    made = Desk(tmp_path, PLAN)
    made.asked = Asked()  # type: ignore[attr-defined]  # only here
    whole = made._world
    monkeypatch.setattr(made, "_world", lambda: replace(whole(), store=cast("Any", made).asked))
    assert made.bench.spec.plan.settings.stores == (URL, "s3://mine/p")
    return made


def asked(desk: Desk) -> list[str]:
    found: list[str] = cast("Any", desk).asked.urls
    return found


def test_it_is_looked_at_once_it_was_agreed_to(desk: Desk, capsys: pytest.CaptureFixture[str]):
    """The proposal asks the vendor's own alone; the address is shown; agreed to, it is asked, then and ever after."""
    stores = desk.bench.spec.plan.settings.stores
    proposal = desk.propose("one", stores=stores)
    assert asked(desk) == ["s3://mine/p"]
    asked(desk).clear()
    options = DriveOptions(yes=True, json=False, detach=False)
    code = Code(desk.folder / "no-code")
    agreed_on(desk._world(), proposal.spec, code, options, only=False, check=False, up_to=None)
    assert asked(desk) == ["s3://mine/p", URL]
    said = capsys.readouterr().out
    assert "artifacts go to s3://theirs/p at https://elsewhere.test" in said
    assert f"sends to: {URL}, where requests are signed with your AWS_ACCESS_KEY_ID" in said
    asked(desk).clear()
    desk.propose("one", stores=stores)
    assert asked(desk) == list(stores)


def test_what_the_user_names_is_looked_at(desk: Desk):
    """--store, or an address from the user's own environment, is no word of the plan's."""
    own = URL.replace("elsewhere", "my-own")
    desk.propose("one", stores=(own,))
    assert asked(desk) == [own]


def test_doctor_signs_nothing_for_it_either(desk: Desk):
    """It says where the plan would send, and how to look at it."""
    world: World = desk._world()
    plan = desk.bench.spec.plan
    unseen = terms.withheld(desk.home, plan, plan.settings.stores)
    assert unseen == (URL,)
    found = {f.name: f for f in examine(Patient(world, plan, plan.settings.stores, unseen)) if "store" in f.name}
    assert asked(desk) == ["s3://mine/p"]
    (theirs,) = [one for name, one in found.items() if "https://elsewhere.test" in name]
    assert theirs.ok is None
    assert f"--store '{URL}'" in theirs.remedy
    terms.agree(desk.home, "terms", plan.settings.stores)
    assert terms.withheld(desk.home, plan, plan.settings.stores) == ()
    assert terms.withheld(desk.home, plan.model_copy(update={"folder": "", "read": ()}), (URL,)) == ()
