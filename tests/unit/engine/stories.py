"""The stories of tests/unit/engine/stories/*.yaml: a plan, a world, and how it must end, as data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from orchestrator.config import load_plan
from orchestrator.engine.effects import RunEnd
from orchestrator.testing.audit import unsafe
from orchestrator.testing.bench import Bench, World
from orchestrator.testing.machine import Script
from orchestrator.words.model import Plan

__all__ = ["FOLDER", "NAMES", "Story", "golden", "unsafe"]
FOLDER = Path(__file__).with_name("stories")
NAMES = sorted(file.stem for file in FOLDER.glob("*.yaml"))


@dataclass(frozen=True)
class Story:
    """One file. `earlier`: phases that an earlier run of the same plan has done."""

    name: str
    plan: Plan
    asked: tuple[str, ...]
    earlier: tuple[str, ...]
    world: World
    ends: dict[str, Any]

    @classmethod
    def load(cls, name: str, folder: Path) -> Story:
        """Read it; its plan is written to `folder` and read as a user's is."""
        said = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
        (folder / "phases").mkdir(parents=True)
        for number, (phase, body) in enumerate(said["phases"].items()):
            text = yaml.safe_dump({"name": phase, **body}, sort_keys=False)
            (folder / "phases" / f"{number}-{phase}.yaml").write_text(text)
        (folder / "gpuplan.yaml").write_text(yaml.safe_dump({"plan": "bench", **said.get("settings", {})}))
        scripts = {command: _script(body) for command, body in said.get("scripts", {}).items()}
        world: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in said.get("world", {}).items()
        }
        plan = load_plan(folder, environ={})
        asked = tuple(said.get("asked", said["phases"]))
        return cls(name, plan, asked, tuple(said.get("earlier", ())), World(**world, scripts=scripts), said["ends"])

    def bench(self, folder: Path, seed: int = 0) -> Bench:
        """A new world in which what came earlier is done."""
        bench = Bench(self.plan, self.asked, self.world, folder, seed)
        if self.earlier:
            bench.live_earlier(self.earlier)
        return bench

    def wrong(self, bench: Bench, end: RunEnd) -> list[str]:
        """What does not hold at the end of a run that nobody disturbed, or that was gone on with."""
        held = {
            "outcome": str(end.outcome),
            "creates": len(bench.creates()),
            "runs": dict(bench.runs()),
            "volumes": len(bench.clouds.volumes_left()),
        }
        found = [f"{key} is {held[key]}, not {wanted}" for key, wanted in self.ends.items() if held[key] != wanted]
        return found + [f"left: {left}" for left in end.left] + unsafe(bench)


def _script(body: dict[str, Any]) -> Script:
    said: dict[str, Any] = {key: tuple(value) if key == "exits" else value for key, value in (body or {}).items()}
    return Script(**said)


def golden() -> dict[str, Any]:
    """The effects of every story, as they were agreed on."""
    file = FOLDER.with_name("effects.json")
    return dict(json.loads(file.read_text())) if file.exists() else {}
