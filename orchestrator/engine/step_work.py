"""The effects of one step: everything that its story records, as a function that may run again after a crash.

What services add to that is in services.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

from orchestrator.engine import hub_check, inputs, jobs, launch, limits, outliving, records, room, stalls
from orchestrator.engine.arriving import hashed_beside
from orchestrator.engine.board import Board
from orchestrator.engine.context import Context
from orchestrator.engine.effects import Attempt, Go, StepEnd
from orchestrator.engine.machines import Machines
from orchestrator.engine.reach import through_cuts
from orchestrator.engine.step_log import StepLog
from orchestrator.engine.volumes import Volumes
from orchestrator.ledger.rows import StepRow
from orchestrator.plan import crews_for
from orchestrator.transport.agent import Agent
from orchestrator.transport.job import Job
from orchestrator.words.errors import MachineLost, StepFailed
from orchestrator.words.lifecycle import StepState
from orchestrator.words.model import RunsOn, VolumeNeed

T = TypeVar("T")
LEAST_S = 1.0  # of a command: none at all is no time-out
LOG_KEPT = 64 * 1024  # bytes of a step's output that its done-record keeps


class StepWork:
    """What one step of a phase does to the world, on one attempt's machines."""

    def __init__(self, context: Context, machines: Machines, board: Board, phase: str, step: str, attempt: int) -> None:
        self.run = next(s for s in context.phase(phase).steps if s.id == step)
        self._context, self._machines, self._board = context, machines, board
        self._phase, self._attempt = phase, attempt
        self._key = {"run": context.run, "phase": phase, "id": step}
        self._crews = crews_for(context.crews(phase), step)
        self.commit = ""  # of the hub's repository that the step downloads

    # -- waiting for others ----------------------------------------------------------------------------------------

    def await_needs(self) -> Go:
        """Wait until every need in this phase has ended, or something failed: nothing new starts then."""
        return self._board.wait_for(self._may_begin)

    def _may_begin(self, states: Mapping[str, StepState]) -> Go | None:
        """Whether the step may begin; None: that is not known yet."""
        failed = next((step for step, state in states.items() if state == StepState.FAILED), "")
        if failed:
            return Go(go=False, state=StepState.SKIPPED, why=f"{failed} failed")
        needs = {need: states[need] for need in self.run.needs if need in states}
        for need, state in needs.items():
            if state.has_ended and not state.serves:
                lost = state == StepState.LOST
                ends_as = StepState.LOST if lost else StepState.SKIPPED
                return Go(go=False, state=ends_as, why=f"{need} is {state.lower()}")
        return Go(go=True) if all(state.serves for state in needs.values()) else None

    def await_machine(self) -> Go:
        """Wait until the step's machines are there; nothing new starts once something has failed."""
        return self._board.await_crews(self.run.id, self._crews)

    # -- what was done before --------------------------------------------------------------------------------------

    def is_up_to_date(self) -> bool:
        """Whether the step's done-record holds; its figures and the end of its log are then this run's too.

        It is looked for on the machine that the phase always has: no other is rented for a step that is done.
        """
        if self.run.id in self._context.spec.force:
            return False
        self.mark(StepState.PENDING, detail="checking what is done")
        if (row := self._context.root(self._phase)) is None:
            raise MachineLost(f"{self._phase} has no machine")
        return through_cuts(self._machines, row.name, lambda: self._record_holds(self._context.agents(row.name)))

    def _record_holds(self, agent: Agent) -> bool:
        record = records.read(self._context, agent, agent.workspace, self.run)
        if record is None:
            return False
        if self.run.inputs and inputs.has_changed(self._context, self.run, record):
            inputs.renew(self._context, agent, self.run)
            return False
        if not records.is_known(self._context, record, self.run.id, self._volume()):  # see agreement
            self._context.event(
                f"{self.run.id}: {records.whose(record)} recorded it, unknown to this ledger: run again"
            )
            return False
        self._log(0).restore(record.log, record.stdout)
        old = [records.StepFigure(0, name, value) for name, value in record.metrics.items()]
        records.keep(self._context, self.run.id, record.figures or old)
        return True

    def check_room(self) -> str:
        """Refuse a download or a conversion that the disk has no room for, before it begins.

        Return the commit that is downloaded: what the revision is now, and stays for this step.
        """
        agent, commit, needed = self._root(), "", float(self.run.step.writes_gb)
        what = f"{self.run.id} writes {needed:g} GB"
        if checkout := self.run.step.hub:
            commit = self._context.hub.commit(checkout.repo, checkout.revision)
            to_come = hub_check.to_come_gb(self._context, agent, agent.workspace, checkout, commit)
            needed = to_come / self._context.provider.disk_share
            what = f"{checkout.repo} needs {needed:,.1f} GB more"
        if self.run.inputs:
            needed = inputs.need_gb(self._context, agent, self.run)  # a sample is as large as it is
            what = f"the inputs need {needed:,.1f} GB more"
        if needed:
            room.require(self._context, agent, self._need(), needed, what)
        return commit

    # -- running ---------------------------------------------------------------------------------------------------

    def try_once(self, command: str, number: int, more: Mapping[str, str]) -> Attempt:
        """Run the command on every machine that it is meant for; the first bad end decides.

        `more`: what its environment has beside the step's own.
        """
        self._context.control.check()  # what was stopped before a crash does not begin again
        if self.run.step.creates or self.run.step.hub:
            with self._board.writing(self.run.id):
                return self._try(command, number, more)
        return self._try(command, number, more)

    def _try(self, command: str, number: int, more: Mapping[str, str]) -> Attempt:
        targets = self._targets()
        self._mark_running(targets, number)
        self._context.ledger.figures.remove(run=self._context.run, step=self.run.id)  # a failed try's prove nothing
        records.forget(self._context, self.run)
        clears = records.path(self.run)
        if self.run.inputs:
            return self._fetch(targets[0], clears)
        job = self._job_name(number)
        if len(targets) > 1:  # nothing of what was made before counts once the first of them begins
            through_cuts(self._machines, targets[0], lambda: self._root().remove(clears))
            clears = ""
        on_each = [partial(self._on_machine, command, f"{job}.{n}", n, m, clears, more) for n, m in enumerate(targets)]
        ends = hashed_beside(self._context, self._root, self.run.step, lambda: self._context.clock.gather(on_each))
        decisive = next((end for end in ends if not end.succeeded), ends[0])
        for end, machine in zip(ends, targets, strict=True):
            records.keep(self._context, self.run.id, records.figures_of(self._context, end, machine))
        return replace(decisive, seconds=max(end.seconds for end in ends))

    def _fetch(self, machine: str, clears: str) -> Attempt:
        """Fetch the phase's inputs through every cut. What has come stays, whatever becomes of the rest."""
        began, agents = self._context.now(), self._context.agents
        self._context.announce(self.run.id, "started", machine)
        through_cuts(self._machines, machine, lambda: agents(machine).remove(clears))
        fetching = inputs.Fetching(self._context, self._phase, self.run)
        through_cuts(
            self._machines, machine, lambda: fetching.run(agents(machine)), progress=lambda: float(fetching.moved)
        )
        self._log(0).note(fetching.said)
        self._context.announce(self.run.id, "ended", machine)
        return Attempt(exit=0, seconds=self._context.now() - began)

    def _job_name(self, number: int) -> str:
        mine = launch.job_name(self._context, self._phase, self.run, self._attempt, number)
        return outliving.job(self._context, self._machines, self._phase, self._targets()[0], mine)

    def _on_machine(
        self, command: str, job: str, node: int, machine: str, clears: str, more: Mapping[str, str]
    ) -> Attempt:
        log = self._log(node)
        log.restart(job)
        start = jobs.Start(
            job,
            lambda agent: self._job(agent, machine, job, command, clears, more),
            lambda: self._context.announce(self.run.id, "started", machine),
        )
        watch = stalls.followed if self.run.step.hub else jobs.to_its_end
        end = watch(self._context, self._machines, machine, start, log, timeout_s=self.run.step.timeout)
        if end.timed_out:
            self._context.control.check()  # it may have been the budget's time that ran out, with nobody looking on
        self._context.announce(self.run.id, "ended", machine)
        return end

    def _job(
        self,
        agent: Agent,
        machine: str,
        job: str,
        command: str,
        clears: str = "",
        more: Mapping[str, str] | None = None,
    ) -> Job:
        return Job(
            id=job,
            command=launch.shell_text(self._context, agent, self.run, command),
            cwd=posixpath.normpath(posixpath.join(agent.workspace, self.run.step.cwd)),
            env=launch.environment(
                self._context, self._context.beside(self._phase, self._crews[0]), self._phase, self.run, machine
            )
            | ({launch.HUB_COMMIT: self.commit} if self.commit else {})
            | dict(more or {}),
            secrets=launch.secrets_of(self._context, self.run),
            timeout_s=self._allowed_s(),
            service=self.run.step.ready is not None,
            clears=clears,
            code=self._context.code.hash,
        )

    def _allowed_s(self) -> float:
        """How long the command may run: as its step says, and no longer than the budget lasts.

        The driver stops it before that; this is for a machine that nobody drives.
        """
        lasts = limits.lasting_s(self._context.ledger, self._context.spec, self._phase)
        wanted = self.run.step.timeout
        if lasts < wanted:
            said = f"its time-out is {wanted / 60:,.0f} min, the budget lasts for {lasts / 60:,.1f} at what runs now"
            self._context.event(f"{self.run.id}: {said}", minor=True)
        return min(wanted, max(lasts, LEAST_S))

    def before_retry(self, how: str) -> None:
        """Say how the try ended, here and in its log, and clear away what a killed download left."""
        self._context.control.check()
        said = f"{how}: again, attempt {self.row().tries + 1}"
        self._context.event(f"{self.run.id}: {said}")
        self._log(0).note(said)
        if self.run.step.hub:
            agent = self._root()
            agent.clean_incomplete(posixpath.join(agent.workspace, self.run.step.hub.dir))

    def verify(self, number: int) -> None:
        """Check what the step's try of that number created, against the hub where it says so; write its done-record."""
        agent, step = self._root(), self.run.step
        commit, known = "", dict[str, str]()
        if step.hub:
            commit, known = hub_check.verify(self._context, agent, agent.workspace, step.hub, self.commit)
            self._context.event(f"{self.run.id}: {step.hub.repo} at commit {commit}", minor=True)
        if self.run.inputs:
            commit = inputs.arrived(self._context, agent, self.run)
        files = records.created(agent, agent.workspace, self.run, strict=True)
        if missing := records.missing(agent, agent.workspace, self.run, files):
            raise StepFailed(f"{self.run.id} ended well but did not create {', '.join(missing)} (below {step.cwd})")
        clones: dict[str, str] = {}
        if files:
            job = f"{self._job_name(number)}.0"
            folder = posixpath.normpath(posixpath.join(agent.workspace, step.cwd))
            files = records.with_checksums(files, agent.published(job) | known, folder)
            clones = records.clones(agent, folder, files)
            for name, at in clones.items():
                self._context.event(f"{self.run.id}: {name} is a clone at commit {at}", minor=True)
        measured = self._context.ledger.figures.all(run=self._context.run, step=self.run.id)
        log, stdout = self._log(0).ends(LOG_KEPT)
        record = records.DoneRecord(
            step=self.run.id,
            key=self._context.keys[self.run.id],
            run=self._context.run,
            machine=self._targets()[0],
            at=self._context.now(),
            files=tuple(files),
            clones=clones,
            log=log,
            stdout=stdout,
            figures=tuple(records.StepFigure(f.node, f.name, f.value, f.measured_on, f.device) for f in measured),
            commit=commit,
        )
        records.write(self._context, agent, record, self.run, self._volume())

    # -- small parts -----------------------------------------------------------------------------------------------

    def reaching(self, body: Callable[[], T]) -> T:
        """Do what needs the step's first machine through every cut of the connection."""
        return through_cuts(self._machines, self._targets()[0], body)

    def row(self) -> StepRow:
        """What the ledger says of the step."""
        return self._context.ledger.steps.get(**self._key)

    def mark(self, state: StepState, **values: object) -> None:
        """Move the step, in the ledger and before the eyes of those who wait for it."""
        self._context.ledger.steps.move(self._key, state, **values)
        self._board.tell(self.run.id, state)

    def end(self, state: StepState, detail: str, tries: list[Attempt]) -> StepEnd:
        """Move the step to its end. What it is booked for is what its tries took, however late we came to know."""
        ended = self._context.now()
        if tries and (started := self.row().started_at):
            ended = min(ended, started + sum(one.seconds for one in tries))
        for node in range(self._context.phase(self._phase).phase.machine.nodes):
            self._log(node).keep()
        self.mark(state, detail=detail, **({} if state == StepState.READY else {"ended_at": ended}))
        return StepEnd(self.run.id, state, detail)

    def how(self, end: Attempt) -> str:
        """How a try ended that did not succeed."""
        if end.lost:
            return "it was killed together with its supervisor"
        if end.stalled:
            return f"no bytes came for {stalls.STALL_S / 60:.0f} minutes"
        return f"took longer than {self.run.step.timeout:.0f} s" if end.timed_out else f"exit code {end.exit}"

    def why(self, end: Attempt, log: StepLog | None = None) -> str:
        """Why a try did not succeed, with the last lines of its log."""
        how = self.how(end)
        lines = (log or self._log(0)).last_lines()
        if full := room.said_full(lines, self._need(), float(self.run.step.writes_gb)):
            lines = f"{lines}\n{full}"
        return f"{self.run.id}: {how}\n{lines}" if lines else f"{self.run.id}: {how}, without any output"

    def _mark_running(self, targets: list[str], number: int = 1) -> None:
        started = self.row().started_at or self._context.now()
        self.mark(StepState.RUNNING, machines=",".join(targets), started_at=started, detail="", tries=number)

    def _targets(self) -> list[str]:
        rows = self._context.beside(self._phase, self._crews[0])
        on = self.run.step.on
        names = [row.name for row in rows if on is RunsOn.ALL or (row.node == 0) == (on is RunsOn.ROOT)]
        if not names:
            raise MachineLost(f"{self._phase} has no machine")
        return names

    def _root(self) -> Agent:
        return self._context.agents(self._targets()[0])

    def _log(self, node: int) -> StepLog:
        return StepLog(self._context, self._phase, self.run.id, node)

    def _volume(self) -> str:
        """The name of the phase's volume; "": it has none."""
        found = Volumes(self._context).row(self._need())
        return found.name if found else ""

    def _need(self) -> VolumeNeed | None:
        return self._context.phase(self._phase).phase.volume
