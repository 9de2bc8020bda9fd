"""Runs in memory that a report is written of."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from orchestrator.report.page import gather
from orchestrator.report.page.account import Account
from orchestrator.testing.machine import Script
from tests.unit.cli.desk import Desk

HOSTILE = "</script><img src=http://evil.test/x onerror=alert(1)>\x1b]0;title\x07\u202e|`a`_b_ @team #12 {{ 7*7 }}"
PLAN = """
settings: {budget_usd: 20, plan: toy}
prepare:
  volume: {name: data, size_gb: 10}
  planned: {hours: 3, usd: 2.5}
  steps:
    - {name: fetch, run: fetch, creates: [data.bin], gpu: false}
  deliverables:
    - {name: data there, file: data.bin, min_bytes: 1}
train:
  machine: {gpu: [RTX-4090]}
  volume: {name: data, size_gb: 10}
  planned: {hours: 10, usd: 7.4}
  steps:
    - {name: train, run: train, needs: [prepare/fetch], creates: [model.bin]}
    - {name: measure, run: measure, needs: [train]}
  deliverables:
    - {name: answers, step: measure, stdout: Paris}
    - {name: fast enough, metric: tokens_per_second, step: measure, min: 10}
  artifacts: [model.bin]
"""
SCRIPTS = {
    "fetch": Script(seconds=600, creates={"data.bin": "x" * 100}),
    "train": Script(
        seconds=3600,
        creates={"model.bin": "m" * 1000},
        peaks={"gpu_memory_percent": 71.5, "gpu_memory_mib": 17500.0, "gpu_utilisation": 98.0, "gpus_at_work": 1.0},
        cards=("NVIDIA GeForce RTX 4090",),
        course={
            "every_s": 40,
            "memory": [[71.5, 60.0]] * 45 + [None] * 2 + [[30.0, 20.0]] * 43,
            "busy": [[98, 91]] * 90,
        },
    ),
    "measure": Script(
        seconds=60,
        output="The capital of France is Paris.\n",
        metrics={"tokens_per_second": {"value": 52.5, "measured_on": "RTX 4090"}},
    ),
}


class Written:
    """A desk whose run has ended, and the account of it."""

    def __init__(self, folder: Path, **scripts: Script) -> None:
        self.desk = Desk(folder, PLAN, scripts=SCRIPTS | scripts, stores=1)
        self.end = self.desk.run("all", whole_plan=False)

    def account(self, **spec: Any) -> Account:
        """Of the run as it is in the ledger; `spec`: keys of it that are others."""
        found = self.desk.bench.spec.model_copy(update=spec)
        folder = self.desk.home.run_folder(found.run)
        return gather.account(self.desk.bench.ledger(), found, folder, driven=False)


class Elements(HTMLParser):
    """What a page is made of: elements with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def tags(self) -> set[str]:
        return {tag for tag, _ in self.found}
