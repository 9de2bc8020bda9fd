"""One cell of the fault matrix: a disaster in a plan of one shape, to its end, or killed in it and ended otherwise."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from orchestrator.engine.names import Due
from orchestrator.rehearsal.faults import AT_A_STEP, KNOWN, WHERE
from orchestrator.testing import audit
from orchestrator.testing.bench import Bench
from orchestrator.words.errors import ExitCode
from tests.faults.processes import Process
from tests.unit.engine.stories import Story

WAYS = ("run", "resume", "down", "reap")
STILL_LISTED_S = 15.0  # between two looks at what a provider still lists
TAKEN_UP_S = 15.0  # until the process after a killed one has found what has ended meanwhile
LONGEST_S = 10 * 86400.0


@dataclass(frozen=True, slots=True)
class Shape:
    """A plan and its clouds. `step`: at which disasters strike; `world`: what is another than the story says."""

    name: str
    story: str
    step: str
    world: tuple[tuple[str, Any], ...] = ()

    def bench(self, folder: Path) -> Bench:
        """A new one, in which what came earlier is done."""
        story = told(self.story)
        world = replace(story.world, faults=(), watched=True, look_s=5.0, **dict(self.world))
        return replace(story, world=world).bench(folder)


GOOGLE = "Google's store"
SHAPES = (
    Shape("one phase", "one-phase", "make"),
    Shape(GOOGLE, "one-phase", "make", (("bucket", "gs"),)),
    Shape("two nodes", "two-nodes", "ask"),
    Shape("spot", "spot", "work"),
    Shape("reuse", "reuse", "two"),
    Shape("staged crews", "staged", "train"),
    Shape("second run", "second-run", "second"),
    Shape("Lambda", "lambda", "work"),
)

# Where a disaster cannot come: it is RunPod's, a bid's, a new volume's, one kind of store's, the hub's or pip's alone.
_RUNPODS = ("create-refused-access", "price-higher", "volume-dear", "boot-old-driver", "front-door", "credit-low")
_BIDS = ("spot-gone", "graphql-gone", "graphql-null")
_NEW_VOLUMES = ("volume-dear", "volume-reply-lost")
_STORES = {"s3-": ("one phase", "staged crews"), "gcs-": (GOOGLE,), "hub-": (), "image-": ()}

# How a run ends that meets it: 0 where nothing is said. An interruptible machine's create is RunPod's older API.
NO_MACHINE = ("create-refused-payment", "create-refused-access", "front-door", "graphql-gone", "credit-low")
_TAKEN_FOR_ONE_TYPE = ("create-refused-payment", "create-refused-access")


@dataclass(frozen=True, slots=True)
class Cell:
    """What became of a disaster in a shape. `exit` None: its process was killed, and no other one drove the run."""

    fault: str
    shape: str
    way: str
    fired: bool
    exit: int | None
    machines: int  # that were created
    wrong: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def applies(fault: str, shape: str) -> bool:
    """Whether the disaster can come in that shape."""
    where = next((shapes for kind, shapes in _STORES.items() if fault.startswith(kind)), None)
    if where is not None:
        return shape in where
    if fault in _BIDS:
        return shape == "spot"
    return not ((shape == "Lambda" and fault in _RUNPODS) or (shape == "second run" and fault in _NEW_VOLUMES))


def documented(fault: str, shape: str) -> ExitCode:
    """The exit code of a run that meets it."""
    if fault not in NO_MACHINE or (shape == "spot" and fault in _TAKEN_FOR_ONE_TYPE):
        return ExitCode.DONE
    return ExitCode.NO_MACHINE


def cells() -> list[tuple[str, str, str]]:
    """Fault, shape and way of all that there are."""
    pairs = [(fault, shape.name) for fault in KNOWN for shape in SHAPES if applies(fault, shape.name)]
    return [(fault, shape, way) for fault, shape in pairs for way in WAYS]


@cache
def told(name: str) -> Story:
    """A story of tests/unit/engine/stories, read once."""
    with tempfile.TemporaryDirectory() as folder:
        return Story.load(name, Path(folder) / "plan")


def lived(fault: str, shape_name: str, way: str, folder: Path) -> Cell:
    """Run the shape with that disaster armed; all ways but "run" kill its process as soon as the disaster came."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = next(shape for shape in SHAPES if shape.name == shape_name)
    bench = shape.bench(folder)
    where = shape.step if fault in AT_A_STEP else WHERE.get(fault, ("", ""))[1] or ""
    before = len(bench.creates())
    bench.clouds.fault(fault, step=where)
    code, wrong = _WAYS[way](bench)
    fired = any(one["fired"] for one in bench.clouds.faults())
    if not fired:
        wrong.append("the disaster did not come: the cell is empty")
    once = {ExitCode.DONE} if way == "resume" else set()  # what came once may have gone with the process that met it
    if code is not None and code not in {documented(fault, shape_name), *once}:
        wrong.append(f"exit code {code}, not {documented(fault, shape_name)}")
    wrong += audit.unsafe(bench) + audit.volumes_left(bench) + audit.strange(bench.ledger())
    if way != "reap":  # till the deadline nobody knows what has ended by itself
        late = STILL_LISTED_S if fault == "delete-still-listed" else 0.0
        wrong += audit.overpaid(bench, late + (0.0 if way == "run" else TAKEN_UP_S))
        wrong += audit.settled(bench, bench.ledger(), bench.spec.run)
    exit_code = None if code is None else int(code)
    return Cell(fault, shape_name, way, fired, exit_code, len(bench.creates()) - before, tuple(wrong))


def _run(bench: Bench) -> tuple[ExitCode, list[str]]:
    end = bench.controller().run()
    code = ExitCode.STILL_RUNNING if end.left else end.outcome.exit_code
    return code, [f"left: {one}" for one in end.left]


def _resume(bench: Bench) -> tuple[ExitCode, list[str]]:
    wrong = _killed(bench)
    code, more = _run(bench)
    return code, wrong + more


def _down(bench: Bench) -> tuple[None, list[str]]:
    return None, _killed(bench) + [f"left: {one}" for one in bench.controller().down()]


def _reap(bench: Bench) -> tuple[None, list[str]]:
    return None, _killed(bench) + reaped(bench)


_WAYS: dict[str, Callable[[Bench], tuple[ExitCode | None, list[str]]]] = {
    "run": _run, "resume": _resume, "down": _down, "reap": _reap,
}  # fmt: skip


def reaped(bench: Bench) -> list[str]:
    """`reap` from another home, before the deadline and after it; then `down` in the first one, for its books."""
    early = [found.name for found, _ in bench.reap().ended]
    dues = [due.deadline for name in bench.clouds.machines_left() if (due := Due.parse(name))]
    bench.clock.pause(max([0.0, *(due - bench.clock.wall().timestamp() for due in dues)]) + 60.0)
    done = bench.reap()
    wrong = [f"ended before its deadline: {name}" for name in early]
    wrong += [f"not reaped: {one}" for one in [*done.left, *bench.clouds.machines_left()]]
    return wrong + [f"left: {one}" for one in bench.controller().down()]


def _killed(bench: Bench) -> list[str]:
    """Drive the run until a disaster has come and something changes after it: its process dies there."""
    process = Process(bench.clock, "run", bench.controller().run)

    def changed(_where: str) -> None:
        if bench.clock.life is process.life and any(fault["fired"] for fault in bench.clouds.faults()):
            process.kill()

    bench.watchers.changed = changed
    process.wait(LONGEST_S)
    bench.watchers.changed = lambda _where: None
    return [f"it was not killed: {process.error}"] if process.error or not process.killed else []
