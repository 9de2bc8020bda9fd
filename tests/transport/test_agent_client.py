"""The agent through the transport: on a real sshd and on an emulated machine."""

from __future__ import annotations

import json
import os
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from orchestrator.transport import bundle
from orchestrator.transport.agent import Agent
from orchestrator.transport.job import Job
from orchestrator.transport.job_replies import JobEnd, Sample
from orchestrator.transport.measured import Measured
from orchestrator.transport.refusals import AgentFailed, DeadmanExpired, GpuFailed, LeaseHeld
from orchestrator.words.errors import ConnectionLost, StepFailed
from orchestrator.words.secret import Secret
from orchestrator.words.store import Part, SignedPart
from tests.transport.conftest import Reached


def begin(reached: Reached, command: str, job: str = "job", **facts: Any) -> str:
    defaults: dict[str, Any] = {"cwd": str(reached.workspace), "env": {}, "secrets": {}, "timeout_s": 60.0}
    return reached.agent.start(Job(id=job, command=command, **{**defaults, **facts}))


class Log:
    """What a follower has heard."""

    def __init__(self) -> None:
        self.text, self.offset = "", 0

    def add(self, text: str, offset: int) -> None:
        self.text += text
        self.offset = offset


def test_a_job_from_start_to_end(reached: Reached):
    """A job is started, followed, and its end comes with exit code, figures and peaks; samples come meanwhile."""
    log, samples = Log(), list[Sample]()
    figure = 'echo \'{"name": "x", "value": 2.5, "device": "cpu"}\' >> "$GPUPLAN_METRICS"'
    given: dict[str, Any] = {"env": {"A": "it's $HOME"}, "secrets": {"S": Secret("hidden-text")}}
    assert begin(reached, f'echo "$A" "$S"; {figure}; sleep 1.3; exit 3', **given) == "running"
    end = reached.agent.follow("job", 0, log.add, samples.append)
    assert isinstance(end, JobEnd)
    assert log.text == "it's $HOME ***\n"
    assert (end.exit, end.signal, end.oom, end.timed_out, end.stopped, end.lost) == (
        3,
        None,
        False,
        False,
        False,
        False,
    )
    assert end.figures == {"x": Measured(2.5, "", "cpu")}
    assert end.peaks.disk_free_mib_min
    assert 1.0 < end.seconds < 10
    assert samples[0].disk_free_mib > 0
    assert begin(reached, "echo again") == "ended"
    assert [(info.job, info.state, info.service) for info in reached.agent.jobs()] == [("job", "ended", False)]


def test_a_job_survives_a_cut_connection(reached: Reached):
    """A cut ends the following with ConnectionLost; the job goes on, and following from the offset misses nothing."""
    log = Log()
    begin(reached, "for i in $(seq 1 20); do echo line $i; sleep 0.1; done; while [ ! -e go ]; do sleep 0.05; done")
    cuts = 0
    end = None
    while end is None:
        timer = threading.Timer(0.4, reached.cut)
        if cuts < 3:
            timer.start()
        else:
            (reached.workspace / "go").touch()
        try:
            end = reached.agent.follow("job", log.offset, log.add)
        except ConnectionLost:
            cuts += 1
    assert cuts == 3
    assert end.exit == 0
    assert log.text == "".join(f"line {number}\n" for number in range(1, 21))


def test_short_requests_ride_over_a_cut(reached: Reached):
    """A question that is answered at once is asked again when the connection turns out to be cut."""
    reached.agent.write(".gpuplan/x", "1")
    reached.cut()
    assert reached.agent.read(".gpuplan/x") == "1"
    reached.cut()
    assert reached.agent.names(".gpuplan") == ["x"]


