"""What must never be, however a run came to its end, by the emulated clouds' own books: nothing here asks the engine.

Each function returns what does not hold, in words; [] is what everybody hopes for.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

from orchestrator import cost
from orchestrator.engine import accounting
from orchestrator.engine.names import MachineName, VolumeName
from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import MachineRow
from orchestrator.plan import PhaseRun, crews_of, resolve
from orchestrator.rehearsal.clouds.clock import stamp
from orchestrator.rehearsal.clouds.records import Span
from orchestrator.testing.bench import Bench
from orchestrator.testing.clock import BEGINNING
from orchestrator.words.lifecycle import RunState
from orchestrator.words.provider import Capability
from orchestrator.words.spec import RunSpec, plain

UNIT_USD = Decimal("0.0005")  # a second of the dearest machine here, and rounding
CENT = Decimal("0.005")
ENDS = frozenset({"destroy-machine", "preempt-machine", "stop-machine", "expire-machine", "boot-failed"})  # in the log
UNWATCHED = "nobody looked for it"
UNREAD = "billing could not be read"
STRANGE = ("internal error", "could not be ended:")  # what events say of mistakes of ours


def unsafe(bench: Bench, *ledgers: Ledger) -> list[str]:
    """All of it, once everything has ended. `ledgers`: of every home there is; left out: the bench's own."""
    books = list(ledgers) or [bench.ledger()]
    return leaks(bench) + twice(bench) + repeated(bench, books) + unpaid(bench, books) + bench.clouds.breaches()


def leaks(bench: Bench, run: str = "") -> list[str]:
    """Machines that exist; `run`: that run's alone."""
    names = bench.clouds.machines_left()
    if run:
        names = [name for name in names if (said := MachineName.parse(name)) and said.run == plain(run)]
    return [f"machine left: {name}" for name in names]


def twice(bench: Bench) -> list[str]:
    """Names that were created or rebooted more than once, and machines beside those that a phase's nodes need."""
    created = Counter(bench.creates())
    rebooted = Counter(str(entry["name"]) for entry in bench.clouds.log() if entry["action"] == "restart-machine")
    found = [f"created twice: {name}" for name, times in created.items() if times > 1]
    return found + [f"rebooted twice: {name}" for name, times in rebooted.items() if times > 1] + crowded(bench)


def crowded(bench: Bench) -> list[str]:
    """Creates at a moment when a run had all the machines already that its plan can use at the same time.

    One whose end was asked for, heard or not, or that ended by itself, is not counted, whatever it still costs.
    """
    found, living, asked = list[str](), dict[str, str](), _asked_to_end(bench)  # living: id -> run
    most = max(map(partial(_machines_of, bench.spec), resolve(bench.spec.plan, bench.spec.asked)))
    for entry in bench.clouds.log():
        action = entry["action"]
        if action == "create-machine" and (name := MachineName.parse(str(entry["name"]))):
            living[str(entry["id"])] = name.run
            here = [run for one, run in living.items() if asked.get(one, "~") > str(entry["at"])]
            if (count := here.count(name.run)) > most:
                found.append(f"{entry['name']}: one of {count} machines at {entry['at']}, {most} are needed")
        elif action in ENDS:
            living.pop(str(entry.get("id")), None)
    return found


def _asked_to_end(bench: Bench) -> dict[str, str]:
    """Machine's id -> when its end was first asked for, as the log writes moments, whatever the answer was."""
    found: dict[str, str] = {}
    for call in bench.clouds.calls:
        ids = [call.path.rpartition("/")[2]] if call.method == "DELETE" else []
        if call.path.endswith("/terminate") and isinstance(call.body, dict):
            ids = call.body.get("instance_ids", [])
        for one in ids:
            found.setdefault(one, stamp(call.at))
    return found


def _machines_of(spec: RunSpec, phase: PhaseRun) -> int:
    crews = crews_of(phase, phase.phase.machine, staged=phase.phase.name in spec.staged)
    return sum(len(crew.nodes) for crew in crews)


def repeated(bench: Bench, ledgers: list[Ledger]) -> list[str]:
    """Steps that began again although their done-record was there.

    A record that no ledger knows proves nothing to that home: such a step runs again, and it is said.
    """
    told = Counter(
        event.text.partition(":")[0].replace("/", ".")
        for ledger in ledgers
        for event in ledger.events.all()
        if "unknown to this ledger: run again" in event.text
    )
    return [f"{step} ran again {n - told[step]} times" for step, n in bench.repeated().items() if n > told[step]]


def unpaid(bench: Bench, ledgers: list[Ledger]) -> list[str]:
    """Machines that are billed more than has accrued, or that nobody has on the books.

    Not counted is one that came and went while nobody looked, where this is said.
    """
    said = [event.text for ledger in ledgers for event in ledger.events.all() if UNWATCHED in event.text]
    accrued, found = _accrued(bench, ledgers), []
    for name, text in bench.clouds.invoice()["machines"].items():
        if Decimal(text) - UNIT_USD > accrued.get(name, Decimal(0)) and not any(name in words for words in said):
            found.append(f"{name} is billed ${text}, accrued are ${accrued.get(name)}")
    return found


