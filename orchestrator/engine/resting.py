"""What failed a while ago, a type at a place: it is left out until then, as long as anything else would do."""

from __future__ import annotations

from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import MachineRow
from orchestrator.plan.sorting import Key
from orchestrator.words.outside import quoted
from orchestrator.words.spec import RunSpec
from orchestrator.words.waiting import Clock

REFUSED_S = 600.0  # after a create was refused: that cost nothing, and what is sold out may come back
FAILED_S = 3600.0  # after a machine was paid for and did not come up
LEAST_S = 60.0  # real seconds, however fast the cloud's time goes
WORDS = 120  # of why


def resting(ledger: Ledger, spec: RunSpec, clock: Clock, *, chain: bool = False) -> dict[Key, str]:
    """Type at a place -> how it failed and when. Times are the cloud's.

    `chain`: whatever was refused since the first of the runs began that this one goes on with, however long ago.
    What is not real knows of its own runs only, and is nobody else's.
    """
    now, found = ledger.now(), dict[Key, str]()
    base = spec.run.partition(".")[0]
    play = {row.id for row in ledger.runs.all() if row.is_play}
    for row in ledger.machines.all():
        mine = row.run.partition(".")[0] == base
        if row.failed and row.requested_at and (mine or not (spec.world.is_play or row.run in play)):
            ago = now - (row.gone_at or row.requested_at)
            if (chain and mine) or ago < _rest_s(clock, FAILED_S if row.provider_id else REFUSED_S):
                found[_key(row)] = f"{max(ago / 60, 0):.0f} min ago: {quoted(row.failed, WORDS)}"
    return found


def _rest_s(clock: Clock, seconds: float) -> float:
    return max(clock.scaled(seconds), min(seconds, LEAST_S))


def _key(row: MachineRow) -> Key:
    return row.provider, row.type_id, row.place, row.spot
