"""Whether a run ended for want of a machine alone: then it may be begun again elsewhere, or later."""

from __future__ import annotations

from orchestrator.engine import accounting
from orchestrator.ledger import Ledger
from orchestrator.words.lifecycle import Outcome
from orchestrator.words.spec import RunSpec

MOST_FAILED = 2  # machines that were paid for and did not come up, in a run and in those that it goes on with


def wants_machines(ledger: Ledger, spec: RunSpec) -> bool:
    """Whether what was asked for last was refused for want of machines, or did not come up, or nobody sold any.

    Not where the account or the request was refused, nor where two machines did not come up: whatever is wrong there
    is wrong elsewhere too; nor where a volume was refused, or phases are done of which no volume keeps what they did.
    """
    phases = ledger.phases.all(run=spec.run)
    ended = next((row for row in phases if row.outcome not in (None, Outcome.SUCCEEDED)), None)
    if ended is None or ended.outcome != Outcome.NO_MACHINE:
        return False
    if any(row.outcome == Outcome.SUCCEEDED for row in phases) and not accounting.living_volumes(ledger, spec):
        return False
    asked = [row for row in ledger.machines.all(run=spec.run) if row.phase == ended.name]
    if not asked:  # nobody sold any; or there was no volume to put it at
        return not any(row.state.is_final and not row.accepted_at for row in ledger.volumes.all(run=spec.run))
    last = max(asked, key=lambda row: row.requested_at or 0.0)
    return bool(last.failed) and (not last.provider_id or failed(ledger, spec) < MOST_FAILED)


def failed(ledger: Ledger, spec: RunSpec) -> int:
    """How many machines were paid for and did not come up, in this run and in those that it goes on from."""
    rows = ledger.machines.all(run=spec.run)
    return spec.failed_before + sum(bool(row.failed and row.provider_id) for row in rows)
