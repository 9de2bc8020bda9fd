"""A deliverable that a machine cannot show: nobody's failure in a rehearsal, and an error of ours outside one."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.tool import Tool

PHASE = """
name: one
machine: {gpu: [RTX-4090], staging: none}
timeout: 5m
steps:
  - name: bench
    run: >-
      echo '{"name": "rate", "value": 42, "measured_on": "a CPU", "device": "cpu"}' >> "$GPUPLAN_METRICS"
    timeout: 1m
deliverables:
  - {name: it was measured, step: bench, metric: rate, min: 1}
  - {name: fast on a card, step: bench, metric: rate, device: gpu, min: 1}
"""
# The same machines, which show no GPU, in a run that nobody called a rehearsal.
FOR_REAL = """
from orchestrator import runner
whole = runner.drive
def drive(world, spec, *given, **named):
    spec = spec.model_copy(update={"world": spec.world.model_copy(update={"dry_run": False})})
    return whole(world, spec, *given, **named)
runner.drive = drive
"""


def test_what_a_machine_cannot_show_is_exit_3_outside_a_rehearsal(tool: Tool, tmp_path: Path):
    """An open answer: exit code 0 and null in a rehearsal; in any other run the same null is exit code 3."""
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "one.yaml").write_text(PHASE)
    words = ("run", "all", "--plan", str(tmp_path / "plan"), "--dry-run", "--yes")
    for changed, code in (("", 0), (FOR_REAL, 3)):
        done = tool.run(*words, changed=changed, timeout=200)
        assert done.returncode == code, done.stdout + done.stderr
        (phase,) = (document := tool.status())["phases"]
        assert [(d["ok"], d["name"]) for d in phase["deliverables"]] == [
            (True, "it was measured"),
            (None, "fast on a card"),
        ]
        assert (document["outcome"], document["exit"], document["dry_run"]) == ("succeeded", code, not changed)