def test_following_is_stopped_on_request(reached: Reached):
    """Following can be stopped without an error; the job goes on, and can be stopped too, with its last lines kept."""
    log, stop = Log(), threading.Event()
    begin(reached, "echo begun; i=0; while true; do i=$((i+1)); echo line $i; sleep 0.01; done")

    def add(text: str, offset: int) -> None:
        log.add(text, offset)
        if "line 5" in log.text:
            stop.set()

    assert reached.agent.follow("job", 0, add, stop=stop.is_set) is None
    assert reached.agent.jobs()[0].state == "running"
    end = reached.agent.stop("job", grace_s=2)
    assert end.stopped
    last = reached.agent.follow("job", log.offset, log.add)
    assert last == end
    on_disk = (reached.home / ".gpuplan" / "jobs" / "job" / "log").read_text()
    assert log.text == on_disk


def test_fifty_megabytes_of_progress_stay_small_here(reached: Reached):
    """Of 50 MB of redrawn lines little reaches the controller: its memory stays flat, and `done` is there."""
    log = Log()
    body = "x" * 90
    script = f"import sys; [sys.stdout.write(f'{{i:07}} {body}\\r') for i in range(510000)]; print('done')"
    tracemalloc.start()
    begin(reached, f'python3 -c "{script}"')
    end = reached.agent.follow("job", 0, log.add)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert end is not None
    assert end.exit == 0
    assert log.text.endswith("done\n")
    assert len(log.text) < 100_000
    assert peak < 20_000_000


def test_the_agent_installs_itself_where_it_is_missing(reached: Reached):
    """A machine whose disk is new, with the same address, gets the agent again with the next request."""
    installed = next((reached.home / ".gpuplan").glob("agent-*"))
    installed.rename(reached.home / "gone")
    assert reached.agent.jobs() == []
    assert installed.is_dir()
    installed.rename(reached.home / "gone too")
    assert reached.agent.files(str(reached.workspace), ["*"]) == []
    assert installed.is_dir()


