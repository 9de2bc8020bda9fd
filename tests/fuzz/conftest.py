"""Puts the payload on the path, as its own scripts do."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "remote" / "distributed-llama"))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
