"""docs/faults.md: what became of every disaster in every shape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from orchestrator.rehearsal.faults import KNOWN
from tests.faults.cells import SHAPES, WAYS, applies

MARKS = dict(zip(WAYS[1:], "rdp", strict=True))
TEXT = """# The fault matrix

`make faults` writes this page.
Each disaster of the emulated clouds meets each shape of a plan, on the bench.
That is the real engine, ledger and adapters over the emulators' own code, in memory and on one clock.
What holds in each cell, by the emulators' books:
no machine is left, no volume but a kept one; nothing was created twice, no finished step ran again;
invoice <= accrued <= invoice + one billing unit a machine; the settled sum is the invoice to the cent;
the exit code is the documented one; and the disaster came, the emulator says so.
Until Lambda's bill begins (at the end of a boot) and while a provider lists what it has ended,
more accrues than is billed.

## Disasters and shapes

A cell is the exit code of a run that nobody disturbs, then the machines that it took.
`r`, `d`, `p`: the process was killed at the first change after the disaster, and the run was then ended well.
`r` by `resume`, `d` by `down`, `p` after its deadline by `reap` from another, empty home.
**RED** is what does not hold, `-` where the disaster cannot come:
another vendor's, no bid, no new volume, no such store.
What happens between the hub and a machine is rehearsed below: the bench downloads nothing.

{matrix}

## Deaths

The process of each story dies after every change that outlives it:
in the ledger, in the workflows' records, at the clouds, on machines, in stores.
Each time the run is gone on with by `resume`, by `down`, and after its deadline by `reap`.

{deaths}

Known: killed between the note that a create is sent and the create, a run whose time is used up until it is clear that
nothing appeared ends without a machine; nothing is left.

## Rehearsed

A sample (seed {seed}) in whole runs: commands, daemon, SSH, stores and hub as a user's rehearsal has them.

{rehearsed}

Filled on {date}, in {minutes} minutes{red}.
"""


def render(
    cells: Iterable[Mapping[str, Any]], dead: Mapping[str, Mapping[str, Any]], rehearsed: Iterable[Mapping[str, Any]],
    *, seed: int, seconds: float,
) -> str:  # fmt: skip
    """The page."""
    found = {(cell["fault"], cell["shape"], cell["way"]): cell for cell in cells}
    rows = [[f"`{fault}`", *(_cell(found, fault, shape.name) for shape in SHAPES)] for fault in KNOWN]
    matrix = _table(["", *(shape.name for shape in SHAPES)], [row for row in rows if set(row[1:]) != {"-"}])
    deaths = [
        [
            name,
            str(d["places"]),
            str(d["deaths"]),
            "**RED**" if d["wrong"] else f"{d.get('known', 0)} known" if d.get("known") else "0",
        ]
        for name, d in dead.items()
    ]
    total = [str(sum(int(row[n]) for row in deaths)) for n in (1, 2)]
    whole = [
        [
            f"`{r['fault']}`",
            r["plan"],
            r["provider"],
            str(r["exit"]),
            "**RED**" if r["wrong"] else "yes",
            f"{r['seconds']} s",
        ]
        for r in rehearsed
    ]
    count = sum(bool(one["wrong"]) for one in [*found.values(), *dead.values()])
    return TEXT.format(
        matrix=matrix,
        deaths=_table(["story", "places", "deaths", "wrong"], [*deaths, ["all", *total, ""]]),
        rehearsed=_table(["disaster", "plan", "provider", "exit", "all holds", ""], whole),
        seed=seed,
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        minutes=round(seconds / 60),
        red=f"; {count} cells are RED" if count else "; every cell is filled and holds",
    )


def _cell(found: Mapping[tuple[str, str, str], Mapping[str, Any]], fault: str, shape: str) -> str:
    if not applies(fault, shape):
        return "-"
    ways = {way: found.get((fault, shape, way)) for way in WAYS}
    run = ways["run"]
    if run is None or run["wrong"]:
        return "**RED**"
    marks = "".join(m if (cell := ways[way]) and not cell["wrong"] else f"**RED {way}**" for way, m in MARKS.items())
    return f"{run['exit']}, {run['machines']} {marks}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
