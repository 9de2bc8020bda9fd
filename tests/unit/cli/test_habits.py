"""What every command-line tool does: help that is whole, versions, completion, logs by time and pattern, tidying."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from orchestrator.cli import common
from orchestrator.cli import help as pages
from orchestrator.cli.app import application, main
from orchestrator.cli.completion import SCRIPTS, candidates
from orchestrator.cli.logs import Wanted
from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import PhaseRow, RunRow, StepRow, VolumeRow
from orchestrator.words.lifecycle import Outcome, PhaseState, RunState, StepState, VolumeState
from orchestrator.world.home import Home
from tests.unit.engine.stepbench import Bench

NAMES = [name for group in pages.GROUPS.values() for name in group]


def group() -> Any:
    return typer.main.get_command(application())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home of its own, in a folder without a plan."""
    monkeypatch.setenv("GPUPLAN_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(common, "_printed", [])
    made = Home(tmp_path / "home")
    made.make()
    return made


def run(*words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["gpuplan", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    said = capsys.readouterr()
    return int(caught.value.code or 0), said.out, said.err


@pytest.fixture
def gpuplan(home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    return lambda *words: run(*words, monkeypatch=monkeypatch, capsys=capsys)


def put(ledger: Ledger, run: str, *, dry_run: bool = True, tags: str = "", at: float = 1.0, done: bool = True) -> None:
    state, outcome = (RunState.DONE, Outcome.SUCCEEDED) if done else (RunState.RUNNING, None)
    ledger.runs.put(
        RunRow(
            id=run, state=state, outcome=outcome, dry_run=dry_run, tags=tags, plan="toy", created_at=at, ended_at=at + 1
        )
    )


@pytest.mark.parametrize("words", [(), *((name,) for name in NAMES)], ids=lambda words: " ".join(words) or "gpuplan")
def test_help_is_whole_at_80_columns(words: tuple[str, ...]):
    """Every command's first sentence, every option and an example; nothing is cut, nothing is wider; -h is --help."""
    runner = CliRunner()
    shown = runner.invoke(application(), [*words, "-h"], terminal_width=80)
    assert shown.exit_code == 0
    assert shown.output == runner.invoke(application(), [*words, "--help"], terminal_width=80).output
    assert max(len(line) for line in shown.output.splitlines()) <= 80
    assert not re.search(r"[a-z,]\.\.\.", shown.output), "a sentence was cut"
    assert not words or "Examples:" in shown.output


def test_every_command_has_a_group_and_examples_that_are_commands():
    """The groups name each command once; each example is one that the parser takes."""
    commands = group().commands
    assert sorted(NAMES) == sorted(commands)
    for name in commands:
        for line in pages.EXAMPLES[name]:
            typed = line.partition("<(")[2].rstrip(")") or line
            words = shlex.split(typed, comments=True)
            _, command, *words = words[: next((n for n, word in enumerate(words) if word in "|>"), None)]
            assert command == name
            commands[name].make_context(name, words, resilient_parsing=False)


def test_version_is_that_of_the_package(gpuplan: Any):
    """`gpuplan --version`."""
    from importlib.metadata import version

    assert gpuplan("--version") == (0, f"gpuplan {version('gpuplan')}\n", "")


def test_run_without_a_phase_says_which_there_are(gpuplan: Any):
    """Exit code 2 with the plan's phases, as a remedy `all`."""
    code, _, said = gpuplan("run", "--plan", "shipped")
    assert code == 2
    assert "day1, day2-3, day4-5, day6-7" in said


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["st"], ["status"]),
        (["run", ""], ["day1", "day2-3", "day4-5", "day6-7", "all"]),
        (["run", "day1", "day"], ["day2-3", "day4-5", "day6-7"]),
        (["run", "--spot"], ["--spot", "--spot-or-demand"]),
        (["run", "--provider", "l"], ["lambda"]),
        (["run", "--config", ""], []),
        (["logs", "--step", "one/t"], ["one/train"]),
        (["pull", "--phase", ""], ["one"]),
        (["status", ""], ["1128-new", "1127-old"]),
        (["status", "1128-new", ""], []),
        (["ls", "--tag", ""], ["nightly"]),
        (["nope", ""], []),
    ],
)
def test_what_a_word_may_become(home: Home, words: list[str], found: list[str]):
    """Commands, options and their values; phases of the plan that is meant; runs, the newest first; steps; tags."""
    ledger = home.open_ledger()
    put(ledger, "1127-old", at=1.0)
    put(ledger, "1128-new", at=2.0, tags="nightly")
    ledger.phases.put(PhaseRow(run="1128-new", name="one", state=PhaseState.DONE))
    ledger.steps.put(StepRow(run="1128-new", phase="one", id="one/train", state=StepState.DONE))
    ledger.steps.put(StepRow(run="1128-new", phase="one", id="one/data", state=StepState.DONE))
    assert candidates(words, group()) == found


@pytest.mark.parametrize("shell", sorted(SCRIPTS))
def test_the_shells_script_is_one(shell: str):
    """What is printed is what that shell reads; bash completes with it. A shell that is not here is not asked."""
    assert "gpuplan --complete" in SCRIPTS[shell]
    if not (program := shutil.which(shell)):
        pytest.skip(f"{shell} is not here")
    if shell != "bash":
        subprocess.run([program, "-n", "-c", SCRIPTS[shell]], check=True)
        return
    ask = f"{SCRIPTS[shell]}\ngpuplan() {{ printf 'status\\nssh\\n'; }}\nCOMP_WORDS=(gpuplan st); COMP_CWORD=1\n"
    done = subprocess.run(
        [program, "-c", f"{ask}_gpuplan; echo ${{COMPREPLY[@]}}"], check=True, capture_output=True, text=True
    )
    assert done.stdout == "status\n", done.stderr


def test_logs_by_end_time_and_pattern(tmp_path: Path):
    """--tail: the last lines that match; --since: what came after that moment; a log without times: all or nothing."""
    log = tmp_path / "one.log"
    log.write_text("a error\nb\nc error\nd\n")
    lines = log.read_text().splitlines()
    assert list(Wanted(tail=1).of(iter(lines))) == ["d"]
    assert list(Wanted(tail=0).of(iter(lines))) == []
    assert list(Wanted(tail=1, grep=re.compile("error")).of(iter(lines))) == ["c error"]
    assert Wanted().first_byte(log) == 0
    assert Wanted(since=time.time() - 60).first_byte(log) == 0
    assert Wanted(since=time.time() + 60).first_byte(log) == log.stat().st_size
    log.with_suffix(".times").write_text("100 0\n200 8\n300 18\n")
    assert [Wanted(since=float(at)).first_byte(log) for at in (50, 150, 300, 301)] == [0, 8, 18, log.stat().st_size]


@pytest.mark.parametrize("words", [("--since", "soon"), ("--grep", "["), ("--json", "--follow")])
def test_what_logs_cannot_do_is_said(gpuplan: Any, words: tuple[str, ...]):
    """Exit code 2, and how it is written."""
    assert gpuplan("logs", *words)[0] == 2


def litter_of(home: Home, *runs: str) -> None:
    for run in runs:
        for name in ("pulled", "rehearsal", "logs"):
            (home.run_folder(run) / name).mkdir(parents=True)
            (home.run_folder(run) / name / "file").write_bytes(bytes(1000))


def test_prune_keeps_the_newest_rehearsals_and_what_goes_on(home: Home, gpuplan: Any):
    """Pulled files and clouds of older ended rehearsals go, with their size; logs, real runs and living ones stay."""
    ledger, runs = home.open_ledger(), [f"1128-aaa{n}" for n in range(6)]
    for number, name in enumerate(runs):
        put(ledger, name, at=float(number), dry_run=name != runs[0], done=name != runs[1])
    litter_of(home, *runs)
    assert gpuplan("prune")[0] == 2, "nobody is there to ask"
    assert (home.run_folder(runs[2]) / "pulled").exists()
    code, out, _ = gpuplan("prune", "--yes")
    assert (code, out) == (0, f"deleted: 2 kB of {runs[2]}\n")
    left = [run for run in runs if (home.run_folder(run) / "pulled").exists()]
    assert left == [run for run in runs if run != runs[2]]
    assert (home.run_folder(runs[2]) / "logs").exists()
    assert gpuplan("prune", "--yes")[1] == "nothing to delete\n"


def test_rm_forgets_a_run_that_costs_nothing(home: Home, gpuplan: Any):
    """Its rows and its folder go; one that goes on, or whose volume is there, is refused with what ends it."""
    ledger = home.open_ledger()
    put(ledger, "1128-done")
    put(ledger, "1128-runs", done=False)
    put(ledger, "1128-kept", dry_run=False)
    ledger.volumes.put(VolumeRow(name="v", run="1128-kept", label="toy", provider="runpod", state=VolumeState.CREATED))
    ledger.steps.put(StepRow(run="1128-done", phase="one", id="one/train", state=StepState.DONE))
    litter_of(home, "1128-done")
    for run, why in (("1128-runs", "has not ended"), ("1128-kept", "volume toy"), ("nope", "there is no run")):
        code, _, said = gpuplan("rm", run, "--yes")
        assert (code, why in said) == (2, True), said
    assert gpuplan("rm", "1128-done", "--yes")[:2] == (0, "forgotten: 1128-done\n")
    assert ledger.runs.maybe(id="1128-done") is None
    assert ledger.steps.all(run="1128-done") == []
    assert not home.run_folder("1128-done").exists()


def test_ls_lists_runs_by_tag(home: Home, gpuplan: Any):
    """The newest first; a run that nobody drives says so; --tag leaves the others out."""
    ledger = home.open_ledger()
    put(ledger, "1127-old", at=1.0)
    put(ledger, "1128-new", at=2.0, tags="nightly,glm", done=False)
    _, out, _ = gpuplan("ls")
    assert [line.split()[0] for line in out.splitlines()] == ["RUN", "1128-new", "1127-old"]
    assert "no process" in out
    assert "nightly, glm" in out
    assert "1127-old" not in gpuplan("ls", "--tag", "glm")[1]


def test_ls_prices_no_volume_of_a_rehearsal(home: Home, gpuplan: Any):
    """It costs nothing, however its run ended; a real one's is named with what a day of it costs."""
    ledger = home.open_ledger()
    for run, dry_run in (("1128-real", False), ("1128-play", True)):
        put(ledger, run, dry_run=dry_run)
        row = VolumeRow(name=run, run=run, label="toy", provider="runpod", state=VolumeState.CREATED, size_gb=10)
        ledger.volumes.put(replace(row, price_hour=Decimal("0.001")))
    lines = {line.split()[0]: line for line in gpuplan("ls")[1].splitlines()}
    assert "volume toy 10 GB $0.024" in lines["1128-real"]
    assert lines["1128-play"].endswith("  -")


def test_ls_says_what_kept_volumes_cost_between_runs(home: Home, gpuplan: Any):
    """An hour after its run a volume has cost that hour, which is in no run's cost; with a tag it is left out."""
    ledger = home.open_ledger()
    put(ledger, "1128-real", dry_run=False)
    now = ledger.now()
    ledger.runs.change({"id": "1128-real"}, created_at=now - 7200, ended_at=now - 3600)
    row = VolumeRow(name="v", run="1128-real", label="toy", provider="runpod", state=VolumeState.CREATED)
    ledger.volumes.put(replace(row, price_hour=Decimal(2), sent_at=now - 7200))
    assert gpuplan("ls")[1].splitlines()[-1] == "volumes between runs: $2.00, which is in no run's cost"
    assert Decimal(json.loads(gpuplan("ls", "--json")[1])["volumes_between_runs_usd"]) == pytest.approx(
        Decimal(2), abs=Decimal("0.1")
    )
    assert "between" not in gpuplan("ls", "--tag", "x")[1]


def seconds(words: list[str], env: dict[str, str]) -> float:
    """Seconds of a core that a command takes: what else this computer does is hardly in them."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, env=env, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize(("command", "times"), [("--help", 15), ("ls", 30), ("status", 30)])
def test_commands_begin_at_once(home: Home, tmp_path: Path, command: str, times: int):
    """--help within 15 times `python -c pass`; ls and status within 30: the best of seven pairs."""
    put(home.open_ledger(), "1128-done")
    spec = Bench(tmp_path).context.spec.model_copy(update={"run": "1128-done"})
    home.run_folder("1128-done").mkdir()
    spec.save(home.run_folder("1128-done"))
    env = {**os.environ, "GPUPLAN_HOME": str(home.path), "PYTHONDONTWRITEBYTECODE": ""}
    tool = [sys.executable, "-c", "from orchestrator.cli import main; main()", command]
    ratios = (seconds(tool, env) / seconds([sys.executable, "-c", "pass"], env) for _ in range(7))
    assert min(ratios) <= times


def test_the_c_locale_without_colours_is_enough(home: Home):
    """LC_ALL=C and NO_COLOR: no escape sequence and no error."""
    put(home.open_ledger(), "1128-done")
    env = {**os.environ, "GPUPLAN_HOME": str(home.path), "LC_ALL": "C", "LANG": "C", "NO_COLOR": "1"}
    tool = [sys.executable, "-c", "from orchestrator.cli import main; main()", "ls"]
    done = subprocess.run(tool, env=env, capture_output=True, check=True)
    assert b"1128-done" in done.stdout
    assert b"\x1b" not in done.stdout
