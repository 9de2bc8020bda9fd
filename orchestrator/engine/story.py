"""The story of a run, and of each phase in it, with every effect by name. What can be done twice is done once.

run:    phases in order -> machines ended -> artifacts home from the store -> volumes ended -> proof -> outcome
phase:  volume -> machines -> code -> steps (again after a reboot, or on a new machine) -> artifacts -> ... -> end
crew:   (machines that come and go in a phase) its turn -> machines -> code -> ... its last step -> end

An effect is called as the function that it runs. Their order never depends on what happens at the same time: all nodes
are asked for one after the other, and one effect then waits for all of them.
"""

from __future__ import annotations

from functools import partial
from types import NoneType

from orchestrator.engine.board import Boards
from orchestrator.engine.context import Context
from orchestrator.engine.crew_work import CrewWork
from orchestrator.engine.effects import (
    Answer,
    Created,
    Creation,
    CrewEnd,
    End,
    ManifestFile,
    NotReached,
    PhaseEnd,
    Readiness,
    Refused,
    RunEnd,
    SaveEnd,
    StepEnd,
)
from orchestrator.engine.ending import Ending
from orchestrator.engine.machines import Machines
from orchestrator.engine.phase import PhaseWork
from orchestrator.engine.provisioning import Candidates, Provisioning
from orchestrator.engine.reboots import Reboots
from orchestrator.engine.recorder import Recorder
from orchestrator.engine.steps import Steps
from orchestrator.engine.uploads import lots
from orchestrator.engine.volumes import Volumes
from orchestrator.plan import Crew
from orchestrator.words.errors import (
    ConnectionLost,
    GpuplanError,
    Interrupted,
    MachineLost,
    NoMachine,
    OverBudget,
    ProviderUnavailable,
    StoreUnavailable,
)
from orchestrator.words.lifecycle import Outcome, RunState, StepState, worst
from orchestrator.words.provider import Offer


