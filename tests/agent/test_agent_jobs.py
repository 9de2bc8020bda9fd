"""Jobs: how they start, end, are stopped, and what they leave."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.agent.conftest import Machine, eventually


@pytest.mark.parametrize(
    ("command", "code", "number"),
    [
        ("true", 0, None),
        ("exit 7", 7, None),
        ("false; echo not reached", 1, None),  # -e
        ("false | true", 1, None),  # pipefail
        ("kill -TERM $$", 143, 15),
        ("no-such-program-here", 127, None),
    ],
)
def test_exit_codes(machine: Machine, command: str, code: int, number: int | None):
    """A job's end carries its shell's exit code, and 128 + the number where a signal ended it."""
    log, end = machine.run("job", command)
    assert (end["exit"], end["signal"]) == (code, number)
    assert "not reached" not in log
    assert (end["timed_out"], end["stopped"], end["lost"]) == (False, False, False)


def test_both_outputs_are_logged(machine: Machine):
    """Standard output and standard error are one log, line by line, each in the order in which it was written."""
    log, end = machine.run("job", "echo one; echo two >&2; echo three; printf 'no newline'; echo four >&2")
    lines = log.splitlines()
    assert [line for line in lines if line in ("two", "four")] == ["two", "four"]
    assert [line for line in lines if line not in ("two", "four")] == ["one", "three", "no newline"]
    assert end["log_bytes"] == len(log)


def test_starting_twice_runs_once(machine: Machine):
    """A job is started once for its id: while it runs and after its end, asking again only says where it stands."""
    waiting = "echo ran >> count; until [ -e go ]; do sleep 0.02; done"
    assert machine.start("job", waiting)["state"] == "running"
    assert machine.start("job", "echo ran >> count")["state"] == "running"
    (machine.workspace / "go").touch()
    machine.watch("job")
    assert machine.start("job", "echo ran >> count")["state"] == "ended"
    assert (machine.workspace / "count").read_text() == "ran\n"


def test_ten_starts_at_once_run_once(machine: Machine):
    """Starts of the same job at the same moment run it once, and all are answered."""
    facts: dict[str, Any] = {"cwd": str(machine.workspace), "env": {}, "secrets": {}, "timeout_s": 60}
    running = [machine.begin("start", job="job", command="echo ran >> count", **facts) for _ in range(10)]
    replies = [machine.replies(process)[-1] for process in running]
    assert all(reply["ok"] for reply in replies)
    machine.watch("job")
    assert (machine.workspace / "count").read_text() == "ran\n"


def test_the_job_ends_when_its_shell_ends(machine: Machine):
    """A child that holds the output open, even in a session of its own, delays nothing and is killed."""
    command = "nohup sleep 600 & setsid sleep 601 & (setsid nohup sleep 602 &) ; for i in 1 2 3; do echo $i; done"
    began = time.monotonic()
    log, end = machine.run("job", command)
    assert time.monotonic() - began < 300
    assert log.endswith("1\n2\n3\n")
    assert end["exit"] == 0
    assert not [line for line in machine.processes().values() if "sleep 60" in line]


def test_a_stopped_job_keeps_its_last_lines(machine: Machine):
    """The last line that a stopped job wrote is the last of the streamed log and of the machine's file."""
    says = (
        "import itertools, os, time; [(os.write(1, b'line %d\\n' % n), time.sleep(0.002)) for n in itertools.count(1)]"
    )
    machine.start("job", f"nohup sleep 600 & exec {sys.executable} -c {shlex.quote(says)}")  # no shell has a last word
    eventually(lambda: len(machine.logged("job")) > 500)
    end = machine.ask("stop", job="job", grace_s=5)["end"]
    log, _ = machine.watch("job")
    assert end["stopped"]
    assert end["exit"] == 143
    lines = (machine.job("job") / "log").read_text().splitlines()
    assert log.splitlines() == lines
    assert lines[-1] == f"line {len([line for line in lines if line.startswith('line')])}"
    assert not [line for line in machine.processes().values() if "sleep 600" in line]


