"""What gpuplan knows for certain: intents before calls, ids after them, states, charges, results."""

from orchestrator.ledger.store import Ledger, is_busy, open_ledger

__all__ = ["Ledger", "is_busy", "open_ledger"]
