"""One step of a phase as a durable workflow: wait for its needs, skip what is done, run, check, record."""

from __future__ import annotations

import posixpath
import shlex
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from orchestrator.engine import hub_check, jobs, records, write_up
from orchestrator.engine.context import Context
from orchestrator.engine.effects import StepEnd
from orchestrator.engine.machines import Machines
from orchestrator.engine.recorder import Recorder
from orchestrator.engine.volumes import Volumes
from orchestrator.ledger import tables
from orchestrator.plan import StepRun
from orchestrator.transport.agent import Agent
from orchestrator.words.errors import GpuplanError, Interrupted, MachineLost, OverBudget, StepFailed
from orchestrator.words.lifecycle import StepState
from orchestrator.words.model import RunsOn
from orchestrator.words.secret import Secret
from orchestrator.words.spec import plain

GOOD = frozenset({StepState.DONE, StepState.UP_TO_DATE, StepState.READY})
ENDED = GOOD | {StepState.FAILED, StepState.SKIPPED, StepState.INTERRUPTED, StepState.LOST}
LOG_KEPT = 64 * 1024  # characters of a step's output that its done-record keeps
OUT_OF_MEMORY = 75  # the converter's own exit code for it
KILLED = 137
POLL_S = 0.05
USERS_S = 120.0  # of stopping, after which a service waits no more for the steps that need it
WRITE_UP = ".gpuplan/write-up.md"
MAX_RESTARTS = 5  # of a job that was stopped, or whose supervisor died, while nobody asked it to


