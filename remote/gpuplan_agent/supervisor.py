"""The process that stands by a job: it keeps the log, takes samples, ends the job, and writes down how it ended."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from typing import Any

from gpuplan_agent import sampling
from gpuplan_agent.course import Course
from gpuplan_agent.jobfolder import JobFolder
from gpuplan_agent.outputs import READ_BYTES, Outputs
from gpuplan_agent.places import open_regular
from gpuplan_agent.processes import adopt_orphans, descendants, send, send_session, spawn, started_at
from gpuplan_agent.wire import AgentError

TIMEOUT_GRACE_S = 5.0
RESERVE_BYTES = 1 << 16
DRAIN_S = 2.0  # for what the dead have left in the pipe
METRICS_BYTES = 1 << 20
NAME_CHARACTERS = 100  # of a figure
TEXT_CHARACTERS = 200  # of what is said beside it
SHELL = ["bash", "-eo", "pipefail", "-c", "--"]


class Supervisor:
    """One job from its start to its end. `timeout_s` None: as long as it takes. `secrets` are masked in the log."""

    def __init__(
        self,
        folder: JobFolder,
        command: str,
        cwd: str,
        env: dict[str, str],
        timeout_s: float | None,
        secrets: list[str],
    ) -> None:
        self.folder, self.command, self.cwd, self.env, self.timeout_s = folder, command, cwd, env, timeout_s
        self.secrets = secrets
        self.status: int | None = None  # of the shell, as wait(2) gives it
        self.stopped = self.timed_out = False
        self.kill_at: float | None = None  # monotonic; set once the job has been asked to end
        self.peaks, self.moved = sampling.Peaks(), sampling.Moved()
        self.query: tuple[int, int, float] | None = None  # nvidia-smi under way: pid, pipe, when it began
        self.answer = b""
        self.next_sample = 0.0  # the job's age, in seconds, at which it is due

    def run(self) -> None:
        """Run the job to its end. The job ends when its shell ends; then all that came of it is killed."""
        adopt_orphans()
        wake, wake_write = os.pipe()
        for end in (wake, wake_write):
            os.set_blocking(end, False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(wake_write)
        self.started, self.began, self.oom_before = time.time(), time.monotonic(), sampling.oom_kills()
        self.course = Course(self.started)
        self.outputs = Outputs(self.folder, self.secrets)
        self._reserve()
        _write_number(self.folder.file("supervisor"), os.getpid())
        output, errors = self.outputs.pipes()
        self.shell = spawn([*SHELL, self.command], self.env, self.cwd, output, errors)
        os.close(output)
        os.close(errors)
        _write_number(self.folder.file("leader_started"), started_at(self.shell))
        _write_number(self.folder.file("pid"), self.shell)
        while self.status is None:
            self._turn(wake)
        self._await_first_sample()
        self._kill_all()
        self.outputs.drain(DRAIN_S)
        self._write_end()

    def _reserve(self) -> None:
        """Keep some room on the disk, so that the end of a job that has filled it can still be written down."""
        with open(self.folder.file("reserve"), "wb") as file:
            file.write(b" " * RESERVE_BYTES)

    def _turn(self, wake: int) -> None:
        """Wait for whatever comes next (output, a child's end, a signal, the next sample) and deal with it."""
        watched = [*self.outputs.open, wake, *([self.query[1]] if self.query else [])]
        poller = select.poll()  # not select(): a handle may be above 1023
        for fd in watched:
            poller.register(fd, select.POLLIN)
        for fd, _ in poller.poll(250):
            if fd in self.outputs.open:
                self.outputs.read(fd)
            elif fd == wake:
                os.read(wake, READ_BYTES)
            else:
                self._read_query()
        self.outputs.tick()
        self._reap()
        self._look_at_the_clock()
        self._sample()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.shell:
                self.status = status

    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        if self.status is not None:
            return
        if self.kill_at is not None:
            if now >= self.kill_at:
                self._kill_all()
            return
        if self.timeout_s is not None and now - self.began >= self.timeout_s:
            self.timed_out = True
            self._ask(TIMEOUT_GRACE_S)
        elif os.path.exists(self.folder.file("stop")):
            self.stopped = True
            self._ask(float(self.folder.json("stop").get("grace_s", TIMEOUT_GRACE_S)))

    def _ask(self, grace_s: float) -> None:
        """Ask all of the job to end, and remember when it is to be killed."""
        self.kill_at = time.monotonic() + grace_s
        send(descendants(os.getpid()), signal.SIGTERM)

    def _kill_all(self) -> None:
        """Kill the job's session and whatever left it, until nothing is there."""
        limit = time.monotonic() + TIMEOUT_GRACE_S
        send_session(self.shell, signal.SIGKILL)
        left = descendants(os.getpid())
        while left and time.monotonic() < limit:
            send(left, signal.SIGKILL)
            time.sleep(0.005)
            self._reap()
            left = descendants(os.getpid())
        self._reap()

    def _sample(self) -> None:
        """Begin a sample when it is time for one; nvidia-smi is never waited for."""
        age = time.monotonic() - self.began
        if self.query:
            if time.monotonic() - self.query[2] > sampling.LONGEST_QUERY_S:
                send({self.query[0]}, signal.SIGKILL)
            return
        if age < self.next_sample:
            return
        self.next_sample = sampling.next_at(age)
        pipe, output = os.pipe()
        self.query = (spawn(sampling.GPU_QUERY, self.env, "/", output), pipe, time.monotonic())
        os.close(output)

    def _await_first_sample(self) -> None:
        """A job that was over before its first sample gets it now, so that its peaks say something."""
        limit = time.monotonic() + DRAIN_S
        while self.query and not self.peaks.values and time.monotonic() < limit:
            if select.select([self.query[1]], [], [], DRAIN_S)[0]:
                self._read_query()

    def _read_query(self) -> None:
        assert self.query is not None
        data = os.read(self.query[1], READ_BYTES)
        self.answer += data
        if data:
            return
        os.close(self.query[1])
        gpus = sampling.parse_gpus(self.answer.decode("utf-8", "replace"))
        sample = {"at": time.time(), "gpus": gpus, "disk_free_mib": sampling.disk_free_mib(self.cwd)}
        sample["moved_bytes"] = self.moved.look(descendants(os.getpid()))
        self.query, self.answer = None, b""
        self.peaks.add(sample)
        age = time.monotonic() - self.began
        self.course.add(age, sample)
        try:
            self.folder.write("sample.json", {**sample, "course": self.course.now_and_then(age)})
        except OSError:  # a full disk is the step's matter, not the sample's
            return

    def _write_end(self) -> None:
        assert self.status is not None
        number = os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else None
        code = 128 + number if number is not None else os.WEXITSTATUS(self.status)
        ours = self.stopped or self.timed_out
        killed = code == 128 + signal.SIGKILL or (code != 0 and sampling.oom_kills() > self.oom_before)
        end = {"exit": code, "signal": number, "oom": killed and not ours, "timed_out": self.timed_out}
        times = {"started": self.started, "ended": time.time(), "log_bytes": self.outputs.log.offset}
        seen = {"peaks": self.peaks.values, "cards": self.peaks.cards, "course": self.course.told()}
        said = {"metrics": self._metrics()}
        os.unlink(self.folder.file("reserve"))
        self.folder.write("exit.json", {**end, **times, "stopped": self.stopped, "lost": False, **seen, **said})

    def _metrics(self) -> dict[str, Any]:
        """The figures that the job reported, the last of each name, with where it says that each was measured.

        Lines that are none are left out.
        """
        try:
            with open_regular(self.folder.file("metrics")) as file:
                lines = file.read(METRICS_BYTES).decode("utf-8", "replace").splitlines()
        except (FileNotFoundError, AgentError):
            return {}
        found: dict[str, Any] = {}
        for line in lines:
            try:
                entry = json.loads(line)
                name, value = entry["name"], entry["value"]
                if _is_name(name) and isinstance(value, (int, float)):
                    said = {key: entry.get(key) for key in ("measured_on", "device")}
                    texts = {key: text[:TEXT_CHARACTERS] for key, text in said.items() if isinstance(text, str)}
                    found[name] = {"value": value, **texts}
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
        return found


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and 0 < len(name) <= NAME_CHARACTERS


def _write_number(path: str, number: int) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(str(number))