def test_stop_kills_what_ignores_the_request(machine: Machine):
    """A job that ignores SIGTERM is killed when the grace is over."""
    machine.start("job", "trap '' TERM; echo ready; while true; do sleep 0.05; done")
    eventually(lambda: "ready" in machine.logged("job"))
    began = time.monotonic()
    end = machine.ask("stop", job="job", grace_s=0.5)["end"]
    assert time.monotonic() - began > 0.4
    assert end["exit"] == 137
    assert end["stopped"]
    assert not end["oom"], "we killed it ourselves"


def test_stopping_an_ended_job_changes_nothing(machine: Machine):
    """Stop of a job that has ended says how it had ended."""
    machine.run("job", "exit 3")
    end = machine.ask("stop", job="job", grace_s=1)["end"]
    assert (end["exit"], end["stopped"]) == (3, False)


def test_time_out(machine: Machine):
    """At its time-out the whole of a job is ended, and its end says why."""
    log, end = machine.run("job", "echo begun; (sleep 600; echo never) & sleep 601; echo never", timeout_s=2)
    assert log.startswith("begun\n")  # the shell may say of its child that it was "Terminated", if it lives so long
    assert "never" not in log
    assert end["timed_out"]
    assert not end["oom"]
    assert end["ended"] - end["started"] < 15
    assert not [line for line in machine.processes().values() if "sleep 60" in line]


def test_a_kill_that_was_not_ours_counts_as_out_of_memory(machine: Machine):
    """Exit 137 that we did not cause is taken for the kernel's kill for want of memory."""
    _, end = machine.run("job", "bash -c 'kill -9 $$'")
    assert end["exit"] == 137
    assert end["oom"]


def content(path: Path) -> bytes:
    """What is in a file; nothing where there is none, or where it has just gone."""
    try:
        return path.read_bytes() if path.is_file() else b""
    except OSError:
        return b""


def test_secrets_reach_the_job_and_no_file(machine: Machine):
    """A secret is in the job's environment, in no file under the machine's home or memory, no command line, no log."""
    secret = "s3cr3t-token-value"
    command = 'test "$TOKEN" = "$(rev <<< eulav-nekot-t3rc3s)"; echo "it is $TOKEN"; sleep 1'
    machine.start("job", command, secrets={"TOKEN": secret})
    eventually(lambda: "it is" in machine.logged("job"))
    holders = [
        path
        for root in (machine.home, machine.workspace, Path("/dev/shm"))
        for path in root.rglob("*")
        if secret.encode() in content(path)
    ]
    assert holders == []
    assert secret not in subprocess.run(["ps", "-axww", "-o", "args="], capture_output=True, check=True).stdout.decode()
    log, end = machine.watch("job")
    assert log == "it is ***\n"
    assert end["exit"] == 0
    assert machine.ask("jobs")["jobs"][0]["job"] == "job"
    assert "TOKEN" in (machine.job("job") / "request.json").read_text(), "its name is kept, its text is not"


def test_files_of_a_job_are_private(machine: Machine):
    """What the agent keeps is readable by its user only."""
    machine.run("job", "echo x")
    for path in (
        machine.home / ".gpuplan",
        machine.job("job"),
        machine.job("job") / "log",
        machine.job("job") / "exit.json",
    ):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_awkward_names_arrive_byte_for_byte(machine: Machine):
    """Spaces, quotes, dollars, leading dashes and newlines in job ids, folders and values change nothing on the way."""
    cwd = machine.workspace / "a b" / 'c\'d "e" $HOME ~'
    cwd.mkdir(parents=True)
    values = {
        "ONE": 'it\'s "x" $HOME `id` \\',
        "TWO": "two\nlines",
        "THREE": " spaces ",
        "FOUR": "-rf",
        "FIVE": "grüße",
    }
    command = 'pwd -P > out; python3 -c \'import json, os; json.dump(dict(os.environ), open("-rf", "w"))\''
    log, end = machine.run("run/phase/step with 'quotes' /1", command, cwd=str(cwd), env=values)
    assert end["exit"] == 0, log
    assert (cwd / "out").read_text() == f"{cwd}\n"
    seen = json.loads((cwd / "-rf").read_text())
    assert {name: seen[name] for name in values} == values
    assert machine.ask("jobs")["jobs"][0]["job"] == "run/phase/step with 'quotes' /1"


