"""Puts the payload on the path, as its own scripts do."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "remote" / "distributed-llama"))
