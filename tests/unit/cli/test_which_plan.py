"""Which plan is meant: the nearest one upwards, whatever is wrong in it; never another one by a slip."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.cli.common import read_plan
from orchestrator.config import ConfigErrors
from orchestrator.words.errors import UsageError

PHASE = "name: mine\nsteps: [{name: x, run: echo}]\n"
Write = Callable[..., Path]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write files below a folder, and stand in it or below it."""

    def write(*, stand: str = ".", **files: str) -> Path:
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_yaml", ".yaml")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (tmp_path / stand).mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(tmp_path / stand)
        return tmp_path

    return write


@pytest.mark.parametrize(
    "files",
    [
        {"phases__a_yaml": " name: mine\nsteps: []\n"},
        {"phases__a_yaml": "name: mine\nstepz: [{name: x, run: echo}]\n"},
        {"a_yaml": "name: mine\nmachine: {gpu: [RTX-4090]}\nstepz: []\n"},
        {"a_yaml": "name: mine\nsteps: [{name: x, run: echo}\ntimeout: 3h\n"},
        {"gpuplan_yaml": "budgit_usd: 3\n", "a_yaml": PHASE},
    ],
)
@pytest.mark.parametrize("named", [(), ("all",), ("day1",)])
def test_a_mistake_never_swaps_the_plan(here: Write, files: dict[str, str], named: tuple[str, ...]):
    """A bad indent or a wrong key in the plan of this folder is told with its place, whatever is asked for."""
    folder = here(**files)
    with pytest.raises(ConfigErrors) as caught:
        read_plan(None, None, named)
    assert {str(error.where).split(":")[0] for error in caught.value.errors} <= {str(p) for p in folder.rglob("*.yaml")}


def test_a_plan_without_phases_is_no_other_plan(here: Write):
    """An empty phases/, or a gpuplan.yaml with settings only, is an error that says how the shipped plan is meant."""
    folder = here(gpuplan_yaml="budget_usd: 3\n")
    with pytest.raises(UsageError, match="there is no phase file in") as caught:
        read_plan(None, None, ("day1",))
    assert "--plan shipped" in caught.value.remedy
    assert read_plan("shipped", None).settings.budget_usd == 3
    (folder / "gpuplan.yaml").unlink()
    (folder / "phases").mkdir()
    with pytest.raises(UsageError, match=f"there is no phase file in {folder}/phases"):
        read_plan(None, None)


@pytest.mark.parametrize("stand", ["phases", "phases/deeper", "src/lib", "."])
def test_the_nearest_plan_upwards_is_meant(here: Write, stand: str):
    """As git finds its folder: from inside phases/, and from any folder below the plan."""
    folder = here(phases__a_yaml=PHASE, stand=stand)
    found = read_plan(None, None)
    assert ([p.name for p in found.phases], found.called) == (["mine"], f"plan {folder.name} in {folder}")


def test_the_shipped_plan_is_meant_by_its_phases_or_its_name(here: Write):
    """Where there is no plan, `run day1` works; `run all` and a bare `plan` rent nobody's plan."""
    here(azure_yaml="trigger: [main]\npool: x\nsteps: []\n")
    assert read_plan(None, None, ("day4-5",)).called == "plan shipped, which comes with gpuplan"
    assert read_plan("shipped", None).called == "plan shipped, which comes with gpuplan"
    for phases in ((), ("all",), ("day1", "all")):
        with pytest.raises(UsageError, match="there is no plan in") as caught:
            read_plan(None, None, phases)
        assert "--plan shipped" in caught.value.remedy


def test_a_folder_called_shipped_is_named_by_its_path(here: Write):
    """--plan shipped is the plan that comes with gpuplan even beside such a folder; --plan ./shipped is the folder."""
    here(shipped__a_yaml=PHASE)
    assert not read_plan("shipped", None).folder
    assert [p.name for p in read_plan("./shipped", None).phases] == ["mine"]


def test_a_plan_above_that_is_another_users_is_refused(here: Write, monkeypatch: pytest.MonkeyPatch):
    """What somebody put above the folder that one stands in is not run by surprise; --plan names it all the same."""
    folder = here(gpuplan_yaml="budget_usd: 3\n", a_yaml=PHASE, stand="work")
    owner = os.getuid() + 1
    real = Path.stat

    def foreign(path: Path, **more: bool) -> os.stat_result:
        found = real(path, **more)
        if path.name != "gpuplan.yaml":
            return found
        return os.stat_result((*found[:4], owner, *found[5:10]))

    monkeypatch.setattr(Path, "stat", foreign)
    with pytest.raises(UsageError, match="belongs to another user") as caught:
        read_plan(None, None)
    assert str(folder) in caught.value.remedy
    assert read_plan(str(folder), None).phases
