"""What gpuplan knows for certain: intents before calls, ids after them, states, charges, results."""

from orchestrator.ledger.database import DatabaseFailed, is_busy
from orchestrator.ledger.store import Ledger, open_ledger

__all__ = ["DatabaseFailed", "Ledger", "is_busy", "open_ledger"]