class Steps:
    """Runs the steps of this run's phases."""

    def __init__(self, context: Context, machines: Machines) -> None:
        self._context = context
        self._machines = machines
        self._ledger = context.ledger

    # -- the story of one step -------------------------------------------------------------------------------------

    def run(self, recorder: Recorder, phase: str, step: str, attempt: int) -> StepEnd:
        """Bring one step to its end. Never raises."""
        run = self._step(phase, step)
        try:
            waited = recorder.record("needs", lambda: self._await_needs(phase, run), dict)
            if not waited["go"]:
                return self._end(recorder, phase, run, StepState(waited["state"]), waited["why"])
            if run.step.ready:
                recorder.record("start", lambda: self._serve(phase, run, attempt), None)
                return self._end(recorder, phase, run, StepState.READY, "")
            if recorder.record("up-to-date", partial(self._reaching, phase, run, self._up_to_date), bool):
                return self._end(recorder, phase, run, StepState.UP_TO_DATE, "")
            recorder.record("room", partial(self._reaching, phase, run, self._check_room), None)
            self._execute(recorder, phase, run, attempt)
            recorder.record("verify", partial(self._reaching, phase, run, self._verify), list)
            return self._end(recorder, phase, run, StepState.DONE, "")
        except MachineLost as error:
            return self._end(recorder, phase, run, StepState.LOST, error.message)
        except (Interrupted, OverBudget) as error:
            ended = self._end(recorder, phase, run, StepState.INTERRUPTED, error.message)
            return replace(ended, over_budget=isinstance(error, OverBudget))
        except GpuplanError as error:
            return self._end(recorder, phase, run, StepState.FAILED, str(error))

    def stop_service(self, recorder: Recorder, phase: str, step: str, attempt: int) -> StepEnd:
        """Stop a service once nothing that needs it is left."""
        run = self._step(phase, step)
        try:
            recorder.record("users", lambda: self._await_users(phase, run), None)
            recorder.record("stop", lambda: self._stop(phase, run, attempt), None)
        except GpuplanError as error:
            self._context.event(f"{run.id}: {error.message}")
        return StepEnd(step, StepState.DONE)

    def _execute(self, recorder: Recorder, phase: str, run: StepRun, attempt: int) -> None:
        """Run the command, again after a failure as often as `retries` says, in its on_oom form after an OOM."""
        command, low_memory = run.step.run, False
        left = run.step.retries
        number = 0
        while True:
            number += 1
            job = self._job(phase, run, attempt, number)
            end = recorder.record(f"run-{number}", partial(self._attempt, phase, run, command, job), dict)
            if end["exit"] == 0 and not end["timed_out"]:
                return
            if (end["stopped"] or end["lost"]) and number <= MAX_RESTARTS:  # no doing of the step's: a crash of ours
                continue
            if self._out_of_memory(end) and run.step.on_oom and not low_memory:
                command, low_memory = run.step.on_oom, True
                self._context.event(f"{run.id}: out of memory: again as {command}")
                continue
            if left <= 0:
                raise StepFailed(self._why(phase, run, end))
            left -= 1
            recorder.record(f"retry-{number}", partial(self._reaching, phase, run, self._before_retry), None)

    # -- bodies of recorded effects --------------------------------------------------------------------------------

    def _await_needs(self, phase: str, run: StepRun) -> dict[str, Any]:
        """Wait until every need in this phase has ended, or something failed: nothing new starts then."""
        while True:
            self._context.control.check()
            rows = {r["id"]: r for r in self._ledger.all(tables.steps, run=self._context.run, phase=phase)}
            failed = [r["id"] for r in rows.values() if r["state"] == StepState.FAILED]
            if failed:
                return {"go": False, "state": StepState.SKIPPED, "why": f"{failed[0]} failed"}
            states = {need: StepState(rows[need]["state"]) for need in run.needs if need in rows}
            bad = [need for need, state in states.items() if state in ENDED - GOOD]
            if bad:
                lost = states[bad[0]] == StepState.LOST
                state = StepState.LOST if lost else StepState.SKIPPED
                return {"go": False, "state": state, "why": f"{bad[0]} is {states[bad[0]].lower()}"}
            if all(state in GOOD for state in states.values()):
                return {"go": True}
            time.sleep(POLL_S)

    def _await_users(self, phase: str, run: StepRun) -> None:
        users = {s.id for s in self._context.phase(phase).steps if run.id in s.needs}
        while self._context.control.stopping_s < USERS_S:
            rows = self._ledger.all(tables.steps, run=self._context.run, phase=phase)
            states = {r["id"]: r["state"] for r in rows}
            mine = states[run.id]
            watched = users or {i for i in states if i != run.id}
            if mine in ENDED and all(states[u] in ENDED for u in watched):
                return
            time.sleep(POLL_S)

    def _up_to_date(self, phase: str, run: StepRun) -> bool:
        if self._context.spec.force:
            return False
        self._mark(phase, run, StepState.PENDING, detail="checking what is done")
        agent = self._agent(self._targets(phase, run)[0])
        workspace = agent.workspace
        record = records.read(self._context, agent, workspace, run)
        if record is None:
            return False
        log = self._log(phase, run, 0)
        if not log.text():
            log.add(record.get("log", ""), 0)
        self._metrics(run, record.get("metrics", {}), record.get("measured_on", ""))
        return True

    def _check_room(self, phase: str, run: StepRun) -> None:
        """Refuse a download or a conversion that the disk has no room for, before it begins."""
        agent = self._agent(self._targets(phase, run)[0])
        if run.step.hub:
            hub_check.room(self._context, agent, agent.workspace, run.step.hub)
        elif run.step.writes_gb:
            free = agent.hello().disk_free_mib * hub_check.MIB / 1e9 / self._context.provider.disk_share
            if float(run.step.writes_gb) > free:
                raise StepFailed(
                    f"disk full: {run.id} writes {run.step.writes_gb} GB, {agent.workspace} has {free:,.1f} GB free",
                    remedy="make room on the volume, or take a larger one (volume: size_gb), and run it again",
                )

    def _attempt(self, phase: str, run: StepRun, command: str, job: str) -> dict[str, Any]:
        """Run the command on every machine that it is meant for; the first bad end decides."""
        targets = self._targets(phase, run)
        self._running(phase, run, targets)
        self._ledger.remove(tables.metrics, run=self._context.run, step=run.id)  # a failed attempt's prove nothing
        self._machines.reaching(targets[0], lambda: records.forget(self._context, self._agent(targets[0]), run))
        with ThreadPoolExecutor(max_workers=len(targets)) as pool:
            ends = list(
                pool.map(lambda t: self._on_machine(phase, run, command, f"{job}.{t[0]}", t), enumerate(targets))
            )
        worst = next((e for e in ends if e["exit"] != 0 or e["timed_out"]), ends[0])
        self._metrics(run, worst["metrics"], self._measured_on(targets[0]))
        self._metrics(run, worst["peaks"], self._measured_on(targets[0]))
        return worst

    def _on_machine(self, phase: str, run: StepRun, command: str, job: str, target: tuple[int, str]) -> dict[str, Any]:
        node, machine = target
        log = self._log(phase, run, node)
        self._start(phase, run, command, job, machine, log)
        end = jobs.follow(self._context, self._machines, machine, job, log, timeout_s=run.step.timeout)
        self._context.announce(run.step.name, "ended", machine)
        return end

    def _start(self, phase: str, run: StepRun, command: str, job: str, machine: str, log: jobs.StepLog) -> None:
        log.restart(job)

        def begin() -> None:
            agent = self._agent(machine)
            agent.start(
                job,
                self._command(agent, agent.workspace, run, command),
                cwd=posixpath.normpath(posixpath.join(agent.workspace, run.step.cwd)),
                env=self._env(phase, run, machine, agent),
                secrets=self._secrets(run),
                timeout_s=run.step.timeout,
                service=run.step.ready is not None,
            )

        self._machines.reaching(machine, begin)
        self._context.announce(run.step.name, "started", machine)

    def _verify(self, phase: str, run: StepRun) -> list[dict[str, Any]]:
        """Check what the step was to create, against the hub where it says so, and write its done-record."""
        machine = self._targets(phase, run)[0]
        agent = self._agent(machine)
        workspace = agent.workspace
        if run.step.hub:
            hub_check.verify(self._context, agent, workspace, run.step.hub)
        missing = records.missing(agent, workspace, run)
        if missing:
            raise StepFailed(f"{run.id} ended well but did not create {', '.join(missing)} (below {run.step.cwd})")
        log = self._log(phase, run, 0).text()[-LOG_KEPT:]
        rows = self._ledger.all(tables.metrics, run=self._context.run, step=run.id)
        extra = {
            "log": log,
            "metrics": {r["name"]: r["value"] for r in rows},
            "measured_on": self._measured_on(machine),
        }
        return records.write(self._context, agent, workspace, run, extra, self._volume(phase))

    def _before_retry(self, phase: str, run: StepRun) -> None:
        self._context.control.check()
        if run.step.hub:
            agent = self._agent(self._targets(phase, run)[0])
            agent.clean_incomplete(posixpath.join(agent.workspace, run.step.hub.dir))

    def _serve(self, phase: str, run: StepRun, attempt: int) -> None:
        """Start a service on its machines and wait until each is ready."""
        targets = self._targets(phase, run)
        self._running(phase, run, targets)
        assert run.step.ready
        for node, machine in enumerate(targets):
            job = f"{self._job(phase, run, attempt, 1)}.{node}"
            log = self._log(phase, run, node)
            self._start(phase, run, run.step.run, job, machine, log)
            give_up = self._context.now() + run.step.ready.timeout
            end = jobs.follow(
                self._context, self._machines, machine, job, log, timeout_s=run.step.ready.timeout,
                until=partial(self._settled, run, machine, log, give_up),
            )  # fmt: skip
            if end:
                raise StepFailed(
                    f"{run.id} ended before it was ready (exit code {end['exit']})\n{jobs.last_lines(log.path)}"
                )
            if not self._ready(run, machine, log):
                jobs.stop(self._context, machine, job, log)
                raise StepFailed(f"{run.id} was not ready after {run.step.ready.timeout:.0f} s")

    def _settled(self, run: StepRun, machine: str, log: jobs.StepLog, give_up: float) -> bool:
        return self._context.now() > give_up or self._ready(run, machine, log)

    def _ready(self, run: StepRun, machine: str, log: jobs.StepLog) -> bool:
        ready = run.step.ready
        assert ready
        if ready.log is not None:
            return ready.log in log.since_restart()
        return listens(self._agent(machine), ready.port or 0)

    def _stop(self, phase: str, run: StepRun, attempt: int) -> None:
        """Stop the service's jobs and bring the rest of their logs home."""
        try:
            targets = self._targets(phase, run)
        except MachineLost:
            return
        for node, machine in enumerate(targets):
            jobs.stop(
                self._context, machine, f"{self._job(phase, run, attempt, 1)}.{node}", self._log(phase, run, node)
            )
        if self._ledger.one(tables.steps, **self._key(phase, run))["state"] == StepState.READY:
            self._mark(phase, run, StepState.DONE, ended_at=self._context.now())

    def _reaching(self, phase: str, run: StepRun, body: Callable[[str, StepRun], Any]) -> Any:
        """Do what needs the step's machine through every cut of the connection."""
        return self._machines.reaching(self._targets(phase, run)[0], lambda: body(phase, run))

    # -- small parts -----------------------------------------------------------------------------------------------

    def _step(self, phase: str, step: str) -> StepRun:
        return next(s for s in self._context.phase(phase).steps if s.id == step)

    def _targets(self, phase: str, run: StepRun) -> list[str]:
        names = [r.name for r in self._context.machines(phase)]
        if not names:
            raise MachineLost(f"{phase} has no machine")
        return {RunsOn.ROOT: names[:1], RunsOn.WORKERS: names[1:], RunsOn.ALL: names}[run.step.on]

    def _agent(self, machine: str) -> Agent:
        return self._context.agents(machine)

    def _job(self, phase: str, run: StepRun, attempt: int, number: int) -> str:
        return f"{plain(self._context.run)}.{plain(phase)}.{run.id.replace('/', '.')}.{attempt}.{number}"

    def _log(self, phase: str, run: StepRun, node: int) -> jobs.StepLog:
        return jobs.StepLog(self._context, phase, run.id, node)

    def _command(self, agent: Agent, workspace: str, run: StepRun, command: str) -> str:
        """What the shell runs: the step's own command, or that of a built-in."""
        if run.step.builtin == "overlay":
            return 'cp -R "$GPUPLAN_PAYLOAD/." . && echo "payload $GPUPLAN_PAYLOAD_HASH laid over $PWD"'
        if run.step.builtin == "report":
            text = write_up.render(self._context, run.step)
            agent.write(WRITE_UP, text)
            return f"cp {shlex.quote(f'{workspace}/{WRITE_UP}')} {shlex.quote(run.step.creates[0])}"
        return command

    def _env(self, phase: str, run: StepRun, machine: str, agent: Agent) -> dict[str, str]:
        rows = self._context.machines(phase)
        names = [r.name for r in rows]
        # Without a private network a phase has one node, and what it binds is its own loopback.
        addresses = [r.private_ip or "127.0.0.1" for r in rows]
        payload = self._context.payload
        own = {
            "GPUPLAN_RUN": self._context.run,
            "GPUPLAN_PHASE": phase,
            "GPUPLAN_ROOT_IP": addresses[0],
            "GPUPLAN_PRIVATE_IP": addresses[names.index(machine)],
            "GPUPLAN_NODE_RANK": str(names.index(machine)),
            "GPUPLAN_NODES": str(len(names)),
            "GPUPLAN_WORKERS": ",".join(addresses[1:]),
            "GPUPLAN_PAYLOAD": f"{payload.folder(agent.workspace)}/{self._context.spec.plan.settings.payload}",
            "GPUPLAN_PAYLOAD_HASH": payload.hash,
        }
        return {**self._context.world_env, **run.env, **own}

    def _secrets(self, run: StepRun) -> dict[str, Secret]:
        names = [n for n in (*run.secrets, "GPUPLAN_TOKEN") if n in self._context.secrets]
        return {name: self._context.secrets[name] for name in names}

    def _metrics(self, run: StepRun, values: dict[str, float], measured_on: str) -> None:
        for name, value in values.items():
            self._ledger.put(
                tables.metrics, run=self._context.run, step=run.id, name=name, value=float(value),
                measured_on=measured_on, at=self._context.now(),
            )  # fmt: skip

    def _measured_on(self, machine: str) -> str:
        return str(self._ledger.one(tables.machines, name=machine)["measured_on"])

    def _volume(self, phase: str) -> str:
        row = Volumes(self._context).row(self._context.phase(phase).phase.volume)
        return row.name if row else ""

    def _out_of_memory(self, end: dict[str, Any]) -> bool:
        ours = end["stopped"] or end["timed_out"]
        return not ours and (bool(end["oom"]) or end["exit"] in (KILLED, OUT_OF_MEMORY))

    def _why(self, phase: str, run: StepRun, end: dict[str, Any]) -> str:
        how = f"took longer than {run.step.timeout:.0f} s" if end["timed_out"] else f"exit code {end['exit']}"
        lines = jobs.last_lines(self._log(phase, run, 0).path)
        return f"{run.id}: {how}\n{lines}" if lines else f"{run.id}: {how}, without any output"

    def _key(self, phase: str, run: StepRun) -> dict[str, str]:
        return {"run": self._context.run, "phase": phase, "id": run.id}

    def _started(self, phase: str, run: StepRun) -> float:
        row = self._ledger.one(tables.steps, **self._key(phase, run))
        return float(row["started_at"] or self._context.now())

    def _running(self, phase: str, run: StepRun, targets: list[str]) -> None:
        started = self._started(phase, run)
        self._mark(phase, run, StepState.RUNNING, machines=",".join(targets), started_at=started, detail="")

    def _mark(self, phase: str, run: StepRun, state: StepState, **values: Any) -> None:
        self._ledger.change(tables.steps, self._key(phase, run), state=str(state), **values)

    def _end(self, recorder: Recorder, phase: str, run: StepRun, state: StepState, detail: str) -> StepEnd:
        ended: dict[str, Any] = {} if state == StepState.READY else {"ended_at": self._context.now()}
        recorder.record("end", lambda: self._mark(phase, run, state, detail=detail, **ended), None)
        return StepEnd(run.id, state, detail)


def listens(agent: Agent, port: int) -> bool:
    """Whether something on the machine listens on that TCP port. Nobody is dialled: a worker takes one caller only."""
    table = f"cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == \"0A\" {{print $2}}' | grep -q ':{port:04X}$'"
    dial = f"(exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null"
    script = f"if [ -r /proc/net/tcp ]; then {table}; else {dial}; fi"
    return agent.transport.run(f"bash -c {shlex.quote(script)}").exit == 0