class Story:
    """Implements engine.recorder.Story for one run."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._machines, volumes = Machines(context), Volumes(context)
        self._provisioning = Provisioning(context, self._machines, volumes)
        self._reboots = Reboots(context, self._machines)
        self._work = PhaseWork(context, self._machines, volumes)
        self._boards = Boards(context)
        self._steps = Steps(context, self._machines, self._boards)
        self.ending = Ending(context, self._machines, volumes)

    # -- the run ---------------------------------------------------------------------------------------------------

    def run(self, recorder: Recorder) -> RunEnd:
        """The whole run."""
        recorder.record("begin", self._begin, NoneType)
        outcomes = []
        for phase in self._context.phases:
            outcomes.append(self._phase_outcome(recorder, phase.phase.name))
            if outcomes[-1] != Outcome.SUCCEEDED:
                break
        outcome = worst(outcomes)
        recorder.record("tear_down", partial(self._tear_down, outcome), NoneType)
        left = recorder.record("end_machines", partial(self.ending.end_machines, outcome), list[str])
        for phase in self._context.phases:
            if phase.phase.pull_to and self._context.stores:
                name = phase.phase.name
                came = recorder.record(f"bring_home {name}", partial(self._work.bring_home, name), Outcome)
                outcome = worst([outcome, came])
        left += recorder.record("end_volumes", partial(self.ending.end_volumes, outcome), list[str])
        recorder.record("settle", self.ending.settle, NoneType)
        if not left:
            recorder.record("close", self.ending.close, NoneType)
        return RunEnd(outcome, tuple(left))

    def _begin(self) -> None:
        self._context.ledger.runs.move({"id": self._context.run}, RunState.RUNNING)

    def _tear_down(self, outcome: Outcome) -> None:
        self._context.ledger.runs.move({"id": self._context.run}, RunState.TEARING_DOWN, outcome=outcome)

    def _phase_outcome(self, recorder: Recorder, name: str) -> Outcome:
        """A phase's outcome; whatever goes wrong in it, the run goes on to end its machines."""
        try:
            return recorder.branch("phase", name, id=f"{self._context.run}/{name}").result().outcome
        except Exception as error:  # noqa: BLE001  a phase that breaks must not keep its machines alive
            self._context.event(f"{name}: internal error: {error}")
            return Outcome.FAILED

    # -- one phase -------------------------------------------------------------------------------------------------

    def phase(self, recorder: Recorder, name: str) -> PhaseEnd:
        """One phase, to its end. Never raises: whatever happens, its machines are ended."""
        outcome, why = Outcome.SUCCEEDED, ""
        try:
            outcome, why = self._do(recorder, name)
        except GpuplanError as error:
            outcome, why = _outcome(error)
        try:
            recorder.record("tear_down", partial(self._work.tear_down, name, outcome, why), NoneType)
            recorder.record("finish", partial(self._work.finish, name), NoneType)
        except GpuplanError as error:  # the run ends what this phase could not
            self._context.event(f"{name}: {error.message}")
        return PhaseEnd(outcome)

    def _do(self, recorder: Recorder, name: str) -> tuple[Outcome, str]:
        bring = self._provisioning
        recorder.record("begin", partial(bring.begin, name), NoneType)
        recorder.record("volume", partial(bring.volume, name), str)
        first, *others = self._context.crews(name)
        attempt, attempts = 0, self._context.spec.plan.settings.max_replacements + 1
        agreed: list[str] = []
        while attempt < attempts:
            attempt += 1
            self._provision(recorder, name, first, attempt)
            lost = recorder.record(f"prepare-{attempt}", partial(bring.prepare, name, first), str)
            if not lost:
                bring.keep_alive(name)  # of this process, so not recorded
                agreed += recorder.record(f"agree-{attempt}", partial(bring.agree, name, agreed), list[str])
                recorder.record(f"begin_steps-{attempt}", partial(self._work.begin_steps, name, attempt), NoneType)
                base = f"{self._context.run}/{name}"
                crews = [
                    recorder.branch("crew", name, c.name, str(attempt), id=f"{base}/{c.name}/{attempt}") for c in others
                ]
                saves = [
                    recorder.branch("save", name, step, str(attempt), id=f"{base}/{step}/{attempt}/save")
                    for step in self._work.makers(name)
                ]
                results = self._run_steps(recorder, name, attempt)
                for save in saves:
                    save.result()
                ends = [crew.result() for crew in crews]
                failed = any(end.state == StepState.FAILED for end in results)
                losses = [end.detail for end in results if end.state == StepState.LOST]
                losses += [end.lost for end in ends if end.lost]
                absent = next((end for end in ends if end.outcome != Outcome.SUCCEEDED), None)
                if absent and not failed:
                    return absent.outcome, absent.why
                if failed or not losses:  # a failure ends the phase: no other machine is rented to fail again
                    try:
                        return self._collect(recorder, name, results)
                    except MachineLost as error:
                        if failed:
                            return Outcome.FAILED, _why(results)
                        losses = [error.message]
                lost = losses[0]
            attempts += self._reboot(recorder, name, attempt)
            recorder.record(f"replace-{attempt}", partial(bring.replace, name, lost), NoneType)
        raise NoMachine(f"{name} lost its machine {attempts} times; last: {lost}")

    def _reboot(self, recorder: Recorder, name: str, attempt: int) -> bool:
        """Reboot what fell silent, each machine once in its life; whether one is back, which costs no replacement."""
        asked = recorder.record(f"reboot-{attempt}", partial(self._reboots.ask, name), list[str])
        back = partial(self._reboots.await_back, name, asked)
        return bool(asked and recorder.record(f"await_back-{attempt}", back, list[str]))

    def crew(self, recorder: Recorder, phase: str, crew: str, attempt: int) -> CrewEnd:
        """Machines that come and go within a phase, from the first step that needs them to the last. Never raises."""
        work = CrewWork(self._context, self._machines, self._boards.of(phase, attempt), phase, crew)
        try:
            if not recorder.record("turn", work.await_turn, bool):
                return CrewEnd(crew)
            self._provision(recorder, phase, work.crew, attempt)
            lost = recorder.record("prepare", partial(self._provisioning.prepare, phase, work.crew), str)
            if lost:
                work.gone(lost, lost=True)  # of this process, so not recorded; and so is what follows
                return CrewEnd(crew, lost=lost)
            work.up()
            if recorder.record("last_step", work.await_end, bool):
                recorder.record("end", work.end, NoneType)
        except GpuplanError as error:
            outcome, why = _outcome(error)
            work.gone(why)
            return CrewEnd(crew, outcome, why)
        return CrewEnd(crew)

    def save(self, recorder: Recorder, phase: str, step: str, attempt: int) -> SaveEnd:
        """The artifacts of a step, on their way to the stores while others run. Never raises: the phase sends the rest.

        What a later step changes is sent anew then.
        """
        work, board, files = self._work, self._boards.of(phase, attempt), list[ManifestFile]()
        try:
            files = recorder.record("made", partial(work.made, phase, step, board), list[ManifestFile])
            for store in self._context.stores:
                for lot in lots(files):
                    label = f"upload {store.url} {lot[0].name}"
                    recorder.record(label, partial(work.upload, phase, store, lot), NoneType)
        except GpuplanError as error:
            self._context.event(f"{step}: its artifacts are sent later: {error.message}")
        return SaveEnd(len(files))

    def _provision(self, recorder: Recorder, name: str, crew: Crew, attempt: int) -> None:
        """Take over, or create, each node's machine: the first candidate that comes up."""
        bring = self._provisioning
        if recorder.record(f"take_over-{attempt}", partial(bring.take_over, name, crew), bool):
            return
        offers = recorder.record(f"offers-{attempt}", partial(bring.offers, name, crew), list[Offer])
        missing = recorder.record(f"missing_nodes-{attempt}", partial(bring.missing_nodes, name, crew), list[int])
        candidates = Candidates(name, offers, missing, self._context.spec.failed_before)
        tries = 0
        while nodes := candidates.open:
            tries += 1
            asked = [(node, self._rent(recorder, name, crew, f"{attempt}.{node}", candidates)) for node in nodes]
            machines = [machine for _, machine in asked]
            ends = recorder.record(f"wait-{attempt}.{tries}", partial(bring.wait, machines), list[Readiness])
            for (node, machine), end in zip(asked, ends, strict=True):
                if isinstance(end, NotReached):
                    label = f"destroy-{attempt}.{node}.{tries}"
                    recorder.record(label, partial(self._machines.destroy, machine, end.why), End)
            for (node, _), end in zip(asked, ends, strict=True):
                if isinstance(end, NotReached):
                    candidates.failed(node, end)

    def _rent(self, recorder: Recorder, name: str, crew: Crew, request: str, candidates: Candidates) -> str:
        """Ask for a machine for one node (`request`: ATTEMPT.NODE) until somebody gives one; return its name."""
        node = int(request.rpartition(".")[2])
        while True:
            number, offer = candidates.next(node)
            machine, made = self._create(recorder, name, crew, node, offer, f"{request}.{number}")
            if isinstance(made, Created):
                candidates.hold(node, offer)
                return machine
            if not isinstance(made, Refused) or made.stops:  # nothing else of this provider will do
                raise NoMachine(made.why)
            candidates.failed(node, made.why)

    def _create(
        self, recorder: Recorder, name: str, crew: Crew, node: int, offer: Offer, label: str
    ) -> tuple[str, Creation]:
        """Create one machine; again, under another name, where a process died around it and nothing of it came to be.

        A name is sent once: should the first one appear after all, it is ended as what was given up.
        """
        bring, again = self._provisioning, 0
        while True:
            own = f"{label}.{again}" if again else label
            mine = f"{crew.name}-{own}"
            machine = recorder.record(f"request-{own}", partial(bring.request, name, mine, node, offer), str)
            made = recorder.record(f"create-{own}", partial(bring.create, name, crew, machine), Creation)
            if not (isinstance(made, Refused) and made.unheard):
                return machine, made
            again += 1

    def _run_steps(self, recorder: Recorder, name: str, attempt: int) -> list[StepEnd]:
        """Start every step at once: each waits for its own needs. Services are stopped by a branch of their own."""
        ids = recorder.record(f"open_steps-{attempt}", partial(self._work.open_steps, name), list[str])
        services = {s.id for s in self._context.phase(name).steps if s.step.ready}
        base = f"{self._context.run}/{name}"
        branches = [recorder.branch("step", name, i, str(attempt), id=f"{base}/{i}/{attempt}") for i in ids]
        stops = [
            recorder.branch("stop_service", name, i, str(attempt), id=f"{base}/{i}/{attempt}/stop")
            for i in ids
            if i in services
        ]
        results = {end.step: end for end in [branch.result() for branch in branches]}
        for end in [stop.result() for stop in stops]:
            if end.state == StepState.FAILED:  # it answered, and did not come to a good end
                results[end.step] = end
        return list(results.values())

    def _collect(self, recorder: Recorder, name: str, results: list[StepEnd]) -> tuple[Outcome, str]:
        """Artifacts and deliverables; the outcome is the worst of steps and deliverables."""
        work = self._work
        stopped = next((end for end in results if end.state == StepState.INTERRUPTED), None)
        if stopped:
            raise (OverBudget if stopped.over_budget else Interrupted)(stopped.detail)
        failed = any(end.state in (StepState.FAILED, StepState.SKIPPED) for end in results)
        recorder.record("collect", partial(work.collect, name), NoneType)
        files = [] if failed else recorder.record("manifest", partial(work.manifest, name), list[ManifestFile])
        if files:
            for store in self._context.stores:
                for lot in lots(files):
                    label = f"upload {store.url} {lot[0].name}"
                    recorder.record(label, partial(work.upload, name, store, lot), NoneType)
                recorder.record(f"put_manifest {store.url}", partial(work.put_manifest, name, store), NoneType)
            if not self._context.stores:  # else it comes from there, when no machine is paid for
                recorder.record("pull", partial(work.pull, name, files), str)
        answers = recorder.record("judge", partial(work.judge, name, files), list[Answer])
        wrong = [f"{answer.name}: {answer.detail}" for answer in answers if answer.ok is False]
        if failed or wrong:
            return Outcome.FAILED, _why(results) or "\n".join(wrong)
        return Outcome.SUCCEEDED, ""

    # -- one step --------------------------------------------------------------------------------------------------

    def step(self, recorder: Recorder, phase: str, step: str, attempt: int) -> StepEnd:
        """One step (engine.steps)."""
        return self._steps.run(recorder, phase, step, attempt)

    def stop_service(self, recorder: Recorder, phase: str, step: str, attempt: int) -> StepEnd:
        """The end of a service (engine.steps)."""
        return self._steps.stop_service(recorder, phase, step, attempt)


def _outcome(error: GpuplanError) -> tuple[Outcome, str]:
    """What a phase comes to that ends with this error, and why."""
    match error:
        case Interrupted():
            return Outcome.INTERRUPTED, error.message
        case OverBudget():
            return Outcome.OVER_BUDGET, str(error)
        case StoreUnavailable():  # what is to be saved is on the volume, and no other machine would help
            return Outcome.FAILED, str(error)
        case NoMachine() | MachineLost() | ConnectionLost() | ProviderUnavailable():
            return Outcome.NO_MACHINE, str(error)
    return Outcome.FAILED, str(error)


def _why(results: list[StepEnd]) -> str:
    """Why steps failed: their own words, and only without any why others were skipped."""
    said = {state: [end.detail for end in results if end.state == state] for state in StepState}
    return "\n".join(said[StepState.FAILED] or said[StepState.SKIPPED])
