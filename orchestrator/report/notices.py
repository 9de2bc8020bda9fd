"""What somebody is told of a run who does not look on, each thing once; as a view beside the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import get_args

from orchestrator.report.figures import elapsed, money, spoken
from orchestrator.report.milestones import PHASE_ENDED, Milestones
from orchestrator.report.snapshot import Snapshot, View
from orchestrator.words.lifecycle import Outcome, RunState
from orchestrator.words.model import NoticeKind
from orchestrator.words.outside import LONG, quoted
from orchestrator.words.secret import hide

KINDS: tuple[NoticeKind, ...] = get_args(NoticeKind)
SHARES = (50, 80, 100)  # percent of the budget
LOUD = str.maketrans({"@": "(at)", "<": "‹", ">": "›"})  # what services take for a call of everybody, or for a tag


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to be told. `title`: of one line; `text`: of a few, "": the title says it all."""

    kind: NoticeKind
    title: str
    text: str = ""


def quiet(text: str) -> str:
    """A text that others may have written: escaped, masked, in one line, and it calls nobody."""
    return quoted(hide(text), LONG).translate(LOUD)


class Notices:
    """What is new in each picture of a run. What the first one shows has been told by whoever drove it before."""

    def __init__(self, on: Collection[NoticeKind], earlier_usd: Decimal = Decimal(0)) -> None:
        """`on`: what is wanted; `earlier_usd`: what runs have spent that share the budget."""
        self._on, self._earlier = frozenset(on), earlier_usd
        self._milestones = Milestones()
        self._failed: set[tuple[str, str]] = set()
        self._share = 0
        self._begun = False

    def of(self, seen: Snapshot, failed: Sequence[tuple[str, str, str]], now: datetime) -> list[Notice]:
        """`failed`: phase, name and evidence of each deliverable that does not hold."""
        found = [*self._of_phases(seen, now), *self._of_deliverables(seen, failed), *self._of_budget(seen)]
        if not self._begun:
            self._begun = True
            found = [_started(seen, goes_on=any(p.started for p in seen.phases))]
        return [one for one in found if one.kind in self._on]

    def _of_phases(self, seen: Snapshot, now: datetime) -> Iterator[Notice]:
        for one in self._milestones.of(seen, now):
            if one.kind == PHASE_ENDED:
                yield Notice("phase_done", _title(seen, quiet(one.text)), _spent(seen))

    def _of_deliverables(self, seen: Snapshot, failed: Sequence[tuple[str, str, str]]) -> Iterator[Notice]:
        for phase, name, detail in failed:
            if (phase, name) not in self._failed:
                self._failed.add((phase, name))
                title = _title(seen, f"does not hold: {quiet(name)} ({quiet(phase)})")
                yield Notice("deliverable_failed", title, quiet(detail))

    def _of_budget(self, seen: Snapshot) -> Iterator[Notice]:
        if not seen.budget_usd:
            return
        share = 100 * (seen.cost_usd + self._earlier) / seen.budget_usd
        reached = max((level for level in SHARES if share >= level), default=0)
        if reached > self._share:
            self._share = reached
            yield Notice("budget", _title(seen, f"{reached} % of the budget is spent"), _spent(seen))


def _started(seen: Snapshot, *, goes_on: bool) -> Notice:
    phases = ", ".join(quiet(p.name) for p in seen.phases)
    return Notice("started", _title(seen, "goes on" if goes_on else "has started"), f"{phases}; {_spent(seen)}")


def ended(seen: Snapshot, outcome: Outcome, left: Sequence[str], summary: str, reason: str) -> list[Notice]:
    """The last words: how it ended, and what may still cost money."""
    took = elapsed(seen.started, seen.ended, datetime.now(UTC))
    lines = [f"{took}, {money(seen.cost_usd)}; {summary}", *([quiet(reason)] if reason else [])]
    found = [Notice("done", _title(seen, spoken(outcome)), "\n".join(lines))]
    if left:
        what = "\n".join([*map(quiet, left), f"gpuplan down {seen.run} ends it"])
        found.append(Notice("left_running", _title(seen, "something may still cost money"), what))
    return found


def undriven(run: str, plan: str, words: str) -> Notice:
    """Nobody drives it any more. `words`: what it costs meanwhile, and what to do."""
    return Notice("undriven", f"{quiet(plan)} {run}: nobody drives it any more", quiet(words))


def _title(seen: Snapshot, said: str) -> str:
    return f"{quiet(seen.plan)} {seen.run}{', a rehearsal' if seen.dry_run else ''}: {said}"


def _spent(seen: Snapshot) -> str:
    cap = f" of {money(seen.budget_usd)}" if seen.budget_usd is not None else ""
    now = f", now {money(seen.machines_hour)}/h" if seen.machines_hour and seen.state != RunState.DONE else ""
    return f"{money(seen.cost_usd)}{cap} spent{now}"


class NoticesView:
    """Another view, whose pictures are looked at for what is worth telling; nothing that goes wrong there shows."""

    def __init__(
        self,
        view: View,
        notices: Notices,
        failed: Callable[[], Sequence[tuple[str, str, str]]],
        tell: Callable[[Notice], None],
    ) -> None:
        """`failed`: see Notices.of."""
        self._view, self._notices, self._failed, self._tell = view, notices, failed, tell
        self._lock = threading.Lock()

    def update(self, snapshot: Snapshot) -> None:
        """See View."""
        try:
            with self._lock:
                for notice in self._notices.of(snapshot, self._failed(), datetime.now(UTC)):
                    self._tell(notice)
        except Exception as error:  # noqa: BLE001  a run ends for no notice
            self._view.say(f"notify: {quiet(str(error))}")
        self._view.update(snapshot)

    def log(self, step: str, line: str) -> None:
        """See View."""
        self._view.log(step, line)

    def progress(self, step: str, text: str) -> None:
        """See View."""
        self._view.progress(step, text)

    def say(self, text: str) -> None:
        """See View."""
        self._view.say(text)

    def confirm(self, question: str, given_up: Callable[[], bool]) -> bool:
        """See View."""
        return self._view.confirm(question, given_up)
