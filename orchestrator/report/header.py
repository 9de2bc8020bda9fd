"""The first lines of every look at a run: which one, how long still, what it costs, and what is rented for it."""

from __future__ import annotations

from datetime import datetime, timedelta

from orchestrator.report.figures import duration, elapsed, money, size, speed, spoken
from orchestrator.report.snapshot import MachineLine, Snapshot, TransferLine
from orchestrator.words.lifecycle import MachineState, PhaseState, RunState

WORDS = {
    MachineState.REQUESTED: "asked for",
    MachineState.CREATED: "starting",
    MachineState.REACHABLE: "up",
    MachineState.DESTROYING: "ending",
}
_DOING = {
    "upload": ("uploading to", "uploaded to"),
    "pull": ("fetching", "fetched"),
    "code": ("sending code to", "code sent to"),
    "input": ("fetching from", "fetched from"),
}


def headline(seen: Snapshot, now: datetime) -> str:
    """`shipped 1128-jmeg   day2-3 (2 of 4)   2h 10m, about 50m left (16:40)`."""
    took = elapsed(seen.started, seen.ended, now)
    left = ""
    if seen.left_s is not None and seen.state != RunState.DONE:
        until = (now + timedelta(seconds=seen.left_s)).astimezone()
        left = f", about {duration(seen.left_s)} left ({until:%H:%M})"
    name = f"{seen.plan} {seen.run}".strip() + (", a rehearsal" if seen.dry_run else "")
    return "   ".join(filter(None, [name, where(seen), f"{took}{left}".lstrip(", ")]))


def where(seen: Snapshot) -> str:
    """The phase at work and which of how many it is; or the run's state, where none is."""
    if seen.state == RunState.DONE:
        return spoken(next((p.outcome for p in reversed(seen.phases) if p.outcome), None) or seen.state)
    if not seen.driven:
        return "no process drives it"
    for number, phase in enumerate(seen.phases, 1):
        if seen.state == RunState.RUNNING and phase.state not in (PhaseState.PLANNED, PhaseState.DONE):
            doing = "" if phase.state == PhaseState.RUNNING else f", {spoken(phase.state)}"
            return f"{phase.name} ({number} of {len(seen.phases)}){doing}"
    return spoken(seen.state)


def prices(seen: Snapshot) -> str:
    """`$4.12 of $150.00   now $1.79/h + volume $0.10/h   expected $11.90`."""
    cap = f" of {money(seen.budget_usd)}" if seen.budget_usd is not None else ""
    parts = [f"{money(seen.cost_usd)}{cap}"]
    volume = f"volume {money(seen.volume_hour)}/h" if seen.volume_hour else ""
    machines = f"{money(seen.machines_hour)}/h" if seen.machines_hour else ""
    if costs := " + ".join(filter(None, [machines, volume])):
        parts.append(f"now {costs}")
    if seen.expected_usd is not None and seen.state != RunState.DONE:
        parts.append(f"expected {money(seen.expected_usd)}")
    return "   ".join(parts)


def machine(line: MachineLine, now: datetime, deadman_minutes: float | None = None) -> str:
    """`machine  day2-3#1  A100 80GB in EU-RO-1  runpod  up 31m  $1.79/h`, and when it ends by itself."""
    since = line.up if line.state == MachineState.REACHABLE else line.since
    state = " ".join(filter(None, [WORDS.get(line.state, line.state.lower()), elapsed(since, None, now)]))
    price = f"{money(line.price_hour)}/h" if line.price_hour else ""
    ends = f"ends itself {deadman_minutes:g}m after this computer is gone" if deadman_minutes else ""
    return "  ".join(filter(None, ["machine", line.name, line.what, line.provider, state, price, ends]))


def transfer(line: TransferLine, now: datetime) -> str:
    """`uploading to s3://b/x: 3 of 8 files, 12.4 of 62.3 GB, 640 MB/s, 1m 18s left`; once all is there, that it is."""
    under_way, done = _DOING[line.kind]
    place = "home" if line.kind == "pull" else line.place  # the folder is in the last lines
    files = "1 file" if line.files == 1 else f"{line.files:,} files"
    if line.ended:
        rate = f" ({speed(line.rate)})" if line.rate else ""
        return f"{done} {place}: {files}, {size(line.bytes)} in {elapsed(line.since, line.ended, now)}{rate}"
    if line.files and line.files_done == line.files:  # steps that still run may bring more
        return f"{done} {place} so far: {files}, {size(line.bytes)}"
    parts = [f"{line.files_done:,} of {files}", f"{size(line.bytes_done)} of {size(line.bytes)}"]
    if line.rate:
        parts.append(speed(line.rate))
    if line.left_s is not None:
        parts.append(f"{duration(line.left_s)} left")
    return f"{under_way} {place}: {', '.join(parts)}"