def test_a_command_that_begins_with_a_dash_is_a_command(machine: Machine):
    """A command text is never taken for an option of the shell."""
    log, end = machine.run("job", "-x; echo no")
    assert end["exit"] == 127
    assert "-x" in log


def test_the_environment_of_a_job(machine: Machine):
    """A job finds the workspace, the files for what it reports, and in PATH the venv, then the machine's own."""
    log, _ = machine.run("job", 'echo "$WORKSPACE"; echo "$GPUPLAN_METRICS"; echo "$GPUPLAN_PROGRESS"; echo "$PATH"')
    workspace, metrics, progress, path = log.splitlines()
    assert workspace == str(machine.workspace)
    assert metrics == str(machine.job("job") / "metrics")
    assert progress == str(machine.job("job") / "progress")
    assert path.split(":")[:2] == [str(machine.home / ".gpuplan" / "venv" / "bin"), str(machine.bin)]


def test_metrics(machine: Machine):
    """Figures that a job reports come with its end, the last of each name, and where it says that it measured each.

    A line that is none does no harm, nor does what else it says; names have a bound, and figures are numbers.
    """
    lines = [
        '{"name": "speed", "value": 1}',
        "rubbish",
        '{"value": 2}',
        '{"name": "speed", "value": 12.5, "measured_on": "CPU (x), 2 thread(s)", "device": "cpu", "more": [1]}',
        '{"name": "word", "value": "' + "x" * 300 + '"}',
        '{"name": "' + "n" * 101 + '", "value": 3}',
        '{"name": ["list"], "value": 3}',
        "[]",
        '{"name": "size", "value": 3, "measured_on": 7, "device": "' + "d" * 300 + '"}',
        '{"na',
    ]
    command = "\n".join(f"echo '{line}' >> \"$GPUPLAN_METRICS\"" for line in lines)
    _, end = machine.run("job", command)
    assert end["metrics"] == {
        "speed": {"value": 12.5, "measured_on": "CPU (x), 2 thread(s)", "device": "cpu"},
        "size": {"value": 3, "device": "d" * 200},
    }


def test_standard_output_is_kept_by_itself(machine: Machine):
    """The log has both outputs; what came on standard output can be had alone, whole characters, secrets masked."""
    log, _ = machine.run("job", 'echo "é $S"; echo "no" >&2; printf rest', secrets={"S": "hidden-text"})
    assert sorted(log.splitlines()) == ["no", "rest", "é ***"]
    lines = machine.lines("watch", job="job", offset=0, stdout=True)
    assert "".join(line.get("log", "") for line in lines) == "é ***\nrest"


@pytest.mark.parametrize("closes", ["exec >&-; echo on >&2", "exec 2>&-; echo on", "exec >&- 2>&-; true"])
def test_a_job_may_close_its_outputs(machine: Machine, closes: str):
    """A job that gives up one of its outputs, or both, goes on and ends well."""
    log, end = machine.run("job", f"{closes}; sleep 0.3")
    assert (log, end["exit"]) == ("on\n" if "echo" in closes else "", 0)


def _progress(machine: Machine, command: str) -> list[Any]:
    """Every progress that is streamed while a job of that command runs, in order."""
    machine.start("job", command)
    lines = machine.lines("watch", job="job", offset=0)
    assert lines[-1]["end"]["exit"] == 0
    samples = [line["sample"] for line in lines if "sample" in line]
    assert all(sample["disk_free_mib"] > 0 for sample in samples)
    return [sample["progress"] for sample in samples if "progress" in sample]


