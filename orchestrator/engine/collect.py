"""The deliverables of a phase: each a question to the machine, the stores or the files that were pulled home."""

from __future__ import annotations

from collections.abc import Sized
from decimal import Decimal
from pathlib import Path
from typing import Any

from orchestrator.engine import hub_check
from orchestrator.engine.context import Context
from orchestrator.engine.effects import Answer, ManifestFile
from orchestrator.engine.jobs import StepLog
from orchestrator.ledger import tables
from orchestrator.plan.globs import matches
from orchestrator.transport.agent import Agent
from orchestrator.words.errors import GpuplanError, Interrupted, OverBudget, StepFailed
from orchestrator.words.lifecycle import StepState
from orchestrator.words.model import Deliverable, HubCheckout, Phase

GOOD = (StepState.DONE, StepState.UP_TO_DATE, StepState.READY)


class Deliverables:
    """Judges the deliverables of one phase on its root machine."""

    def __init__(self, context: Context, phase: Phase, agent: Agent, workspace: str) -> None:
        self._context, self._phase = context, phase
        self._agent, self._workspace = agent, workspace
        self._files: list[ManifestFile] = []
        self._home = Path()

    def judge(self, files: list[ManifestFile], home: Path) -> list[Answer]:
        """Answer every question. `files`: the manifest of what was uploaded and pulled to `home`."""
        self._files, self._home = files, home
        answers = []
        for position, wanted in enumerate(self._phase.deliverables):
            try:
                ok, detail = True, self._answer(wanted)
            except (Interrupted, OverBudget):
                raise
            except GpuplanError as error:
                ok, detail = False, error.message
            row = Answer(wanted.name, ok, detail)
            self._context.ledger.put(
                tables.deliverables, run=self._context.run, phase=self._phase.name, name=wanted.name,
                position=position, ok=int(ok), detail=detail,
            )  # fmt: skip
            answers.append(row)
        return answers

    def _answer(self, wanted: Deliverable) -> str:
        """How the question was answered; StepFailed: what does not hold."""
        if wanted.machine:
            return f"agent answers in {self._agent.workspace}"
        if wanted.file:
            return self._file(wanted.file, wanted.min_bytes or 0)
        if wanted.same:
            return self._same(wanted.same)
        if wanted.checkpoint:
            return hub_check.checkpoint(
                self._context, self._agent, self._workspace, wanted.checkpoint, self._repo(wanted.checkpoint)
            )
        if wanted.metric:
            return self._metric(wanted)
        if wanted.step:
            return self._step(wanted.step, wanted.stdout)
        if wanted.uploaded:
            return self._uploaded(wanted.uploaded)
        return self._pulled(wanted.pulled or "**")

    def _file(self, pattern: str, least: int) -> str:
        found = self._agent.files(self._workspace, [pattern], sha256=False)
        if not found:
            raise StepFailed(f"no file matches {pattern}")
        small = [f for f in found if f.bytes < least]
        if small:
            raise StepFailed(f"{small[0].path} has {small[0].bytes:,} bytes, at least {least:,} are wanted")
        return ", ".join(f"{f.path} ({f.bytes:,} bytes)" for f in found[:3])

    def _same(self, paths: tuple[str, ...]) -> str:
        found = {f.path: f.sha256 for f in self._agent.files(self._workspace, list(paths), sha256=True)}
        for path in paths:
            if path not in found:
                raise StepFailed(f"{path} is not there")
        if len(set(found.values())) > 1:
            raise StepFailed("their sha256 differ: " + ", ".join(f"{p} {str(s)[:12]}" for p, s in found.items()))
        return f"sha256 {str(found[paths[0]])[:12]}… for all {len(paths)}"

    def _repo(self, folder: str) -> HubCheckout | None:
        checkouts = [s.hub for p in self._context.spec.plan.phases for s in p.steps if s.hub]
        return next((c for c in checkouts if c.dir == folder), None)

    def _rows(self, step: str) -> dict[str, Any]:
        rows = self._context.ledger.all(tables.steps, run=self._context.run, phase=self._phase.name)
        name = step if "/" in step else f"{self._phase.name}/{step}"
        found = next((r for r in rows if r["id"] == name), None)
        if found is None:
            raise StepFailed(f"{name} did not run in this phase")
        return dict(found)

    def _step(self, step: str, text: str | None) -> str:
        row = self._rows(step)
        if row["state"] not in GOOD:
            raise StepFailed(f"{row['id']} is {str(row['state']).lower()}")
        if text is None:
            return f"{row['id']} {str(row['state']).lower().replace('_', ' ')}"
        log = self._log(step)
        line = next((li for li in log.splitlines() if text in li), None)
        if line is None:
            raise StepFailed(f"the output of {row['id']} does not hold {text!r}; its last line: {log.strip()[-120:]!r}")
        return line.strip()[:160]

    def _log(self, step: str) -> str:
        """What the step's last attempt printed, on each of its nodes; what failed attempts said proves nothing."""
        phase = self._phase.name
        run = step if "/" in step else f"{phase}/{step}"
        nodes = [StepLog(self._context, phase, run, node) for node in range(self._phase.machine.nodes)]
        return "\n".join(log.since_restart() for log in nodes if log.path.exists())

    def _metric(self, wanted: Deliverable) -> str:
        row = self._rows(wanted.step or "")
        metric = self._context.ledger.maybe(
            tables.metrics, run=self._context.run, step=row["id"], name=wanted.metric or ""
        )
        if metric is None:
            raise StepFailed(f"{row['id']} measured no {wanted.metric}")
        value = Decimal(str(metric["value"]))
        said = f"{wanted.metric} = {value:.4g} on {metric['measured_on']}"
        if wanted.min is not None and value < wanted.min:
            raise StepFailed(f"{said}: at least {wanted.min} is wanted")
        if wanted.max is not None and value > wanted.max:
            raise StepFailed(f"{said}: at most {wanted.max} is wanted")
        return said

    def _uploaded(self, pattern: str) -> str:
        wanted = [f for f in self._files if matches(f.name, pattern)]
        if not wanted:
            raise StepFailed(f"no artifact matches {pattern}")
        if not self._context.stores:
            raise StepFailed("no store is configured (stores: in the configuration, or --store)")
        for store in self._context.stores:
            rows = {
                r["name"]: r for r in self._context.ledger.all(tables.artifacts, run=self._context.run, store=store.url)
            }
            bad = [f.name for f in wanted if rows.get(f.name, {"state": ""})["state"] != "VERIFIED"]
            if bad:
                raise StepFailed(f"{bad[0]} is not verified in {store.url}")
        total = sum(f.bytes for f in wanted)
        return f"{_files(wanted)}, {total:,} bytes verified in {', '.join(s.url for s in self._context.stores)}"

    def _pulled(self, pattern: str) -> str:
        wanted = [f for f in self._files if matches(f.name, pattern)]
        if not wanted:
            raise StepFailed(f"no artifact matches {pattern}")
        for file in wanted:
            path = self._home / file.name
            if not path.exists() or path.stat().st_size != file.bytes:
                raise StepFailed(f"{file.name} is not whole in {self._home}")
        return f"{_files(wanted)} in {self._home}"


def _files(found: Sized) -> str:
    return "1 file" if len(found) == 1 else f"{len(found)} files"
