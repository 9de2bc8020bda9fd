"""The effects of machines that come and go while their phase is under way: when they are rented, and when they end."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from orchestrator.engine.board import UP, Board, States
from orchestrator.engine.context import Context
from orchestrator.engine.machines import Machines
from orchestrator.plan.crews import Crew
from orchestrator.plan.schedule import Scheduler
from orchestrator.words.lifecycle import NOT_NEEDED, MachineState, StepState


class CrewWork:
    """One crew of a phase, on one attempt's machines."""

    def __init__(self, context: Context, machines: Machines, board: Board, phase: str, crew: str) -> None:
        self._context, self._machines, self._board, self._phase = context, machines, board, phase
        self.crew: Crew = next(c for c in context.crews(phase) if c.name == crew)
        self._steps = {step.id: step for step in self.crew.steps}
        self._needs = {step.id: step.needs for step in context.phase(phase).steps}

    def await_turn(self) -> bool:
        """Wait until the first of its steps could begin as soon as a machine has booted; False: none of them will.

        What is not there yet is foreseen by the plan's estimates: the boot then overlaps the end of what comes before.
        """
        foreseen = self._foreseen()
        while True:
            then = self._board.look()
            due = self._due_s(foreseen, then)
            if due is not None and due <= 0:
                return True
            found = self._board.wait(partial(self._news, then), due)
            if isinstance(found, bool):
                return found

    def up(self) -> None:
        """Its machines are there: said by each process anew, so it is no effect."""
        self._board.tell_crew(self.crew.name, UP)

    def gone(self, why: str, *, lost: bool = False) -> None:
        """They are not, and why."""
        self._board.tell_crew(self.crew.name, why, lost=lost)

    def await_end(self) -> bool:
        """Wait until none of its steps uses it any more; False: it was lost, and is to be replaced."""
        return self._board.wait_for(self._ended)

    def end(self) -> None:
        """End its machines, those too over whose end a process died before.

        What cannot be ended now is ended with the phase, or shouted about by the run.
        """
        ended = self._board.look()
        if self._context.spec.hold_s and any(ended[step] == StepState.FAILED for step in self._steps):
            return  # somebody wants to look at it: it ends with the phase
        states = (MachineState.REACHABLE, MachineState.DESTROYING)
        names = [row.name for state in states for row in self._context.of_crew(self._phase, self.crew, state)]
        self._machines.destroy_all(names, f"{self._phase}: {NOT_NEEDED}")

    def _news(self, then: States, states: States) -> bool | str | None:
        """Whether a step of the crew waits for it; "changed": another step than `then` has moved; None: neither."""
        mine = {step: states[step] for step in self._steps}
        if any(step in self._board.wanted and not state.has_ended for step, state in mine.items()):
            return True
        if all(state.has_ended for state in mine.values()):
            return False
        return "changed" if states != then else None

    def _ended(self, states: States) -> bool | None:
        """A service has ended when it was stopped: until then it only answers."""
        mine = [states[step] for step in self._steps]
        if not all(state.has_ended and state != StepState.READY for state in mine):
            return None
        return StepState.LOST not in mine

    def _foreseen(self) -> dict[str, float]:
        """Step -> the seconds that it takes beside what runs with it; a step that is done takes none."""
        context, name = self._context, self._phase
        done = {step for step, state in self._board.look().items() if state.serves} | set(context.spec.seen_done)
        scheduler = Scheduler(context.spec.plan.settings, {}, len(context.stores))
        schedule = scheduler.of(context.phase(name), context.crews(name), done, booted=True)
        return {step: schedule.lasts(step) for step in schedule.steps}

    def _due_s(self, foreseen: Mapping[str, float], states: States) -> float | None:
        """Real seconds until its machines are to be asked for; None: nothing that is under way leads to its steps."""
        context = self._context
        now, ends = context.clock.monotonic(), dict[str, float | None]()

        def left(step: str) -> float | None:
            """Seconds until the step has ended, as foreseen; None: it will not."""
            state = states.get(step)
            if state is None or state.serves or step not in foreseen:
                return 0.0
            if state.has_ended:
                return None
            if step not in ends:
                if state == StepState.RUNNING:
                    ends[step] = max(foreseen[step] - (now - self._board.began.get(step, now)), 0.0)
                else:
                    begins = ready(step)
                    ends[step] = None if begins is None else begins + foreseen[step]
            return ends[step]

        def ready(step: str) -> float | None:
            """Seconds until all that it needs has ended."""
            found = [left(need) for need in self._needs[step]]
            known = [end for end in found if end is not None]
            return max(known, default=0.0) if len(known) == len(found) else None

        def says_itself(step: str) -> bool:
            """Whether nothing keeps it: it looks for its record, and asks for its machine if there is none."""
            return all(need not in states or states[need].serves for need in self._needs[step])

        opened = [s for s in self._steps if s in foreseen and not states[s].has_ended and not says_itself(s)]
        begins = [begin for begin in map(ready, opened) if begin is not None]
        return context.clock.scaled(min(begins) - self._boot_s()) if begins else None

    def _boot_s(self) -> float:
        """How long a machine boots: as long as the slowest of this run did, else as the settings say."""
        rows = self._context.ledger.machines.all(run=self._context.run)
        seen = [row.reachable_at - row.accepted_at for row in rows if row.reachable_at and row.accepted_at]
        return max(seen, default=self._context.spec.plan.settings.boot_seconds)