def test_installing_at_the_same_time(reached: Reached):
    """Installers at the same time all succeed, and leave one whole agent and nothing else."""
    installed = next((reached.home / ".gpuplan").glob("agent-*"))
    installed.rename(reached.home / "gone")
    threads = [threading.Thread(target=reached.agent.install) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = {path.name for path in (reached.home / ".gpuplan").iterdir()}
    assert names == {installed.name, "environ"}
    there = {path.name for path in installed.iterdir() if path.name != "__pycache__"}
    assert there == {"__main__.py", "bootstrap.sh", "gpuplan_agent"}
    assert reached.agent.jobs() == []


def test_refusals_are_typed(reached: Reached):
    """What the agent refuses is an error with its code, of a class of its own where callers must tell it apart."""
    agent = reached.agent
    assert agent.lease("volume", "run-1", 60).expires.timestamp() > time.time() + 30
    with pytest.raises(LeaseHeld) as held:
        agent.lease("volume", "run-2", 60)
    assert held.value.holder == "run-1"
    assert held.value.expires.timestamp() > time.time()
    with pytest.raises(GpuFailed) as gpu:
        agent.probe(9)
    assert gpu.value.code == "no_gpu"
    with pytest.raises(AgentFailed) as outside:
        agent.write("x", "")
    assert outside.value.code == "outside"
    with pytest.raises(AgentFailed) as missing:
        agent.follow("none", 0, Log().add)
    assert missing.value.code == "no_job"
    agent.heartbeat(0.05, "")
    time.sleep(0.1)
    with pytest.raises(DeadmanExpired):
        begin(reached, "true")


def test_files_and_checksums(reached: Reached):
    """Files come with sizes and, on request, checksums; those of a file's parts cover it."""
    (reached.workspace / "out put").mkdir()
    (reached.workspace / "out put" / "it's.m").write_bytes(b"x" * 2500)
    (found,) = reached.agent.files(str(reached.workspace), ["out put/*.m"], sha256=True)
    assert (found.path, found.bytes) == ("out put/it's.m", 2500)
    sums = reached.agent.checksums(f"{reached.workspace}/out put/it's.m", 1000, md5=True)
    assert sums.sha256 == found.sha256
    assert [(part.number, part.offset, part.length) for part in sums.parts] == [
        (1, 0, 1000),
        (2, 1000, 1000),
        (3, 2000, 500),
    ]
    assert sums.md5
    assert reached.agent.files(str(reached.workspace), ["out put/*.m"])[0].sha256 is None


def test_urls_are_in_no_file_and_no_command_line(reached: Reached):
    """A signed URL goes over standard input: while the part is sent, it is in no command line on the machine."""
    import secrets
    import socket

    (reached.workspace / "f").write_bytes(b"x" * 1000)
    # Nobody else's: a word such as "capability" may stand in any process of the computer that runs the tests.
    signature = secrets.token_hex(16)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/b/k?X-Amz-Signature={signature}"
        part = SignedPart(Part(1, 0, 1000, ""), url, {}, (200,))
        sent: list[Any] = []
        thread = threading.Thread(target=lambda: sent.extend(reached.agent.put(f"{reached.workspace}/f", [part])))
        thread.start()
        connection, _ = listener.accept()
        with connection:
            request = b""
            while len(request) < 1000 or b"\r\n\r\n" not in request or len(request.partition(b"\r\n\r\n")[2]) < 1000:
                request += connection.recv(65536)
            for process in Path("/proc").glob("[0-9]*"):
                assert signature.encode() not in _command_line(process)
            connection.sendall(b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\n\r\n')
        thread.join(10)
    assert request.startswith(f"PUT /b/k?X-Amz-Signature={signature} HTTP/1.1\r\n".encode())
    (result,) = sent
    assert (result.stored, result.etag, result.bytes) == (True, '"e"', 1000)
    assert signature not in repr(result)


def _command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def test_a_machine_without_python_says_so(reached: Reached):
    """When the agent cannot run, the error gives the machine's own words."""
    agent = Agent(reached.agent.transport, workspace="/x")
    agent._calls.single = agent._calls.standing = "echo no python here >&2; exit 127"
    with pytest.raises(AgentFailed, match="no python here"):
        agent.jobs()
    with pytest.raises(StepFailed, match="no python here"):
        agent.files("/", ["*"])


def test_the_bundle_depends_on_content_alone(tmp_path: Path):
    """The same sources give the same bytes and hash, whatever their times, modes and caches; a changed byte another."""
    (tmp_path / "gpuplan_agent" / "__pycache__").mkdir(parents=True)
    (tmp_path / "agent.py").write_text("main")
    (tmp_path / "bootstrap.sh").write_text("make")
    (tmp_path / "gpuplan_agent" / "a.py").write_text("a")
    first = bundle.load(tmp_path)
    bundle.load.cache_clear()
    (tmp_path / "gpuplan_agent" / "__pycache__" / "a.pyc").write_text("cache")
    (tmp_path / "gpuplan_agent" / "a.py").chmod(0o600)
    os.utime(tmp_path / "agent.py", (1, 1))
    assert bundle.load(tmp_path) == first
    bundle.load.cache_clear()
    (tmp_path / "gpuplan_agent" / "a.py").write_text("b")
    assert bundle.load(tmp_path).digest != first.digest
    bundle.load.cache_clear()


def test_what_a_step_costs(reached: Reached, capsys: pytest.CaptureFixture[str]):
    """Shows what starting and following an empty job costs (printed, not judged)."""
    times = []
    for number in range(5):
        began = time.perf_counter()
        begin(reached, "true", job=f"job-{number}")
        end = reached.agent.follow(f"job-{number}", 0, Log().add)
        times.append(time.perf_counter() - began)
        assert end is not None
        assert end.exit == 0
    with capsys.disabled():
        print(f"\nan empty job, start to end: {1000 * sorted(times)[2]:.0f} ms")  # noqa: T201 - for whoever looks
    assert json.loads((reached.home / ".gpuplan" / "jobs" / "job-0" / "exit.json").read_text())["exit"] == 0
