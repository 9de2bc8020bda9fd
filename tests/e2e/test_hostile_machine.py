"""A machine that talks and never answers: whatever ends the run ends it at the provider, and soon."""

from __future__ import annotations

import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e import hostile
from tests.e2e.tool import INT, PLANS, Process, Tool, ended, until

THEN = "touch turned; sleep 280"


def begin(tool: Tool, folder: Path, *, nodes: int = 1, budget: str = "5") -> Process:
    """A run whose machine has turned: from now on its agent says {} for ever."""
    plan = hostile.plan(folder / "plan", hostile.EMPTY_FOR_EVER, THEN, nodes=nodes, budget=budget)
    process = tool.start("run", "all", "--plan", str(plan), "--dry-run", "--yes")
    until(lambda: list(tool.cloud.file.parent.glob("cloud/volumes/*/turned")) or process.poll() is not None, 200)
    return process


def outcome(tool: Tool) -> tuple[list[str], str, str]:
    """The machines that are left, and how the newest run stands."""
    document = tool.status()
    return tool.cloud.alive()["machines"], document["state"], document["outcome"]


def test_ctrl_c_needs_nothing_of_a_machine(tool: Tool, tmp_path: Path):
    """Both machines of the phase are ended though one of them answers {} for ever; exit code 6, nothing is left."""
    process = begin(tool, tmp_path, nodes=2)
    until(lambda: len(tool.creates()) == 2)  # the first machine may turn before the second is asked for
    code, output = ended(process, INT, seconds=120)
    assert code == 6, output
    assert outcome(tool) == ([], "DONE", "interrupted")


@pytest.mark.faults
def test_down_needs_nothing_of_a_machine(tool: Tool, tmp_path: Path):
    """`down` beside the driver ends it: exit code 0, the driver's 6."""
    process = begin(tool, tmp_path)
    done = tool.run("down", timeout=120)
    assert done.returncode == 0, done.stderr
    assert process.wait(60) == 6
    assert outcome(tool) == ([], "DONE", "interrupted")


@pytest.mark.faults
def test_down_ends_the_machine_of_a_driver_that_hangs(tool: Tool, tmp_path: Path):
    """A driver that is frozen: `down` ends its machine by its name; the driver, awake again, ends as interrupted."""
    process = begin(tool, tmp_path)
    process.send_signal(signal.SIGSTOP)
    down = tool.start("down")
    until(lambda: tool.cloud.alive()["machines"] == [], 120)
    process.send_signal(signal.SIGCONT)
    assert ended(process)[0] == 6
    code, output = ended(down)
    assert (code, "its machines are ended by their names" in output) == (0, True)
    assert outcome(tool) == ([], "DONE", "interrupted")


@pytest.mark.faults
def test_a_budget_needs_nothing_of_a_machine(tool: Tool, tmp_path: Path):
    """What accrues passes the cap: exit code 5, and the machine is gone."""
    code, output = ended(begin(tool, tmp_path, budget="0.002"), seconds=120)
    assert code == 5, output
    assert outcome(tool) == ([], "DONE", "over_budget")


GREEDY = """\
import itertools, json, sys
SIZE, standing = (4 << 20) - 100, len(sys.argv) > 1
LETTERS = '"' + chr(92) + 'ud83d' + chr(92) + 'ude00' + 'x' * SIZE + '"'
VALUES = itertools.cycle([LETTERS, '[' + '{"":0},' * (SIZE // 7) + '0]'])
for asked in map(json.loads, sys.stdin):
    if standing and 'request' not in asked:
        continue
    for before, after in [('{"log": ', ', "offset": 1}'), ('{"ok": true, "x": ', '}')]:
        if standing:
            before, after = '{"id": %d, "line": ' % asked['id'] + before, after + '}'
        print(before + next(VALUES) + after, flush=True)
    if not standing:
        break
    print('{"id": %d, "exit": 0}' % asked['id'], flush=True)
"""


def peak_mib(tool: Tool, plan: Path) -> float:
    """The largest resident memory of a whole run's process, as the kernel keeps it while the process lives.

    What `wait4` tells is of no use: it begins with the memory of the process that forked it, which is pytest's own.
    """
    words = ("run", "all", "--plan", str(plan), "--dry-run", "--yes")
    process, peak = tool.start(*words, program="from orchestrator.cli import main; main()"), 0.0
    with ThreadPoolExecutor(1) as reader:
        output = reader.submit(process.stdout.read)
        while process.poll() is None:
            found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
            peak = max(peak, int(found[1]) / 1024 if found else 0.0)  # a process that has just ended has none
            time.sleep(0.02)
        assert process.returncode == 3, output.result()
    return peak


@pytest.mark.faults
def test_a_machine_takes_no_memory_of_the_controllers(tool: Tool, tmp_path: Path):
    """Answers as long and as costly to read as the bounds let through: at most 64 MiB over an honest run, and 256."""
    honest = peak_mib(tool, PLANS / "failing")
    greedy = peak_mib(tool, hostile.plan(tmp_path / "plan", GREEDY, "true"))
    assert greedy <= 256, (honest, greedy)
    assert greedy - honest <= 64, (honest, greedy)
