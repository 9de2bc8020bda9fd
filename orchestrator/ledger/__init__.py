"""What gpuplan knows for certain: intents before calls, ids after them, states, charges, results."""

from orchestrator.ledger.store import Ledger, Row, open_ledger

__all__ = ["Ledger", "Row", "open_ledger"]
