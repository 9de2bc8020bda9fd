"""From a created machine to one that works: it has an address, listens, answers over SSH, and its GPUs compute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.engine.context import Context
from orchestrator.engine.effects import NotReached, Reached, Readiness
from orchestrator.ledger.rows import MachineRow
from orchestrator.transport.refusals import GpuFailed
from orchestrator.words.errors import (
    ConnectionLost,
    HostKeyChanged,
    KeyRefused,
    NobodyListens,
    ProviderUnavailable,
    StepFailed,
)
from orchestrator.words.lifecycle import MachineState
from orchestrator.words.outside import quoted
from orchestrator.words.provider import MachineStatus, MachineView
from orchestrator.words.waiting import Clock

POLL_S = 5.0  # between two looks at a machine, in the cloud's time
SKEW_S = 60.0  # of a machine's clock against ours, beyond which it is said
LISTENS_S, ANSWERS_S = 300.0, 300.0  # after the address; after the first TCP connection; in the cloud's time
FAULT_S = 180.0  # how long a GPU (or a Python, or a disk) that fails first is waited for, in the cloud's time
_LIFE, ADDRESS, TCP, SSH, AGENT, DRIVER, CUDA = range(7)  # the layers, in order
NO_GPU = "no_gpu"
LINES_SHOWN, LINES_BYTES = 5, 600  # of a provider's log
ENDED_STATUSES = (MachineStatus.STOPPED, MachineStatus.FAILED, MachineStatus.ENDING)


@dataclass(frozen=True, slots=True)
class Layer:
    """What a machine is to show next. `within_s`: of the cloud's time, from when it showed what comes before.

    `reached`: it has answered over SSH by then, so that what is missing is its own matter.
    """

    lacks: str
    within_s: float
    reached: bool = False


class Progress:
    """How far a machine has come: it never goes back, and each layer has a deadline of its own."""

    def __init__(self, clock: Clock, limit_s: float, *, in_all: bool = False) -> None:
        """`limit_s`: until it has an address, of the cloud's time. `in_all`: for all layers together."""
        self._clock, self._in_all = clock, in_all
        self.layers = (
            Layer("a sign of life", limit_s),
            Layer("an address", limit_s),
            Layer("a TCP connection", LISTENS_S),
            Layer("an answer over SSH", ANSWERS_S),
            Layer("a Python and a disk that work", FAULT_S, reached=True),
            Layer("a driver that knows its GPUs", FAULT_S, reached=True),
            Layer("a CUDA call on each of its GPUs", FAULT_S, reached=True),
        )
        self._at, self._give_up = 0, clock.monotonic() + clock.real(limit_s)

    @property
    def layer(self) -> Layer:
        """What it has not shown yet."""
        return self.layers[self._at]

    @property
    def is_late(self) -> bool:
        """Whether it had its time for that."""
        return self._clock.monotonic() >= self._give_up

    @property
    def within_s(self) -> float:
        """How long that is."""
        return self.layers[0].within_s if self._in_all else self.layer.within_s

    def come_to(self, number: int) -> None:
        """It has shown all that comes before this layer. An address follows a sign of life without more time."""
        if number > self._at:
            first, self._at = self._at == 0, number
            if not (self._in_all or (first and number == ADDRESS)):
                self._give_up = self._clock.monotonic() + self._clock.real(self.layer.within_s)


def wait(
    context: Context,
    row: MachineRow,
    within_s: float | None = None,
    restarted: Callable[[], bool | None] = lambda: False,
) -> Readiness:
    """Wait until the machine answers over SSH and its GPUs work: layer by layer, each as long as it may take.

    `within_s`: for all of them. `restarted` hears of another host key: a machine that was restarted may have one.
    """
    usual_s = context.spec.plan.settings.readiness_seconds
    progress = Progress(context.clock, within_s or usual_s, in_all=within_s is not None)
    told, seen, where = False, "nothing", ""
    while not progress.is_late:
        context.control.check()
        try:
            view = context.provider.machine(row.provider_id)
            seen = f"{view.status} ({view.detail})" if view else "no such machine"
            if view and view.status in ENDED_STATUSES:
                return NotReached(f"{row.name} will not come up: {seen}")
            progress.come_to(ADDRESS)
            if view and (dearer := _too_dear(context, row, view)):
                return NotReached(dearer)
            if view and view.address:
                progress.come_to(TCP)
                where = f" at {view.address}"
                address(context, row, view)
                _first_contact(context, row, progress)
                return Reached()
        except KeyRefused as error:
            progress.come_to(SSH)
            seen = error.message
            if not context.provider.rented:  # nobody will put the key there meanwhile
                return NotReached(str(error))
            if not told:
                context.event(f"{row.name}: it answers, and {seen.partition(' ')[2]} so far")
                told = True
        except ConnectionLost as error:
            progress.come_to(TCP if isinstance(error, NobodyListens) else SSH)
            seen = error.message
            if isinstance(error, HostKeyChanged):
                restarted()
        except ProviderUnavailable as error:
            seen = error.message
        except GpuFailed as error:  # it was reached, but its GPUs do not work
            progress.come_to(DRIVER if error.code == NO_GPU else CUDA)
            seen = error.message
        except StepFailed as error:  # nor does its Python, or its disk
            progress.come_to(AGENT)
            seen = error.message
        context.control.pause(context.clock.scaled(POLL_S))
    return _late(context, row, progress, where, seen)


