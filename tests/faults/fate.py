"""What a seed means: the plan and its clouds, who else is there, and all that will happen, with its moment."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from orchestrator.rehearsal.faults import AT_A_STEP, KNOWN
from orchestrator.testing.bench import Bench
from orchestrator.testing.machine import Script
from tests.faults.cells import told
from tests.unit.engine.stories import NAMES

SHAPES = tuple(name for name in NAMES if name != "ssh-host")  # nothing is rented there
OTHERS = {"none": ("", ""), "same home": ("home", ""), "elsewhere": ("elsewhere", ""), "owner": ("theirs", "somebody")}
BUCKETS = ("memory", "gs")
NOT_AT_BENCH = frozenset(
    {"hub-429", "hub-503", "hub-cut", "hub-stall", "hub-corrupt", "hub-moved", "image-old-torch"}
)  # only a real hub has them, only a real pip minds
FAULTS = tuple(sorted(set(KNOWN) - NOT_AT_BENCH))
KINDS = {"fault": 40, "kill": 12, "doom": 16, "drive": 14, "down": 6, "reap": 6, "jump": 6}
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens at that moment (monotonic seconds), to the first or second run."""

    at: float
    what: str  # a key of KINDS
    home: int = 0
    name: str = ""  # of a fault; of the changes that are counted, a part of it
    step: str = ""
    count: int = 1  # of a fault; of changes that are left to live
    seconds: float = 0.0  # of a jump


class Fate:
    """All of a seed's dice, thrown before anything begins."""

    def __init__(self, seed: int) -> None:
        dice = self._dice = random.Random(seed)
        self.seed, self.shape = seed, dice.choice(SHAPES)
        self.story = told(self.shape)
        self.stretch = dice.choice((1.0, 1.0, 20.0, 200.0))
        self.other = dice.choice(("none", "none", "none", "same home", "elsewhere", "owner"))
        self.slow = dice.choice((0.0, 0.0, 0.05, 0.3))
        self.patience, self.gives_up = dice.randint(1, 4), dice.choice((0.0, 0.3))
        scripts = self.story.world.scripts
        self._scripts = {name: _stretched(script, self.stretch) for name, script in scripts.items()}
        self.lasts_s = 300.0 + sum(min(s.seconds, 6 * HOUR_S) for s in self._scripts.values())
        self.look_s = max(1.0, self.lasts_s / 300)
        self.budget = self._budget()
        self.events = sorted(self._events(), key=lambda event: event.at)
        outages = sum(event.count for event in self.events if event.what == "fault")
        self.stopping_s, self.unwell_s = 600.0 + self.look_s + 2000 * self.slow, 60.0 * outages

    def bench(self, folder: Path) -> Bench:
        """The world in which it comes true."""
        world = replace(
            self.story.world, scripts=self._scripts, faults=(), watched=True, look_s=self.look_s,
            bucket=self._dice.choice(BUCKETS),
        )  # fmt: skip
        settings = self.story.plan.settings.model_copy(update={"budget_usd": self.budget, "readiness_seconds": 400.0})
        plan = self.story.plan.model_copy(update={"settings": settings})
        bench = Bench(plan, self.story.asked, world, folder, self.seed)
        if self.story.earlier:
            bench.live_earlier(self.story.earlier)
        return bench

    def __str__(self) -> str:
        other = "" if self.other == "none" else f", another run ({self.other})"
        budget = f", ${self.budget}" if self.budget else ""
        return f"{self.shape} x{self.stretch:g}{budget}{other}"

    def _budget(self) -> Decimal | None:
        if self._dice.random() < 0.6:
            return None
        usual = Decimal(round(self.lasts_s)) / 3600
        return (usual * Decimal(self._dice.choice(("0.2", "0.7", "2")))).quantize(Decimal("0.001"))

    def _events(self) -> list[Event]:
        dice, at = self._dice, 0.0
        found = [Event(dice.uniform(0, self.lasts_s), "drive", home=1)]
        moments = sorted(dice.uniform(0, 1.3 * self.lasts_s) for _ in range(dice.randint(2, 12)))
        for moment in moments:
            if dice.random() < 0.15:  # nobody looks for a while
                at += dice.choice((0.5, 3, 30, 100)) * HOUR_S
            what = dice.choices(list(KINDS), list(KINDS.values()))[0]
            found.append(self._event(at + moment, what))
            if what in ("kill", "doom") and dice.random() < 0.8:
                then = dice.choice(("drive", "drive", "down"))
                found.append(Event(at + moment + dice.choice((1, 60, HOUR_S)), then, found[-1].home))
            if what == "jump" and found[-1].seconds > 0:  # what others rent is overdue by this clock, too
                found.append(Event(at + moment + dice.choice((1, 60)), "reap", dice.randrange(2)))
        begun = [Event(0.0, "drive"), *(event for event in found if event.what == "drive")]
        for drive in begun:  # what is made is made at the beginning
            if dice.random() < 0.25:
                doom = self._event(drive.at, "doom")
                found.append(replace(doom, home=drive.home))
        return found

    def _event(self, at: float, what: str) -> Event:
        dice, home = self._dice, self._dice.randrange(2)
        match what:
            case "fault":
                return self._fault(at)
            case "doom":
                where = dice.choice(("", "", "POST", "POST", "DELETE", "ledger: machines", "machine: ", "store"))
                return Event(
                    at, what, home, name=where, count=dice.choice((1, 1, 2, 5 if where else dice.randint(1, 150)))
                )
            case "jump":
                return Event(at, what, seconds=dice.choice((-1, 1)) * dice.choice((70, HOUR_S, 30 * HOUR_S)))
        return Event(at, what, home)

    def _fault(self, at: float) -> Event:
        dice, name = self._dice, self._dice.choice(FAULTS)
        count = dice.choice((1, 1, 1, 2, 3))
        if name in ("unavailable", "rate-limited", "s3-busy", "delete-refused") and dice.random() < 0.3:
            count = dice.choice((10, 200))  # the longer lasts beyond the patience of one end
        if name in AT_A_STEP:
            steps = [step.name for phase in self.story.plan.phases for step in phase.steps]
            return Event(at, "fault", name=name, step=dice.choice(steps), count=count)
        where = {"credit-low": str(dice.choice((5, 50, 300))), "cuda-late": str(dice.choice((5, 90, 400)))}
        where["cuda-missing"] = "0"
        return Event(at, "fault", name=name, step=where.get(name, ""), count=count)


def _stretched(script: Script, times: float) -> Script:
    return replace(script, seconds=script.seconds * times)
