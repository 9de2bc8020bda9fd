"""Holds a coverage report (coverage json) to the floors: FILE. Exit code 1: one does not hold."""

from __future__ import annotations

import json
import sys
from pathlib import Path

FLOORS = {  # prefix of the file -> per cent of lines and branches, all its files together
    "orchestrator/engine/": 95,
    "orchestrator/plan/": 95,
    "orchestrator/config/": 95,
    "orchestrator/cost.py": 95,
    "orchestrator/words/lifecycle.py": 95,
    "orchestrator/": 85,
    "remote/": 85,
}


def share(files: dict[str, dict[str, dict[str, int]]], prefix: str) -> float:
    """Per cent of what can be covered below the prefix that is."""
    found = [f["summary"] for name, f in files.items() if name.startswith(prefix)]
    covered = sum(s["covered_lines"] + s.get("covered_branches", 0) for s in found)
    total = sum(s["num_statements"] + s.get("num_branches", 0) for s in found)
    return 100 * covered / total if total else 0.0


def main() -> int:
    """Print each floor and what stands on it."""
    files = json.loads(Path(sys.argv[1]).read_text())["files"]
    low = 0
    for prefix, floor in FLOORS.items():
        found = share(files, prefix)
        low += found < floor
        print(f"{'ok ' if found >= floor else 'LOW'} {prefix:34} {found:5.1f} %  (at least {floor})")
    return int(low > 0)


if __name__ == "__main__":
    sys.exit(main())
