"""A story killed after each change that outlives its process, and gone on with in every way that there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.testing import audit
from orchestrator.testing.bench import Bench
from orchestrator.testing.explore import Explorer
from tests.faults.cells import reaped, told

# Killed between the note that a create (a machine's, a volume's) is sent and the create: until it is sure that nothing
# appeared, the phase's time may be used up. It ends so: nothing is left, and RUN.2 goes on.
OUT_OF_TIME, UNSENT = ("time-out",), ("ledger: machines, then resume", "ledger: volumes, then resume")
UNSAFE = ("left", "twice", "billed", "again")


def deaths(name: str, folder: Path) -> dict[str, Any]:
    """Where its process died, in how many ways the run was gone on with, and what was wrong after any of them."""
    story = told(name)

    def resume(bench: Bench) -> list[str]:
        return story.wrong(bench, bench.controller().run()) + audit.volumes_left(bench)

    def down(bench: Bench) -> list[str]:
        return [f"left: {one}" for one in bench.controller().down()] + after(bench)

    def reap(bench: Bench) -> list[str]:
        return (reaped(bench) if bench.host is None else bench.controller().down()) + after(bench)

    def after(bench: Bench) -> list[str]:
        more = [f"{c} ran {n} times" for c, n in bench.runs().items() if n > story.ends["runs"].get(c, 0)]
        return more + audit.unsafe(bench) + audit.volumes_left(bench) + audit.strange(bench.ledger())

    (folder / "home").mkdir()
    bench = story.bench(folder / "home")
    explorer = Explorer(bench, {"resume": resume, "down": down, "reap": reap}, folder / "deaths", changes=True)
    wrong = story.wrong(bench, explorer.run())
    bad = [f"{death.where}, then {death.way}: {'; '.join(death.wrong)}" for death in explorer.deaths if death.wrong]
    unsent = [one for one in bad if name in OUT_OF_TIME and any(where in one for where in UNSENT)]
    known = [one for one in unsent if not any(word in one for word in UNSAFE)]
    bad = [one for one in bad if one not in known]
    return {"known": len(known), "places": explorer.places, "deaths": len(explorer.deaths), "wrong": wrong + bad}