def test_progress_is_streamed_while_it_changes(machine: Machine):
    """The newest of what a job says of its progress comes with a sample within two seconds, through a busy log too."""
    command = """for i in $(seq 1 40); do
        echo "{\\"done\\": $i, \\"total\\": 40}" > "$GPUPLAN_PROGRESS.new"
        mv "$GPUPLAN_PROGRESS.new" "$GPUPLAN_PROGRESS"
        for j in $(seq 1 300); do echo "line $i $j of a busy log"; done; sleep 0.1
    done"""
    found = _progress(machine, command)
    assert 4 <= len({said["done"] for said in found}) < 20
    assert [said["done"] for said in found] == sorted(said["done"] for said in found)
    assert all(said["total"] == 40 for said in found)


@pytest.mark.parametrize(
    "writes",
    ['echo \'{"done": 1, "to\' >', "head -c 100000 /dev/zero | tr '\\0' '[' >", "echo 7 >", "mkfifo", "mkdir"],
    ids=["half a line", "deep and long", "a number", "a pipe", "a folder"],
)
def test_progress_that_is_none_does_no_harm(machine: Machine, writes: str):
    """Whatever a job makes of its progress file, it is followed to its end, and nothing is said of progress."""
    assert _progress(machine, f'{writes} "$GPUPLAN_PROGRESS"; sleep 1.5') == []


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="this system does not count what a process moves")
def test_samples_count_the_bytes_that_a_job_moves(machine: Machine):
    """What its processes have read and written so far: it stands still with them, and never goes back."""
    machine.tool("nvidia-smi", "exit 1")  # a program that is there: a traced fork moves bytes where it finds none
    machine.start("job", "printf '%*s' 3000000 x > file; sleep 1.2; exec sleep 60")
    counts = list[int]()
    with machine.begin("watch", job="job", offset=0) as watching:
        assert watching.stdout
        for line in map(json.loads, watching.stdout):
            counts += [line["sample"]["moved_bytes"]] if "sample" in line else []
            if len(counts) > 1 and counts[-2] >= 3_000_000:
                break
        watching.kill()
    assert counts == sorted(counts)
    assert 3_000_000 <= counts[-2] <= counts[-1] < counts[-2] + 100_000


def test_peaks_come_from_the_gpus(machine: Machine):
    """Peaks are the highest of what nvidia-smi reported, also for a job that is over at once; [N/A] is left out."""
    smi = "echo '0, A100, 1000, 80000, 10'; echo '1, A100, 60000, 80000, 97'; echo '2, L4, [N/A], [N/A], 5'"
    machine.tool("nvidia-smi", smi)
    _, end = machine.run("job", "true")
    peaks = end["peaks"]
    assert (peaks["gpu_memory_percent"], peaks["gpu_memory_mib"], peaks["gpu_utilisation"]) == (75.0, 60000.0, 97.0)
    assert peaks["disk_free_mib_min"] > 0


def test_the_agent_says_which_cards_it_saw_at_work(machine: Machine):
    """One that computed counts, or one that holds memory where the driver tells no utilisation; an idle one not."""
    idle, busy, untold = "0, A100, 3, 80000, 0", "1, A100, 60000, 80000, 1", "2, L4, 5000, 24000, [N/A]"
    machine.tool("nvidia-smi", f"echo '{idle}'; echo '{busy}'; echo '{untold}'; echo '3, T4, 9, 16000, [N/A]'")
    _, end = machine.run("job", "true")
    assert (end["cards"], end["peaks"]["gpus_at_work"]) == (["A100", "L4"], 2)
    machine.tool("nvidia-smi", f"echo '{idle}'")
    _, end = machine.run("again", "true")
    assert (end["cards"], end["peaks"]["gpus_at_work"]) == ([], 0)