def _accrued(bench: Bench, ledgers: Sequence[Ledger]) -> dict[str, Decimal]:
    """USD by machine's name."""
    found: dict[str, Decimal] = {}
    for ledger in ledgers:
        for run in ledger.runs.all():
            for charge in accounting.counted(ledger, run.id):
                usd = cost.accrued([charge], bench.clock.now())
                found[charge.name] = found.get(charge.name, Decimal(0)) + usd
    return found


def overpaid(bench: Bench, patience_s: float = 0.0) -> list[str]:
    """Machines that accrued more than their bill and one billing unit.

    Not counted are the seconds until the bill begins (Lambda's does when the machine has booted, that of RunPod's disks
    when it runs), what a month is longer there, and `patience_s`: as long as a provider listed what it had ended.
    """
    ledger, found, invoice = bench.ledger(), [], bench.clouds.invoice()
    accrued = _accrued(bench, [ledger])
    for name, spans in bench.clouds.bills().items():
        row = ledger.machines.maybe(name=name)
        if row is None or row.sent_at is None or not spans:
            continue
        unit = invoice["unit_seconds"][row.provider] + patience_s + spans[0].start.timestamp() - row.sent_at
        most = Decimal(invoice["machines"][name]) + row.price_hour * Decimal(unit) / 3600 + UNIT_USD
        most += _unbilled_disk(row, spans, bench.clock.now())
        if accrued.get(name, Decimal(0)) > most:
            found.append(f"{name} accrued ${accrued[name]:.6f}, more than ${most:.6f}")
    return found


def _unbilled_disk(row: MachineRow, spans: Sequence[Span], now: datetime) -> Decimal:
    """USD of the machine's own disk for all the time that the machine itself is billed, less what it is billed."""
    found = Decimal(0)
    for span in spans:
        hours = Decimal(((span.end or now) - span.start) / timedelta(hours=1))
        found += -span.price_hour * hours if span.disk else row.disk_hour * hours
    return found


def settled(bench: Bench, ledger: Ledger, run: str) -> list[str]:
    """Whether an ended run's books say what the provider's bill says, to the cent, where there is a bill to read."""
    row = ledger.runs.get(id=run)
    provider = bench.controller().context.provider
    if row.state != RunState.DONE or Capability.BILLING not in provider.capabilities:
        return []
    names = {machine.name for machine in ledger.machines.all(run=run) if machine.provider_id}
    bills = {n: Decimal(usd) for n, usd in bench.clouds.invoice()["machines"].items() if n in names}
    told = [event.text for event in ledger.events.all(run=run)]
    said = [text for text in told if "has billed $" in text]
    if not said:  # a bill of nothing is in no list of bills
        return [] if any(UNREAD in text for text in told) or 0 in bills.values() else [f"{run} was not settled"]
    billed = Decimal(said[-1].partition("has billed $")[2].partition(" ")[0])
    invoice = sum(bills.values(), Decimal(0))
    return [] if abs(billed - invoice) < CENT else [f"{run} is settled at ${billed}, the invoice is ${invoice}"]


def volumes_left(bench: Bench, *ledgers: Ledger) -> list[str]:
    """Volumes that exist and that nobody says are kept, and two of one kind."""
    books = list(ledgers) or [bench.ledger()]
    kept = {row.name for ledger in books for row in ledger.volumes.all() if not row.state.is_final}
    names = bench.clouds.volumes_left()
    kinds = Counter((said.owner, said.label) for name in names if (said := VolumeName.parse(name)))
    found = [f"volume left: {name}" for name in names if name not in kept]
    return found + [f"{count} volumes {label}" for (_, label), count in kinds.items() if count > 1]


def driven_beyond(bench: Bench, spec: RunSpec, budget: Decimal, driven: Sequence[tuple[float, float]]) -> float:
    """Seconds of these stretches (of the clock's monotonic time) in which a run's machines cost beyond its budget.

    The run and those that it goes on with (RUN, RUN.2, ...) have one budget.
    """
    base, mine = plain(spec.run.partition(".")[0]), list[tuple[datetime, datetime, Decimal]]()
    for name, spans in bench.clouds.bills().items():
        said = MachineName.parse(name)
        if said and said.owner == spec.owner and (said.run == base or said.run.startswith(f"{base}-")):
            mine += [(span.start, span.end or bench.clock.now(), span.price_hour) for span in spans]
    moments, spent, late = sorted({m for start, end, _ in mine for m in (start, end)}), Decimal(0), 0.0
    for since, until in itertools.pairwise(moments):
        rate = sum((price for start, end, price in mine if start <= since and until <= end), Decimal(0)) / 3600
        passed = Decimal((until - since) / timedelta(seconds=1))
        if rate and spent + rate * passed > budget:
            over = since + timedelta(seconds=float(max(budget - spent, Decimal(0)) / rate))
            begin, end = ((moment - BEGINNING).total_seconds() for moment in (over, until))
            late += sum(max(min(end, stop) - max(begin, start), 0.0) for start, stop in driven)
        spent += rate * passed
    return late


def strange(ledger: Ledger) -> list[str]:
    """Events that tell of mistakes of ours."""
    return [e.text for e in ledger.events.all() if any(words in e.text for words in STRANGE)]
