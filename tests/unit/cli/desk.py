"""Proposals in memory: the preview's own code over the bench's clouds, and runs that leave what they leave."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import yaml

from orchestrator.cli.proposal import Proposal, propose
from orchestrator.config import load_plan
from orchestrator.engine.context import no_source
from orchestrator.engine.effects import RunEnd
from orchestrator.providers import open_provider
from orchestrator.testing.bench import OWNER, Bench
from orchestrator.testing.bench import World as BenchWorld
from orchestrator.transport.code import Code
from orchestrator.words.provider import Provider
from orchestrator.words.secret import Secret
from orchestrator.words.spec import RunSpec
from orchestrator.world.home import Home
from orchestrator.world.world import World


class Desk:
    """A home with a plan, on clouds in memory. Each `run` is a run of its own, from proposal to end."""

    def __init__(self, folder: Path, text: str, **world: Any) -> None:
        """`text`: phases by name, as YAML; `settings` among them is what gpuplan.yaml says."""
        self.folder, self._number = folder, 0
        (folder / "home").mkdir(parents=True)
        self.write(text)
        plan = load_plan(folder / "plan", environ={})
        self.bench = Bench(plan, (), BenchWorld(**world), folder / "home")
        self.home = Home(folder / "home")
        self.providers: dict[str, Provider] = {}

    def write(self, text: str) -> None:
        """Write the plan anew."""
        said = yaml.safe_load(textwrap.dedent(text))
        (self.folder / "plan" / "phases").mkdir(parents=True, exist_ok=True)
        settings = {"plan": "desk", "boot_seconds": 3600, **said.pop("settings", {})}
        (self.folder / "plan" / "gpuplan.yaml").write_text(yaml.safe_dump(settings))
        for number, (name, body) in enumerate(said.items()):
            file = self.folder / "plan" / "phases" / f"{number}-{name}.yaml"
            file.write_text(yaml.safe_dump({"name": name, **body}, sort_keys=False))

    def propose(self, *asked: str, check: bool = False, only: bool = False, **flags: Any) -> Proposal:
        """What `gpuplan run ASKED` would show."""
        return propose(self._world(), self._draft(asked, flags), Code(self.folder / "no-code"), only=only, check=check)

    def run(self, *asked: str, check: bool = False, **flags: Any) -> RunEnd:
        """`gpuplan run ASKED --yes`."""
        proposal = self.propose(*asked, check=check, **flags)
        assert not proposal.up_to_date
        self.bench.spec = proposal.spec
        self.home.run_folder(proposal.spec.run).mkdir(parents=True, exist_ok=True)
        proposal.spec.save(self.home.run_folder(proposal.spec.run))
        return self.bench.controller().run()

    def _draft(self, asked: tuple[str, ...], flags: dict[str, Any]) -> RunSpec:
        self._number += 1
        plan = load_plan(self.folder / "plan", environ={})
        names = [p.name for p in plan.phases if p.name in asked or "all" in asked]
        world = self.bench.spec.world.model_copy(update={"provider": flags.pop("provider", "")})
        draft = {
            "run": f"1102-tes{self._number}",
            "plan": plan,
            "asked": tuple(names),
            "whole_plan": len(names) == len(plan.phases),
            "place": self.bench.world.place,
            "world": world,
            "created_at": self.bench.clock.now().timestamp(),
            **flags,
        }
        return self.bench.spec.model_copy(update=draft)

    def _world(self) -> World:
        return World(
            home=self.home,
            ledger=self.bench.ledger(),
            clock=cast("Any", self.bench.clock),
            provider=self._provider,
            source=no_source,
            store=lambda url: next(s for s in self.bench.stores if s.url == url),
            secret=lambda name: Secret(f"a-{name}"),
            public_key="k",
            key_file=Path("/nowhere"),
        )

    def _provider(self, name: str) -> Provider:
        if name in self.providers:
            return self.providers[name]
        return open_provider(name, replace(self.bench.clouds.access(name, public_key="k", owner=OWNER)))
