"""What the shipped plan's steps do on a machine with GPUs, as the bench's scripts: the honest payload."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Mapping
from typing import Any

from orchestrator.testing.machine import Script
from orchestrator.transport import commands
from orchestrator.words.model import Plan, Step

A100, RTX4090 = "NVIDIA A100 80GB PCIe", "NVIDIA GeForce RTX 4090"
SHARD = "model-00001-of-00001.safetensors"
INDEX = json.dumps({"weight_map": {"w": SHARD}})
NAMES = {"*.safetensors": SHARD, "*.json": "model.safetensors.index.json"}  # what stands for a glob in `creates`
REPORT = re.compile(r"echo '?([0-9]+) measured figures")
LONG = "x" * 1_000_000


def on_card(card: str, **values: float) -> dict[str, Any]:
    """Figures of a program that computes on that card."""
    return {name: {"value": v, "measured_on": f"1x {card}", "device": card} for name, v in values.items()}


def on_cpu(**values: float) -> dict[str, Any]:
    """Figures of a program that computes on the processor."""
    return {name: {"value": v, "measured_on": "CPU (x)", "device": "cpu"} for name, v in values.items()}


def busy(cards: int = 1, percent: float = 72.0) -> dict[str, float]:
    """What the agent samples while that many cards compute."""
    return {"gpu_memory_percent": percent, "gpu_memory_mib": 60_000, "gpu_utilisation": 97, "gpus_at_work": cards}


def answers(text: str, *, cards: int = 1, **figures: float) -> Script:
    """A run of the model on the rented cards."""
    said = {"tokens_per_second": 25.0, "ranks": 1.0, "hosts": 1.0, "gpus_used": float(cards)} | figures
    return Script(output=f"{text}\n", metrics=on_card(A100, **said), peaks=busy(cards), cards=(A100,))


def converts(name: str, *, low_memory: bool = False) -> Script:
    """A conversion."""
    figures = on_cpu(bytes_read=2e11, bytes_written=6e10, seconds=600, peak_memory_mib=150 if low_memory else 900,
                     low_memory=float(low_memory))  # fmt: skip
    return Script(output=f"{name}.m created successfully\n", metrics=figures)


def verifies(name: str, folder: str) -> Script:
    """A verification."""
    says = f"architecture GLM4_MOE (0xABCD04)\n./converter/{name}.m is what ./{folder} converts to\n"
    return Script(output=says)


def serves(rank: float) -> Script:
    """A worker."""
    return Script(output="dialling\n", metrics=on_card(A100, rank=rank, tokens=40.0, passes=30.0), peaks=busy(),
                  cards=(A100,))  # fmt: skip


PROBE = on_card(RTX4090, torch_gflops=50_000, gpus_used=1)
STEPS: dict[str, Script] = {
    "day1/check-clone": Script(output="HEAD is 8d624a7\n"),
    "day1/check-imports": Script(
        output="torch 2.8.0 multiplies at 50,000 GFLOP/s\n", metrics=PROBE, peaks=busy(), cards=(RTX4090,)
    ),
    "day2-3/convert-glm": converts("glm4_5_air"),
    "day2-3/verify-glm": verifies("glm4_5_air", "GLM-4.5-Air-Base"),
    "day2-3/infer-glm-france": answers("The capital of France is Paris."),
    "day4-5/convert-intellect3": converts("intellect3"),
    "day4-5/convert-intellect3-low-memory": converts("intellect3_low_memory", low_memory=True),
    "day4-5/verify-intellect3": verifies("intellect3", "INTELLECT-3"),
    "day4-5/infer-intellect3": answers("AI means artificial intelligence."),
    "day6-7/infer-glm": answers("It uses qubits."),
    "day6-7/benchmark-glm": answers("{}"),
    "day6-7/benchmark-intellect3": answers("{}"),
    "day6-7/bench-glm": answers("{}"),
    "day6-7/bench-intellect3": answers("{}"),
    "day6-7/worker-node": serves(1),
    "day6-7/worker-9998": serves(1),
    "day6-7/worker-9999": serves(2),
    "day6-7/infer-multi-node": answers("It is artificial intelligence.", ranks=2, hosts=2),
    "day6-7/infer-single-node": answers("AI will help.", cards=2, ranks=3),
    "day6-7/test-script": answers("=== Tests 2 4 5 Passed! ==="),
    "day6-7/test-results": Script(output="passed: 1 2 3 4 5 \n=== All Tests Passed! ===\n"),
    "day6-7/verify-saved": Script(output="both are what they say, and neither is the other's\n"),
}


class Scripts(dict[str, Script]):
    """Scripts by command; a report's command is known by what it says of itself."""

    def get(self, command: str, default: Any = None) -> Any:
        """See dict."""
        if found := REPORT.search(command):
            return Script(output=f"{found[1]} measured figures\n", creates={"glm_results/GLM_IMPLEMENTATION.md": LONG})
        return super().get(command, default)


def scripts(plan: Plan, steps: Mapping[str, Script]) -> Scripts:
    """The scripts of these steps, and of the plan's others plain ones; each makes what its step says it creates."""
    found = Scripts()
    for phase in plan.phases:
        for step in phase.steps:
            command = commands.lay_code().text if step.builtin == "overlay" else step.run
            script = steps.get(f"{phase.name}/{step.name}") or found.get(command) or Script()  # two may do the same
            creates = _created(step) | dict(script.creates)
            found[command] = Script(**{f: getattr(script, f) for f in script.__slots__} | {"creates": creates})
    return found


def _created(step: Step) -> dict[str, str]:
    made = {}
    for glob in step.creates:
        head, tail = posixpath.split(glob)
        names = ["glm4_5_air", "intellect3", "benchmark"] if head == "glm_results" and tail.startswith("*.") else []
        for name in [f"{n}{tail[1:]}" for n in names] or [NAMES.get(tail, tail)]:
            path = posixpath.normpath(posixpath.join(step.cwd, head, name))
            made[path] = INDEX if name.endswith("index.json") else LONG
    if step.name == "save-results":
        made |= {f"glm_results/benchmark_{name}.json": LONG for name in ("glm4_5_air", "intellect3")}
    return made


def hub(plan: Plan) -> dict[str, dict[str, list[tuple[str, int, str | None]]]]:
    """What the hub lists of the plan's repositories, each at its one commit."""
    files: list[tuple[str, int, str | None]] = [
        (SHARD, len(LONG), hashlib.sha256(LONG.encode()).hexdigest()),
        (NAMES["*.json"], len(INDEX), None),
    ]
    return {s.hub.repo: {"c1": files} for p in plan.phases for s in p.steps if s.hub}
