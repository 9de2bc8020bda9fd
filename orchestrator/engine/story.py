"""The story of a run, and of each phase in it, with every effect by name. What can be done twice is done once.

run:    phases in order -> machines and volume ended -> proof -> outcome
phase:  volume -> machines -> payload -> steps (again on a new machine after a loss) -> artifacts -> deliverables -> end
"""

from __future__ import annotations

from functools import partial
from typing import Any

from orchestrator.engine.context import Context, now
from orchestrator.engine.effects import Answer, ManifestFile, StepEnd
from orchestrator.engine.ending import Ending
from orchestrator.engine.phase import PhaseWork
from orchestrator.engine.recorder import Recorder
from orchestrator.engine.steps import Steps
from orchestrator.ledger import tables
from orchestrator.words.errors import (
    ConnectionLost,
    GpuplanError,
    Interrupted,
    MachineLost,
    NoMachine,
    OverBudget,
    ProviderUnavailable,
)
from orchestrator.words.lifecycle import Outcome, PhaseState, RunState, StepState, worst


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
            outcomes.append(self._phase_outcome(recorder, phase.phase.name))
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

    def _phase_outcome(self, recorder: Recorder, name: str) -> Outcome:
        """A phase's outcome; whatever goes wrong in it, the run goes on to end its machines."""
        branch = recorder.branch("phase", name, id=f"{self._context.run}/{name}")
        try:
            return Outcome(branch.result()["outcome"])
        except Exception as error:  # noqa: BLE001  a phase that breaks must not keep its machines alive
            self._context.event(f"{name}: internal error: {error}")
            return Outcome.FAILED

    def phase(self, recorder: Recorder, name: str) -> dict[str, Any]:
        """One phase, to its end; {"outcome": str}. Never raises: whatever happens, its machines are ended."""
        outcome, why = Outcome.SUCCEEDED, ""
        try:
            outcome, why = self._do(recorder, name)
        except Interrupted as error:
            outcome, why = Outcome.INTERRUPTED, error.message
        except OverBudget as error:
            outcome, why = Outcome.OVER_BUDGET, str(error)
        except (NoMachine, MachineLost, ConnectionLost, ProviderUnavailable) as error:
            outcome, why = Outcome.NO_MACHINE, str(error)
        except GpuplanError as error:
            outcome, why = Outcome.FAILED, str(error)
        try:
            recorder.record("tear-down", partial(self._work.tear_down, name, outcome, why))
            recorder.record("end", partial(self._work.finish, name))
        except GpuplanError as error:  # the run ends what this phase could not
            self._context.event(f"{name}: {error.message}")
        return {"outcome": str(outcome)}

    def step(self, recorder: Recorder, phase: str, step: str, attempt: int) -> StepEnd:
        """One step (engine.steps)."""
        return self._steps.run(recorder, phase, step, attempt)

    def stop_service(self, recorder: Recorder, phase: str, step: str, attempt: int) -> StepEnd:
        """The end of a service (engine.steps)."""
        return self._steps.stop_service(recorder, phase, step, attempt)

    def _do(self, recorder: Recorder, name: str) -> tuple[Outcome, str]:
        work = self._work
        recorder.record("provision", partial(work.move, name, PhaseState.PROVISIONING))
        volume = recorder.record("volume", partial(work.volume, name))
        attempts = self._context.spec.plan.settings.max_replacements + 1
        agreed: list[str] = []
        for attempt in range(1, attempts + 1):
            recorder.record(f"provision-{attempt}", partial(work.move, name, PhaseState.PROVISIONING))
            self._provision(recorder, name, attempt, volume)
            lost = recorder.record(f"prepare-{attempt}", partial(work.prepare, name))
            if not lost:
                work.keep_alive(name)  # of this process, so not recorded
                agreed += recorder.record(f"agree-{attempt}", partial(work.agree, name, agreed))
                recorder.record(f"begin-steps-{attempt}", partial(work.begin_steps, name, attempt))
                results = self._run_steps(recorder, name, attempt)
                failed = any(r.state == StepState.FAILED for r in results)
                losses = [r.detail for r in results if r.state == StepState.LOST]
                if failed or not losses:  # a failure ends the phase: no other machine is rented to fail again
                    try:
                        return self._collect(recorder, name, results)
                    except MachineLost as error:
                        if failed:
                            return Outcome.FAILED, self._why(results)
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
                        # Nodes of one phase share a private network, so the others are taken at the same place.
                        offers = [o for o in offers if o["place"] == offer["place"]]
                        break
                    made = {"refused": ready["why"], "account": False}
                    recorder.record(f"end-{request}", partial(work.machines.destroy, machine, ready["why"]))
                why = made["refused"]
                if made["account"]:
                    raise NoMachine(why)
            else:
                raise NoMachine(f"{name}: no machine ({len(offers)} candidates tried); last answer: {why}")

    def _run_steps(self, recorder: Recorder, name: str, attempt: int) -> list[StepEnd]:
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
        results: list[StepEnd] = [branch.result() for branch in branches]
        ends: list[StepEnd] = [stop.result() for stop in stops]
        # A service that answered, and ended by itself before its time, has failed.
        failed = {end.step: end for end in ends if end.state == StepState.FAILED}
        return [failed.get(result.step, result) for result in results]

    def _collect(self, recorder: Recorder, name: str, results: list[StepEnd]) -> tuple[Outcome, str]:
        """Artifacts and deliverables; the outcome is the worst of steps and deliverables."""
        work = self._work
        stopped = [r for r in results if r.state == StepState.INTERRUPTED]
        if stopped:
            kind = OverBudget if stopped[0].over_budget else Interrupted
            raise kind(stopped[0].detail)
        failed = [r.detail for r in results if r.state in (StepState.FAILED, StepState.SKIPPED)]
        recorder.record("collect", partial(work.move, name, PhaseState.COLLECTING))
        files = [] if failed else recorder.record("manifest", partial(work.manifest, name), list[ManifestFile])
        if files:
            for store in self._context.stores:
                for file in files:
                    label = f"upload {store.url} {file.name}"
                    recorder.record(label, partial(work.upload, name, store, file), str)
                recorder.record(f"put-manifest {store.url}", partial(work.put_manifest, name, store, files))
            recorder.record("pull", partial(work.pull, name, files))
        answers = recorder.record("check", partial(work.judge, name, files), list[Answer])
        wrong = [f"{a.name}: {a.detail}" for a in answers if not a.ok]
        if failed or wrong:
            return Outcome.FAILED, self._why(results) or "\n".join(wrong)
        return Outcome.SUCCEEDED, ""

    def _why(self, results: list[StepEnd]) -> str:
        """Why steps failed: their own words, and only without any why others were skipped."""
        said = {state: [r.detail for r in results if r.state == state] for state in StepState}
        return "\n".join(said[StepState.FAILED] or said[StepState.SKIPPED])

    def _move_run(self, state: RunState, **values: Any) -> None:
        self._context.ledger.move(tables.runs, {"id": self._context.run}, state, **values)
