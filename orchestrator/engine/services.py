"""The effects of a service: a step that others use while it runs, and that is stopped when they are done."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from orchestrator.engine import jobs, launch, records
from orchestrator.engine.effects import Go, StepEnd
from orchestrator.engine.reach import through_cuts
from orchestrator.engine.step_log import StepLog
from orchestrator.engine.step_work import StepWork
from orchestrator.transport import commands
from orchestrator.words.errors import MachineLost, StepFailed
from orchestrator.words.lifecycle import StepState
from orchestrator.words.model import Ready

AFTER_STOP_S = 60.0  # real seconds that a service outlives a stop for the sake of what still uses it


class ServiceWork(StepWork):
    """What one service of a phase does to the world, on one attempt's machines."""

    def await_needs(self) -> Go:
        """See StepWork. In a phase of which nothing is left to run it is not started: nobody will ask it anything."""
        if self._phase in self._context.spec.looked_at:
            return Go(go=False, state=StepState.UP_TO_DATE)
        return super().await_needs()

    def await_users(self) -> None:
        """Wait until nothing that needs this service (or, where nothing does, nothing at all) is at work any more.

        Once the run is asked to stop they are being stopped too, and are waited for a little only.
        """
        users = {s.id for s in self._context.phase(self._phase).steps if self.run.id in s.needs}

        def unused(states: Mapping[str, StepState]) -> bool:
            watched = {self.run.id, *(users or states)}
            return all(states[step].has_ended for step in watched)

        self._board.settle(unused, AFTER_STOP_S)

    def serve(self) -> None:
        """Start a service on its machines and wait until each is ready."""
        targets, ready = self._targets(), self.run.step.ready
        assert ready
        self._mark_running(targets)
        self._context.ledger.figures.remove(run=self._context.run, step=self.run.id)
        for node, machine in enumerate(targets):
            job, log = self._service_job(node), self._log(node)
            self._start(self.run.step.run, job, machine, log)
            give_up = self._context.clock.monotonic() + ready.timeout
            settled = partial(self._settled, ready, machine, log, give_up)
            end = jobs.follow(self._context, self._machines, machine, job, log, timeout_s=ready.timeout, until=settled)
            if end:
                how = f"{self.run.id} ended before it was ready (exit code {end.exit})"
                raise StepFailed(f"{how}\n{log.last_lines()}")
            if not self._answers(ready, machine, log):
                jobs.stop(self._context.agents, machine, job, log)
                raise StepFailed(f"{self.run.id} was not ready after {ready.timeout:.0f} s")

    def stop(self) -> StepEnd:
        """Stop the service's jobs, bring the rest of their logs home, and say how they ended.

        FAILED: one of them had ended by itself, and not well. A machine that is gone has said nothing of it.
        """
        state, detail = self.row().state, ""
        try:
            targets = self._targets()
        except MachineLost as error:
            if state == StepState.READY:
                self.mark(StepState.LOST, detail=error.message)
            return StepEnd(self.run.id, state, error.message)
        for node, machine in enumerate(targets):
            log = self._log(node)
            end = jobs.stop(self._context.agents, machine, self._service_job(node), log)
            if end:
                records.keep(self._context, self.run.id, records.figures_of(self._context, end, machine))
            if end and not end.stopped and not end.succeeded:
                detail = detail or self.why(end, log)
        if state == StepState.READY:
            state = StepState.FAILED if detail else StepState.DONE
            self.mark(state, detail=detail, ended_at=self._context.now())
        return StepEnd(self.run.id, state, detail)

    def _start(self, command: str, job: str, machine: str, log: StepLog) -> None:
        log.restart(job)

        def begin() -> None:
            agent = self._context.agents(machine)
            agent.start(self._job(agent, machine, job, command))

        through_cuts(self._machines, machine, begin)
        self._context.announce(self.run.id, "started", machine)

    def _settled(self, ready: Ready, machine: str, log: StepLog, give_up: float) -> bool:
        return self._context.clock.monotonic() > give_up or self._answers(ready, machine, log)

    def _answers(self, ready: Ready, machine: str, log: StepLog) -> bool:
        if ready.log is not None:
            return log.prints(ready.log)
        command = commands.listens(ready.port or 0)
        return self._context.agents(machine).transport.run(command.text).exit == 0

    def _service_job(self, node: int) -> str:
        return f"{launch.job_name(self._context, self._phase, self.run, self._attempt, 1)}.{node}"
