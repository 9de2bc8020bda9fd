"""A plan whose step replaces the agent in the machine's home by a program of its own."""

from __future__ import annotations

import json
from pathlib import Path

PHASE = """\
name: only
machine: {{gpu: [RTX-4090]}}
timeout: 10m
secrets: [CANARY]
steps:
  - name: turn
    run: |
      cat > new.py <<'END'
      {program}
      END
      for agent in "$HOME"/.gpuplan/agent-*/__main__.py; do cp new.py "$agent"; done
      {then}
    timeout: 5m
    creates: [new.py]
"""


def plan(folder: Path, program: str, then: str = "echo turned", budget: str = "") -> Path:
    """A plan's folder. `program`: the agent's, Python; `then`: what the step does afterwards; `budget`: USD."""
    folder.mkdir()
    lines = program.strip().replace("\n", "\n      ")
    (folder / "only.yaml").write_text(
        PHASE.format(program=lines, then=then) + (f"budget_usd: {budget}\n" if budget else "")
    )
    return folder


def always(reply: object, every_s: float) -> str:
    """An agent that answers everything with the same line for ever."""
    return f"import time\nwhile True:\n    print({json.dumps(reply)!r}, flush=True)\n    time.sleep({every_s})"
