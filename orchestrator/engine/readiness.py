"""From a created machine to one that works: it has an address, answers over SSH, and its GPUs compute."""

from __future__ import annotations

from orchestrator.engine.context import Context
from orchestrator.engine.effects import NotReached, Reached, Readiness
from orchestrator.ledger.rows import MachineRow
from orchestrator.words.errors import ConnectionLost, KeyRefused, ProviderUnavailable, StepFailed
from orchestrator.words.lifecycle import MachineState
from orchestrator.words.outside import quoted
from orchestrator.words.ports import MachineStatus, MachineView

POLL_S = 5.0  # between two looks at a machine, in the cloud's time
SKEW_S = 60.0  # of a machine's clock against ours, beyond which it is said
FAULT_S = 180.0  # how long a GPU that fails its first calls is waited for, in the cloud's time
LINES_SHOWN, LINES_BYTES = 5, 600  # of a provider's log
ENDED_STATUSES = (MachineStatus.STOPPED, MachineStatus.FAILED, MachineStatus.ENDING)


def wait(context: Context, row: MachineRow) -> Readiness:
    """Wait until the machine answers over SSH and its GPUs work, as long as the settings say."""
    clock = context.clock
    limit_s = context.spec.plan.settings.readiness_seconds
    give_up = clock.monotonic() + clock.real(limit_s)
    faulty, told, seen, lacks = False, False, "nothing", "a sign of life"
    while clock.monotonic() < give_up:
        context.control.check()
        try:
            view = context.provider.machine(row.provider_id)
            seen = f"{view.status} ({view.detail})" if view else "no such machine"
            if view and view.status in ENDED_STATUSES:
                return NotReached(f"{row.name} will not come up: {seen}")
            lacks = "an address"
            if view and (dearer := _price(context, row, view)):
                return NotReached(dearer)
            if view and view.address:
                lacks = f"an answer over SSH at {view.address}"
                address(context, row, view)
                _first_contact(context, row)
                return Reached()
        except KeyRefused as error:
            seen = error.message
            if not context.provider.rented:  # nobody will put the key there meanwhile
                return NotReached(str(error))
            if not told:
                context.event(f"{row.name}: it answers, and {seen.partition(' ')[2]} so far")
                told = True
        except (ProviderUnavailable, ConnectionLost) as error:
            seen = error.message
        except StepFailed as error:  # it was reached, but its GPUs (or its Python) do not work
            seen, lacks = error.message, "GPUs (and a Python) that work"
            if not faulty:
                faulty, give_up = True, min(give_up, clock.monotonic() + clock.real(FAULT_S))
        context.control.pause(clock.scaled(POLL_S))
    why = f"{row.name} was not ready within {limit_s / 60:g} min: it lacked {lacks}; last seen: {seen}"
    if said := [] if faulty else context.provider.last_words(row.provider_id):
        why += f"; {row.provider}'s log of its start ends: " + quoted(" | ".join(said[-LINES_SHOWN:]), LINES_BYTES)
    return NotReached(why, nowhere=not faulty)


def _price(context: Context, row: MachineRow, view: MachineView) -> str:
    """Charge what the provider says that the machine costs; why that is more than its phase may pay, "": it is not."""
    price, known = view.price_hour, context.ledger.machines.get(name=row.name).price_hour
    if not price or price <= known:
        return ""
    context.ledger.machines.change({"name": row.name}, price_hour=price)
    context.event(f"{row.name}: costs ${price} an hour, not ${known} as was offered: that is what is charged")
    phase = context.phase(row.phase).phase
    most = phase.max_usd_hour
    if most is None or price * phase.machine.nodes <= most:
        return ""
    return f"{row.name} costs ${price} an hour, which is more than {phase.name} may pay (${most})"


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


def _first_contact(context: Context, row: MachineRow) -> None:
    """The agent, and a real call on each GPU. StepFailed: a GPU is missing or does not work."""
    agent = context.agents(row.name)
    asked = context.clock.wall().timestamp()
    hello = agent.hello()
    _note_skew(context, row, hello.time, asked)
    if row.gpus and context.provider.rented:
        agent.probe(row.gpus)
    names = sorted({g.name for g in hello.gpus})
    where = f"{len(hello.gpus)}x {', '.join(names)}" if names else f"a CPU with {hello.cores} cores"
    if not context.provider.shows_gpu:
        where = f"a CPU with {hello.cores} cores, standing in"
    context.ledger.machines.move({"name": row.name}, MachineState.REACHABLE, reachable_at=context.now())
    context.event(f"{row.name}: reachable, {where}", minor=True)
