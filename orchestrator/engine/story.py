"""The story of a run, and of each phase in it, with every effect by name. What can be done twice is done once.

run:    phases in order -> machines and volume ended -> proof -> outcome
phase:  volume -> machines -> payload -> steps (again on a new machine after a loss) -> artifacts -> deliverables -> end
"""

from __future__ import annotations

from functools import partial
from typing import Any

from orchestrator.engine.context import Context, now
from orchestrator.engine.durable import Recorder
from orchestrator.engine.ending import Ending
from orchestrator.engine.phase import PhaseWork
from orchestrator.engine.steps import Steps
from orchestrator.errors import GpuplanError, Interrupted, MachineLost, NoMachine, OverBudget
from orchestrator.ledger import tables
from orchestrator.lifecycle import Outcome, PhaseState, RunState, StepState, worst


class Story:
    """Implements engine.durable.Story for one run."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._work = PhaseWork(context)
        self._steps = Steps(context, self._work.machines)
        self._ending = Ending(context, self._work.machines, self._work.volumes)

    def run(self, recorder: Recorder) -> dict[str, Any]:
        """The whole run; {"outcome": str, "left": [what may still cost money]}."""
        recorder.record("begin", partial(self._move_run, RunState.RUNNING))
        outcomes = []
        for phase in self._context.phases:
            name = phase.phase.name
            result = recorder.branch("phase", name, id=f"{self._context.run}/{name}").result()
            outcomes.append(Outcome(result["outcome"]))
            if outcomes[-1] != Outcome.SUCCEEDED:
                break
        outcome = worst(outcomes)
        recorder.record("tear-down", lambda: self._move_run(RunState.TEARING_DOWN, outcome=str(outcome)))
        left = recorder.record("end-machines", lambda: self._ending.machines(str(outcome)))
        left += recorder.record("end-volume", partial(self._ending.volume, outcome))
        recorder.record("settle", self._ending.settle)
        if not left:
            recorder.record("done", lambda: self._move_run(RunState.DONE, ended_at=now()))
        return {"outcome": str(outcome), "left": left}

    def phase(self, recorder: Recorder, name: str) -> dict[str, Any]:
        """One phase, to its end; {"outcome": str}. Never raises: whatever happens, its machines are ended."""
        outcome, why = Outcome.SUCCEEDED, ""
        try:
            outcome, why = self._do(recorder, name)
        except Interrupted as error:
            outcome, why = Outcome.INTERRUPTED, error.message
        except OverBudget as error:
            outcome, why = Outcome.OVER_BUDGET, error.message
        except NoMachine as error:
            outcome, why = Outcome.NO_MACHINE, str(error)
        except GpuplanError as error:
            outcome, why = Outcome.FAILED, str(error)
        recorder.record("tear-down", partial(self._work.tear_down, name, outcome, why))
        recorder.record("end", partial(self._work.finish, name))
        return {"outcome": str(outcome)}

    def step(self, recorder: Recorder, phase: str, step: str, attempt: int) -> dict[str, Any]:
        """One step (engine.steps)."""
        return self._steps.run(recorder, phase, step, attempt)

    def stop_service(self, recorder: Recorder, phase: str, step: str, attempt: int) -> dict[str, Any]:
        """The end of a service (engine.steps)."""
        return self._steps.stop_service(recorder, phase, step, attempt)

    def _do(self, recorder: Recorder, name: str) -> tuple[Outcome, str]:
        work = self._work
        recorder.record("provision", partial(work.move, name, PhaseState.PROVISIONING))
        volume = recorder.record("volume", partial(work.volume, name))
        attempts = self._context.spec.plan.settings.max_replacements + 1
        for attempt in range(1, attempts + 1):
            recorder.record(f"provision-{attempt}", partial(work.move, name, PhaseState.PROVISIONING))
            self._provision(recorder, name, attempt, volume)
            lost = recorder.record(f"prepare-{attempt}", partial(work.prepare, name))
            if not lost:
                recorder.record(f"run-{attempt}", partial(work.begin_steps, name, attempt))
                results = self._run_steps(recorder, name, attempt)
                losses = [r["detail"] for r in results if r["state"] == StepState.LOST]
                if not losses:
                    try:
                        return self._collect(recorder, name, results)
                    except MachineLost as error:
                        losses = [error.message]
                lost = losses[0]
            recorder.record(f"replace-{attempt}", partial(work.replace, name, lost))
        raise NoMachine(f"{name} lost its machine {attempts} times; last: {lost}")

    def _provision(self, recorder: Recorder, name: str, attempt: int, volume: str) -> None:
        """Take over, or create, each node's machine: the first candidate that comes up."""
        work = self._work
        if recorder.record(f"take-over-{attempt}", partial(work.take_over, name)):
            return
        offers = recorder.record(f"offers-{attempt}", partial(work.offers, name))
        for node in recorder.record(f"nodes-{attempt}", partial(work.missing_nodes, name)):
            why = "nobody sells a machine that fits"
            for number, offer in enumerate(offers):
                request = f"{attempt}.{node}.{number}"
                machine = recorder.record(f"name-{request}", partial(work.request, name, request, node, offer))
                made = recorder.record(f"create-{request}", partial(work.create, name, machine, volume))
                if "created" in made:
                    ready = recorder.record(f"wait-{request}", partial(work.machines.wait, machine))
                    if ready["ready"]:
                        break
                    made = {"refused": ready["why"], "account": False}
                    recorder.record(f"end-{request}", partial(work.machines.destroy, machine, ready["why"]))
                why = made["refused"]
                if made["account"]:
                    raise NoMachine(why)
            else:
                raise NoMachine(f"{name}: no machine ({len(offers)} candidates tried); last answer: {why}")

    def _run_steps(self, recorder: Recorder, name: str, attempt: int) -> list[dict[str, Any]]:
        """Start every step at once: each waits for its own needs. Services are stopped by a branch of their own."""
        ids = recorder.record(f"steps-{attempt}", partial(self._work.open_steps, name))
        services = {s.id for s in self._context.phase(name).steps if s.step.ready}
        base = f"{self._context.run}/{name}"
        branches = [recorder.branch("step", name, i, str(attempt), id=f"{base}/{i}/{attempt}") for i in ids]
        stops = [
            recorder.branch("stop_service", name, i, str(attempt), id=f"{base}/{i}/{attempt}/stop")
            for i in ids
            if i in services
        ]
        results = [branch.result() for branch in branches]
        for stop in stops:
            stop.result()
        return results

    def _collect(self, recorder: Recorder, name: str, results: list[dict[str, Any]]) -> tuple[Outcome, str]:
        """Artifacts and deliverables; the outcome is the worst of steps and deliverables."""
        work = self._work
        states = {StepState(r["state"]) for r in results}
        failed = [str(r["detail"]) for r in results if r["state"] == StepState.FAILED]
        if StepState.INTERRUPTED in states and not failed:
            self._context.control.check()
            raise Interrupted("a step was interrupted")
        recorder.record("collect", partial(work.move, name, PhaseState.COLLECTING))
        files = [] if failed else recorder.record("manifest", partial(work.manifest, name))
        if files:
            for store in self._context.stores:
                for file in files:
                    label = f"upload {store.url} {file['name']}"
                    recorder.record(label, partial(work.upload, name, store, file))
                recorder.record(f"put-manifest {store.url}", partial(work.put_manifest, name, store, files))
            recorder.record("pull", partial(work.pull, name, files))
        answers = recorder.record("check", partial(work.judge, name, files))
        wrong = [f"{a['name']}: {a['detail']}" for a in answers if not a["ok"]]
        if failed or wrong:
            return Outcome.FAILED, "\n".join(failed or wrong)
        return Outcome.SUCCEEDED, ""

    def _move_run(self, state: RunState, **values: Any) -> None:
        self._context.ledger.move(tables.runs, {"id": self._context.run}, state, **values)
