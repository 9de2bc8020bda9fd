"""One seed: a plan in the clouds' emulators, its controllers, and all that goes wrong for them, on one clock.

A process of gpuplan is a life of the clock's: it can be killed at any moment, and at any change that outlives it.
The same seed does the same things at the same moments.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from orchestrator.engine.effects import RunEnd
from orchestrator.engine.leftovers import end_unwritten
from orchestrator.engine.reaper import Reaped
from orchestrator.ledger import Ledger
from orchestrator.testing import audit
from orchestrator.testing.bench import Bench
from orchestrator.words.lifecycle import Outcome, RunState
from tests.faults.fate import OTHERS, Event, Fate
from tests.faults.processes import Process

BESIDE_S, GIVE_UP_S = 60.0, 1800.0  # as cli.stopping
DAY_S = 86400.0
LONGEST_S = 30 * DAY_S  # that a process may take
ROUNDS = 12  # of resume and down, until nothing is left
MOST_RUNS = 4  # RUN, RUN.2, ...


@dataclass
class Home:
    """One computer's run: who drives it, and who did."""

    bench: Bench
    driver: Process | None = None
    drove: list[Process] = field(default_factory=list)
    asked_to_end: bool = False

    @cached_property
    def ledger(self) -> Ledger:
        """Its books, to look at."""
        return self.bench.ledger()

    @property
    def driven(self) -> bool:
        """Whether a living process has its lock."""
        return self.driver is not None and self.driver.lives

    @property
    def state(self) -> RunState | None:
        """The run's; None: it has not begun."""
        row = self.ledger.runs.maybe(id=self.bench.spec.run)
        return row.state if row else None

    @property
    def outcome(self) -> Outcome | None:
        """Likewise."""
        row = self.ledger.runs.maybe(id=self.bench.spec.run)
        return row.outcome if row else None


