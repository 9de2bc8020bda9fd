"""What the figures of a step prove: the word of the program that measured them, beside what others saw.

A program may say anything. A figure of a GPU counts where the agent saw that card at work during the step, a number of
ranks or hosts as far as the services that the step needs have published what they did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import FigureRow, StepRow
from orchestrator.plan import PhaseRun
from orchestrator.transport.job_replies import Peaks
from orchestrator.words.errors import StepFailed
from orchestrator.words.model import RunsOn

SAMPLED = frozenset(field.name for field in fields(Peaks))  # what the agent measures itself
OF_GPUS = SAMPLED - {"disk_free_mib_min"}
CPU = "cpu"
STANDS_IN = "a CPU stands in for the GPU here"


class NotShown(Exception):
    """These machines cannot show what is asked, whatever the truth of it is."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A figure as far as it is borne out; `but`: why that is less than the program says, "": it is all of it."""

    figure: FigureRow
    value: float
    but: str = ""

    def __str__(self) -> str:
        place = f" on {self.figure.measured_on}" if self.figure.measured_on else ""
        said = f"{self.figure.name} = {self.figure.value:,.4g}{place}"
        return f"{said}, of which {self.value:,.4g} is borne out: {self.but}" if self.but else said


class Evidence:
    """The figures of one step of a phase. `shows_gpu`: whether the machines' GPUs are what they are called."""

    def __init__(self, ledger: Ledger, phase: PhaseRun, step: StepRow, *, shows_gpu: bool) -> None:
        self._ledger, self._step, self._shows_gpu = ledger, step, shows_gpu
        self._steps = {run.id: run for run in phase.steps}
        self._phase = phase.phase

    def shown(self, name: str, device: str | None) -> list[Shown]:
        """The figure of that name of each node that the step ran on, as far as it is borne out.

        `device`: cpu or gpu, where the figure must come from; None: from either. StepFailed: a node has none, or one
        that comes from elsewhere than it says or should. NotShown: it is a GPU's, and there is none here to show it.
        """
        rows = {row.node: row for row in self._figures(self._step.id) if row.name == name}
        absent = [node for node in self._nodes() if node not in rows]
        if absent or not rows:
            where = f" on node {absent[0]}" if absent and len(self._nodes()) > 1 else ""
            raise StepFailed(f"{self._step.id} measured no {name}{where}")
        for row in rows.values():
            self._require_place(row, device)
        return [self._borne_out(row) for row in rows.values()]

    def _nodes(self) -> list[int]:
        """The nodes that the step is meant for; [] where it did not run in this phase."""
        run, nodes = self._steps.get(self._step.id), self._phase.machine.nodes
        on = run.step.on if run else None
        return (
            {RunsOn.ROOT: [0], RunsOn.WORKERS: list(range(1, nodes)), RunsOn.ALL: list(range(nodes))}[on] if on else []
        )

    def _figures(self, step: str) -> Sequence[FigureRow]:
        return self._ledger.figures.all(run=self._step.run, step=step)

    def _require_place(self, row: FigureRow, device: str | None) -> None:
        """That the figure comes from where it says and from where it should."""
        shows_gpu, of_gpu = self._shows_gpu, row.device not in ("", CPU)
        if row.name in OF_GPUS:
            if not shows_gpu:
                raise NotShown(STANDS_IN)
            if not row.device:
                raise StepFailed(f"{row.name} = {row.value:,.4g}, and no GPU was seen at work in {row.step}")
        elif of_gpu:
            seen = self._cards(row) if shows_gpu else []
            if row.device not in seen:
                found = f"only {', '.join(seen)}" if seen else "no GPU"
                raise StepFailed(
                    f"{row.name} is said to be of {row.device}, but {found} was seen at work in {row.step}"
                )
        if device == "gpu" and not of_gpu:
            where = row.measured_on or "a device that it does not name"
            if not shows_gpu:
                raise NotShown(f"{row.name} was measured on {where}: {STANDS_IN}")
            raise StepFailed(f"{row.name} = {row.value:,.4g} was measured on {where}, not on a GPU")
        if device == CPU and row.device != CPU:
            raise StepFailed(f"{row.name} is of {row.device or 'a device that it does not name'}, not of a CPU")

    def _cards(self, row: FigureRow) -> list[str]:
        """The kinds of card that the agent saw at work on that node of the step."""
        seen = (f.device for f in self._figures(row.step) if f.node == row.node and f.name == "gpus_at_work")
        return [card for cards in seen for card in cards.split(", ") if card]

    def _borne_out(self, row: FigureRow) -> Shown:
        if row.name == "gpus_used":
            seen = self._at_work()
            return Shown(row, min(row.value, seen), f"{seen:g} GPUs were seen at work" if seen < row.value else "")
        if row.name not in ("ranks", "hosts"):
            return Shown(row, row.value)
        ranks = [f for step in self._services() for f in self._ranks_of(step)]
        found = {f.node for f in ranks} | {0} if row.name == "hosts" else {f.value for f in ranks} | {0.0}
        but = f"the services that it needs published {len({f.value for f in ranks})} ranks at work"
        return Shown(row, min(row.value, len(found)), but if len(found) < row.value else "")

    def _services(self) -> list[str]:
        """The services that the step needs, and that came to a good end."""
        run = self._steps.get(self._step.id)
        needed = [need for need in run.needs if need in self._steps and self._steps[need].step.ready] if run else []
        rows = self._ledger.steps.all(run=self._step.run, phase=self._phase.name)
        return [row.id for row in rows if row.id in needed and row.state.is_done]

    def _ranks_of(self, step: str) -> list[FigureRow]:
        """The ranks that a service published, of nodes that computed something."""
        found = self._figures(step)
        worked = {f.node for f in found if f.name == "tokens" and f.value > 0}
        return [f for f in found if f.name == "rank" and f.value > 0 and f.node in worked]

    def _at_work(self) -> float:
        """How many GPUs the agent saw at work, on all nodes, in the step and in the services that it needs.

        A card of one node counts once, whichever of them it worked for.
        """
        most: dict[int, float] = {}
        for step in (self._step.id, *self._services()):
            for f in self._figures(step):
                if f.name == "gpus_at_work" and f.device:
                    most[f.node] = max(most.get(f.node, 0.0), f.value)
        return sum(most.values())