def _late(context: Context, row: MachineRow, progress: Progress, where: str, seen: str) -> NotReached:
    """What it lacked, within how long, what was seen last, and what the provider's log says of one never reached."""
    layer = progress.layer
    lacked = f"{layer.lacks}{'' if layer.reached else where}"
    why = f"{row.name} was not ready within {progress.within_s / 60:g} min: it lacked {lacked}; last seen: {seen}"
    if said := [] if layer.reached else context.provider.last_words(row.provider_id):
        why += f"; {row.provider}'s log of its start ends: " + quoted(" | ".join(said[-LINES_SHOWN:]), LINES_BYTES)
    return NotReached(why, nowhere=not layer.reached)


def _too_dear(context: Context, row: MachineRow, view: MachineView) -> str:
    """Why the machine costs more than its phase may pay, by what the provider says of it; "": it does not."""
    charge(context, row, view)
    price, most = context.ledger.machines.get(name=row.name).price_hour, context.phase(row.phase).phase.max_usd_hour
    if most is None or price * context.crew_of(row.phase, gpus=row.gpus).need.nodes <= most:
        return ""
    return f"{row.name} costs ${price:.4f} an hour, which is more than {row.phase} may pay (${most})"


def charge(context: Context, row: MachineRow, view: MachineView) -> None:
    """Charge what the provider says that the machine costs, since its beginning, where that is more than was known."""
    price, known = view.price_hour, context.ledger.machines.get(name=row.name).price_hour
    if not price or price <= known:
        return
    context.ledger.machines.change({"name": row.name}, price_hour=price)
    context.event(f"{row.name}: costs ${price:.4f} an hour, not ${known:.4f} as was offered: that is what is charged")


def address(context: Context, row: MachineRow, view: MachineView) -> None:
    """Note where the machine answers now, if the provider says so."""
    if where := view.address:
        context.ledger.machines.change(
            {"name": row.name}, host=where.host, port=where.port, user=where.user,
            private_ip=view.private_ip or row.private_ip,
        )  # fmt: skip


def _note_skew(context: Context, row: MachineRow, its: float, asked: float) -> None:
    """Say when the machine's clock is more than a minute off ours, whatever time its answer took."""
    answered = context.clock.wall().timestamp()
    ahead = max(its - answered, 0.0) - max(asked - its, 0.0)
    if abs(ahead) > SKEW_S:
        way = "ahead of" if ahead > 0 else "behind"
        context.event(
            f"{row.name}: its clock is {abs(ahead):,.0f} s {way} this computer's: times in its logs are off, and a "
            "service that checks the hour of a signature may refuse it"
        )


def _first_contact(context: Context, row: MachineRow, progress: Progress) -> None:
    """The agent, and a real call on each GPU. StepFailed: a GPU is missing or does not work."""
    agent = context.agents(row.name)
    asked = context.clock.wall().timestamp()
    hello = agent.hello()
    progress.come_to(DRIVER)
    _note_skew(context, row, hello.time, asked)
    if row.gpus and context.provider.rented:
        agent.probe(row.gpus)
    names = sorted({g.name for g in hello.gpus})
    where = f"{len(hello.gpus)}x {', '.join(names)}" if names else f"a CPU with {hello.cores} cores"
    if not context.provider.shows_gpu:
        where = f"a CPU with {hello.cores} cores, standing in"
    context.ledger.machines.move({"name": row.name}, MachineState.REACHABLE, reachable_at=context.now())
    context.event(f"{row.name}: reachable, {where}", minor=True)