class Simulation:
    """See above."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.fate = Fate(seed)
        (folder / "home").mkdir(parents=True)
        self.bench = self.fate.bench(folder / "home")
        self.clock, self.wrong, self.told = self.bench.clock, list[str](), list[str]()
        self.clock.limit = 400 * DAY_S
        self.homes = [Home(self.bench), *self._others(folder)]
        self.others: list[Process] = []  # that drive nothing
        self._dice = random.Random(seed)
        self._doomed: dict[object, tuple[Process, str, int]] = {}
        self.bench.watchers.changed, self.bench.watchers.asking = self._changed, self._asking

    def _others(self, folder: Path) -> list[Home]:
        if self.fate.other == "none":
            return []
        home, owner = OTHERS[self.fate.other]
        (folder / home).mkdir(exist_ok=True)
        plan = self.bench.spec.plan.model_copy(update={"name": "other"})
        changes = {"plan": plan} | ({"owner": owner} if owner else {})
        return [Home(self.bench.beside("1102-next", folder / home, **changes))]

    # -- what the world does meanwhile -------------------------------------------------------------------------------

    def _asking(self) -> None:
        """A request takes its time."""
        if self._dice.random() < self.fate.slow:
            self.clock.pause(self._dice.choice((0.2, 2.0, 15.0)))

    def _changed(self, where: str) -> None:
        """Whoever has so many changes (of such a kind) left to live dies of the last one."""
        life = self.clock.life
        process, kind, left = self._doomed.get(life, (None, "", 0))
        if process is None or kind not in where:
            return
        self._doomed[life] = (process, kind, left - 1)
        if left == 1:
            self._note(f"{process.name} is killed after a change in: {where}")
            process.kill()

    def _note(self, text: str) -> None:
        self.told.append(f"{self.clock.now():%m-%d %H:%M:%S} {text}")

    # -- processes ---------------------------------------------------------------------------------------------------

    def _drive(self, home: Home) -> None:
        """`gpuplan run` or `resume`; of a run that has ended its RUN.2."""
        if home.driven:
            return
        run = home.bench.spec.run
        if home.state == RunState.DONE:
            number = int(run.partition(".")[2] or 1) + 1
            if home.outcome == Outcome.SUCCEEDED or number > MOST_RUNS:
                return
            run = f"{run.partition('.')[0]}.{number}"
            update = {"run": run, "previous": home.bench.spec.run, "created_at": self.clock.now().timestamp()}
            home.bench.spec = home.bench.spec.model_copy(update=update)
        self._begin(home, f"run {run}", lambda: self._ran(home, home.bench.controller().run()))

    def _ran(self, home: Home, end: RunEnd) -> RunEnd:
        if not end.left:
            self.wrong += [f"at its end {one}" for one in audit.leaks(self.bench, home.bench.spec.run)]
        return end

    def _down(self, home: Home) -> None:
        """`gpuplan down`: by itself, or beside the process that drives the run."""
        home.asked_to_end = True
        if home.state is None:
            return
        if home.driven:
            self.others.append(Process(self.clock, f"down beside {home.bench.spec.run}", lambda: self._beside(home)))
        else:
            self._begin(home, f"down {home.bench.spec.run}", lambda: self._downed(home))

    def _beside(self, home: Home) -> list[str] | None:
        bench, begin, beside = home.bench, self.clock.monotonic(), True
        ledger, run = home.ledger, bench.spec.run
        while self.clock.monotonic() < begin + GIVE_UP_S:
            ledger.runs.change({"id": run}, stop="stopped by gpuplan down")
            if not home.driven:
                home.driver = next(p for p in self.others if p.life is self.clock.life)
                home.drove.append(home.driver)
                return self._downed(home)
            if beside and self.clock.monotonic() > begin + BESIDE_S:
                beside = False
                end_unwritten(bench.controller().context)
            self.clock.pause(5.0)
        return None

    def _downed(self, home: Home) -> list[str]:
        left = home.bench.controller().down()
        if not left:
            self.wrong += [f"after down {one}" for one in audit.leaks(self.bench, home.bench.spec.run)]
        return left

    def _reap(self, home: Home) -> None:
        """`gpuplan reap` elsewhere."""
        before = set(self.bench.clouds.machines_left())
        owner = home.bench.spec.owner

        def reaped() -> Reaped:
            done = home.bench.reap()
            names = [found.name for found, _ in done.ended]
            self.wrong += [f"reap ended {n}" for n in names if n in before and f"-{owner}-" not in n]
            self._note(f"reap ended {names}")
            return done

        self.others.append(Process(self.clock, "reap", reaped))

    def _begin(self, home: Home, name: str, body: Callable[[], object]) -> None:
        self._note(name)
        home.driver = Process(self.clock, name, body)
        home.drove.append(home.driver)

    # -- the seed ----------------------------------------------------------------------------------------------------

    def run(self) -> list[str]:
        """Live through it; what does not hold afterwards."""
        try:
            begin = self.clock.monotonic()
            self._drive(self.homes[0])
            for event in self.fate.events:
                self.clock.pause(max(begin + event.at - self.clock.monotonic(), 0.0))
                self._happen(event)
            self._clean_up()
        except AssertionError as error:  # the clock's: everybody waits for ever
            return [*self.wrong, f"stuck: {error}"]
        return self.wrong + self._verdict()

    def _happen(self, event: Event) -> None:
        home = self.homes[event.home % len(self.homes)]
        match event.what:
            case "fault":
                self._note(f"fault {event.name}")
                self.bench.clouds.fault(event.name, step=event.step, count=event.count)
            case "jump":
                self._note(f"the clock jumps by {event.seconds:.0f} s")
                self.clock.jump(event.seconds)
            case "kill" if home.driven and home.driver:
                self._note(f"{home.driver.name} is killed")
                home.driver.kill()
            case "doom" if home.driven and home.driver:
                self._doomed[home.driver.life] = (home.driver, event.name, event.count)
            case "drive":
                self._drive(home)
            case "down":
                self._note(f"down {home.bench.spec.run}")
                self._down(home)
            case "reap":
                self._reap(home)

    def _clean_up(self) -> None:
        """Nothing new goes wrong; what is armed may. Each home ends what it has begun."""
        self._doomed.clear()
        for turn in range(ROUNDS):
            for process in [*(h.driver for h in self.homes if h.driver), *self.others]:
                if not process.wait(LONGEST_S):
                    self.wrong.append(f"{process.name} does not end")
                    process.kill()
            open_ones = [h for h in self.homes if h.state not in (None, RunState.DONE)]
            if not open_ones:
                return
            self.clock.pause(600.0)
            for home in open_ones:
                if turn >= self.fate.patience or self._dice.random() < self.fate.gives_up:
                    self._down(home)
                else:
                    self._drive(home)
        self.wrong += [
            f"{h.bench.spec.run} is not done after {ROUNDS} rounds" for h in self.homes if h.state != RunState.DONE
        ]

    def _verdict(self) -> list[str]:
        processes = [*(p for h in self.homes for p in h.drove), *self.others]
        wrong = [f"{p.name} fails: {p.error}" for p in processes if p.error]
        ledgers = list({h.bench.folder: h.ledger for h in self.homes}.values())
        wrong += audit.unsafe(self.bench, *ledgers) + audit.volumes_left(self.bench, *ledgers)
        for ledger in ledgers:
            wrong += audit.strange(ledger)
            wrong += [w for run in ledger.runs.all() for w in audit.settled(self.bench, ledger, run.id)]
        for home in self.homes:
            wrong += self._money(home)
        return wrong

    def _money(self, home: Home) -> list[str]:
        """Whether the budget was passed by more than its stopping takes while somebody drove the run."""
        budget = home.bench.spec.plan.settings.budget_usd
        if budget is None or home.state is None:
            return []
        driven = [(p.began, p.ended or p.began) for p in home.drove]
        late = audit.driven_beyond(self.bench, home.bench.spec, budget, driven)
        allowed = self.fate.stopping_s * len(driven) + self.fate.unwell_s
        return [f"{home.bench.spec.run}: the budget was passed for {late:.0f} s, {allowed:.0f} s are allowed"] * (
            late > allowed
        )
