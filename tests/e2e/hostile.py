"""A plan whose step replaces the agent in its machine's home by a program of its own."""

from __future__ import annotations

from pathlib import Path

PHASE = """\
name: only
machine: {{gpu: [RTX-4090], nodes: {nodes}}}
volume: {{name: hostile, size_gb: 10}}
timeout: 10m
budget_usd: {budget}
secrets: [CANARY]
steps:
  - name: turn
    run: |
      cat > new.py <<'END'
      {program}
      END
      for agent in "$HOME"/.gpuplan/agent-*/__main__.py; do cp new.py "$agent"; done
      for p in /proc/[0-9]*; do
        if tr '\\0' ' ' < "$p/cmdline" 2>/dev/null | grep -q "$HOME/.gpuplan/agent-.* standing"; then
          kill "${{p#/proc/}}" || true  # the one that stands is honest: the next is not
        fi
      done
      {then}
    expect: 0.001s
    timeout: 5m
    creates: [new.py]
"""
BESIDE = "  - {name: beside, run: sleep 300, on: workers, expect: 0.001s}\n"
EMPTY_FOR_EVER = 'import time\nwhile True:\n    print("{}", flush=True)\n    time.sleep(2)\n'


def plan(folder: Path, program: str, then: str, *, nodes: int = 1, budget: str = "5") -> Path:
    """A plan's folder. `program`: the new agent's, Python; `then`: what the step goes on with; `budget`: USD."""
    folder.mkdir()
    (folder / "gpuplan.yaml").write_text("boot_seconds: 0.001\n")
    lines = program.strip().replace("\n", "\n      ")
    text = PHASE.format(program=lines, then=then, nodes=nodes, budget=budget)
    (folder / "only.yaml").write_text(text + (BESIDE if nodes > 1 else ""))  # a node that no step needs is not rented
    return folder
