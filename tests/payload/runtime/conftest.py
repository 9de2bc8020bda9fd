"""Puts the payload on the path, as its own scripts do, and keeps torch to one thread."""

import os
import sys
from pathlib import Path

PAYLOAD = Path(__file__).resolve().parents[3] / "remote" / "distributed-llama"
sys.path.insert(0, str(PAYLOAD))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
