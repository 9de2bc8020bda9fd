"""What of a run lies in a shared database: another home has it, and can go on with it or not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from orchestrator.ledger import Ledger, open_ledger
from orchestrator.transport import owners
from orchestrator.transport.code import Code
from orchestrator.words.errors import UsageError
from orchestrator.words.model import Phase, Plan, Settings, Step
from orchestrator.words.spec import RunSpec, WorldSpec
from orchestrator.world import sharing
from orchestrator.world.home import Home

pytestmark = pytest.mark.xdist_group("postgres")
PLAN = Plan(name="plan", phases=(Phase(name="only", steps=(Step(name="s", run="true"),)),), settings=Settings())
RUN = "1101-aaaa"


def spec(pull_root: Path, **world: Any) -> RunSpec:
    return RunSpec(
        run=RUN, owner="abcdefgh", plan=PLAN, asked=("only",), whole_plan=True, place=None, created_at=1.0,
        pull_root=str(pull_root), world=WorldSpec(provider="p", **world),
    )  # fmt: skip


@pytest.fixture
def ledger(tmp_path: Path, shared_database: str) -> Iterator[Ledger]:
    with closing(open_ledger(tmp_path, shared_database)) as made:
        yield made


@pytest.fixture
def homes(tmp_path: Path) -> tuple[Home, Home]:
    """Where the run began, and another one."""
    first, second = Home(tmp_path / "first"), Home(tmp_path / "second")
    code = first.run_folder(RUN) / "code"
    code.mkdir(parents=True)
    (code / "main.py").write_text("print(1)\n")
    (code / "go").write_text("true\n")
    (code / "go").chmod(0o755)
    return first, second


def shared(ledger: Ledger, home: Home, made: RunSpec) -> Code:
    code = Code(home.run_folder(RUN) / "code")
    made.save(home.run_folder(RUN))
    sharing.share(ledger, home, made, code)
    return code


def test_another_home_has_plan_and_code(ledger: Ledger, homes: tuple[Home, Home], tmp_path: Path):
    """The same plan, the same code by its hash; what comes home goes below the run's folder where that is elsewhere."""
    first, second = homes
    code = shared(ledger, first, spec(tmp_path / "not here"))
    for _ in range(2):
        sharing.bring(ledger, second, RUN)
        found = RunSpec.load(second.run_folder(RUN), exactly=True)
    assert found == spec(second.run_folder(RUN) / "pulled")
    assert Code(second.run_folder(RUN) / "code").hash == code.hash
    sharing.bring(ledger, first, RUN)
    assert RunSpec.load(first.run_folder(RUN)) == spec(tmp_path / "not here"), "where it began it stays as it was"


def test_the_end_of_a_log_goes_with_it(ledger: Ledger, homes: tuple[Home, Home], tmp_path: Path):
    """What is newer there comes again; a home that writes logs itself keeps its own."""
    first, second = homes
    shared(ledger, first, spec(tmp_path))
    log = first.run_folder(RUN) / "logs" / "only" / "s.log"
    log.parent.mkdir(parents=True)
    for text in ("one\n", "x" * sharing.MOST_FILE + "two\n"):
        log.write_text(text)
        sharing.keeper(ledger, first.run_folder(RUN))(log)
        sharing.bring(ledger, second, RUN)
        assert (second.run_folder(RUN) / "logs/only/s.log").read_text() == text[-sharing.MOST_FILE :]
    os.utime(log, (1, 1))
    sharing.bring(ledger, first, RUN)
    assert log.stat().st_size > sharing.MOST_FILE


def test_uploads_that_an_earlier_run_began_come_with_the_next(ledger: Ledger, homes: tuple[Home, Home], tmp_path: Path):
    """RUN.2 keeps the names of uploads below RUN, where it finds what RUN began: in another home too."""
    first, second = homes
    upload, next_run = first.run_folder(RUN) / "uploads" / "1.json", f"{RUN}.2"
    upload.parent.mkdir()
    upload.write_text("{}")
    for run in (RUN, next_run):
        shared(ledger, first, spec(tmp_path).model_copy(update={"run": run}))
    sharing.keeper(ledger, first.run_folder(next_run))(upload)
    sharing.bring(ledger, second, next_run)
    assert (second.run_folder(RUN) / "uploads" / "1.json").read_text() == "{}"


def test_code_that_is_too_much_is_refused(
    ledger: Ledger, homes: tuple[Home, Home], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Before anything of the run is in the database."""
    monkeypatch.setattr(sharing, "MOST_CODE", 10)
    with pytest.raises(UsageError, match="the database takes"):
        shared(ledger, homes[0], spec(tmp_path))
    assert ledger.files.all() == []


def test_without_the_key_nobody_goes_on(ledger: Ledger, homes: tuple[Home, Home], tmp_path: Path):
    """It is said with the commands that bring it, and with it the other home may."""
    first, second = homes
    made = spec(tmp_path)
    shared(ledger, first, made)
    sharing.require_key(ledger, first, made)
    with pytest.raises(UsageError, match="another SSH key") as refused:
        sharing.require_key(ledger, second, made)
    assert "gpuplan owner export" in (refused.value.remedy or "")
    owners.write(tmp_path / "me", first.path, "abcdefgh")
    owners.read(tmp_path / "me", second.path)
    sharing.require_key(ledger, second, made)


def test_a_rehearsal_stays_where_its_clouds_are(tmp_path: Path):
    """On another computer nothing is begun in their place."""
    sharing.require_here(spec(tmp_path, dry_run=True, cloud=str(tmp_path)))
    with pytest.raises(UsageError, match="rehearsed on another computer"):
        sharing.require_here(spec(tmp_path, dry_run=True, cloud=str(tmp_path / "elsewhere")))