def test_a_hanging_nvidia_smi_holds_nothing_up(machine: Machine):
    """A driver tool that never answers delays neither the log nor the end by much."""
    machine.tool("nvidia-smi", "sleep 600")
    began = time.monotonic()
    log, end = machine.run("job", "echo x")
    assert (log, end["exit"]) == ("x\n", 0)
    assert time.monotonic() - began < 300
    assert not [line for line in machine.processes().values() if "sleep 600" in line]


def test_a_killed_supervisor_is_an_end_too(machine: Machine):
    """When its supervisor is killed, its job is lost; the rest of it is killed in any session; it is not run again."""
    machine.start("job", "(setsid sleep 601 &) ; echo x; sleep 600")
    eventually(lambda: "x" in machine.logged("job"))
    os.kill(int((machine.job("job") / "supervisor").read_text()), signal.SIGKILL)
    _, end = machine.watch("job")
    assert end["lost"]
    assert end["exit"] == 255
    assert machine.start("job", "echo again >> count")["state"] == "ended"
    assert not (machine.workspace / "count").exists()
    eventually(lambda: not [line for line in machine.processes().values() if "sleep 60" in line])


def test_refusals_leave_nothing(machine: Machine):
    """What cannot be started is refused with a code, and can be started rightly afterwards."""
    assert machine.start("job", "true", cwd="/no/such/folder")["code"] == "no_cwd"
    assert machine.start("job", "true", cwd="relative")["code"] == "bad_request"
    assert machine.start("job", "x" * 200_000)["code"] == "bad_request"
    assert machine.start("job", "true", env={"A=B": "c"})["code"] == "bad_request"
    assert machine.ask("watch", job="job", offset=0)["code"] == "no_job"
    assert machine.ask("stop", job="job")["code"] == "no_job"
    assert machine.run("job", "echo now")[0] == "now\n"


def test_bad_requests_are_answered(machine: Machine):
    """Whatever is asked, the answer is one line with a code, never a traceback."""
    for facts in ({"op": "nothing"}, {"op": "start"}, {"op": "lease", "name": 3}, {"op": "files", "root": "x"}):
        reply = machine.ask(**facts)
        assert (reply["ok"], reply["code"]) == (False, "bad_request"), reply


def test_a_full_disk_does_not_hide_how_a_job_ended(machine: Machine):
    """A job that fills the disk which its own files are on still has its log's beginning and its exit code."""
    inside = f"mount -t tmpfs -o size=3m none {shlex.quote(str(machine.home))} && {shlex.join(machine.agent)}"
    namespace = ["unshare", "--mount", "bash", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*namespace, inside], input=b"{}", check=False).returncode:
        pytest.skip("this user cannot mount a small file system")
    logged = (
        'logged() { until grep -q "$1" "$HOME/.gpuplan/jobs/job/log"; do sleep 0.01; done; }'  # before what is next
    )
    fill = (
        'echo begun; logged begun; head -c 9000000 /dev/zero > "$HOME/fill"; logged space; yes | head -c 100000; exit 5'
    )
    facts = {"job": "job", "cwd": "/", "env": {}, "secrets": {}, "timeout_s": 60, "workspace": str(machine.workspace)}
    start = {"op": "start", **facts, "command": f"set +e; {logged}; {fill}"}
    watch = {"op": "watch", "job": "job", "offset": 0}
    requests = " && ".join(f"{shlex.join(machine.agent)} <<< {shlex.quote(json.dumps(r))}" for r in (start, watch))
    script = inside.partition(" && ")[0] + f" && {requests}"
    done = subprocess.run([*namespace, script], capture_output=True, env=machine.env, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[0] == {"ok": True, "state": "running"}
    assert (lines[-1]["end"]["exit"], lines[-1]["end"]["lost"]) == (5, False)
    log = "".join(line.get("log", "") for line in lines)
    assert log.startswith("begun\n")
    assert "No space left" in log
