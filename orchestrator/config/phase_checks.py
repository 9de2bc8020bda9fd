"""What must hold inside one phase file, beyond the types of its values."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from orchestrator.config import inputs, words
from orchestrator.config.problems import KeyPath, nearest
from orchestrator.config.validate import Source
from orchestrator.plan.globs import may_meet
from orchestrator.words.model import GPU_MEMORY_GB, Deliverable, Phase, Rates, RunsOn, Step

QUESTIONS = ("machine", "file", "same", "checkpoint", "step", "pulled", "uploaded")
SSH_PORT = "22/tcp"


def check_phase(phase: Phase, source: Source) -> None:
    """Note everything that is wrong in this file on its own."""
    checks = _PhaseChecks(phase, source)
    checks.machine()
    checks.paths()
    checks.steps()
    checks.deliverables()
    inputs.check(phase, source)


class _PhaseChecks:
    def __init__(self, phase: Phase, source: Source) -> None:
        self.phase = phase
        self.source = source
        self.wrong = source.wrong
        self.names = [step.name for step in phase.steps]

    def each(self, path: KeyPath, texts: Iterable[str], check: words.Check) -> None:
        for index, text in enumerate(texts):
            if message := check(text):
                self.wrong((*path, index), message)

    def one(self, path: KeyPath, text: str | None, check: words.Check) -> None:
        if text is not None and (message := check(text)):
            self.wrong(path, message)

    def unique(self, key: str, names: list[str]) -> None:
        first: dict[str, int] = {}
        for index, name in enumerate(names):
            earlier = first.setdefault(name.lower(), index)
            if earlier != index:
                line = self.source.place(key, earlier, "name").line
                self.wrong((key, index, "name"), f"{name} is there twice, first on line {line}", "rename one")

    def machine(self) -> None:
        need = self.phase.machine
        for index, gpu in enumerate(need.gpu):
            if gpu not in GPU_MEMORY_GB:
                self.wrong(("machine", "gpu", index), f"unknown GPU {gpu}", nearest(gpu, GPU_MEMORY_GB))
        if need.gpu and need.count == 0:
            self.wrong(("machine", "count"), "a machine with GPUs needs a count of 1 or more")
        self.each(("machine", "ports"), need.ports, words.port)
        if SSH_PORT not in need.ports:
            self.wrong(("machine", "ports"), f"{SSH_PORT} is missing: gpuplan reaches the machine over SSH")
        if need.reuse == self.phase.name:
            self.wrong(("machine", "reuse"), "a phase cannot reuse its own machine")

    def paths(self) -> None:
        phase = self.phase
        self.one(("name",), phase.name, words.phase_name)
        self.each(("artifacts",), phase.artifacts, words.below)
        self.packs()
        self.each(("secrets",), phase.secrets, words.secret_name)
        self.one(("pull_to",), phase.pull_to, words.below)
        if phase.volume:
            self.one(("volume", "name"), phase.volume.name, words.volume_name)
        for name in phase.env:
            self.one(("env", name), name, words.set_name)
            if name in phase.secrets:
                self.wrong(("env", name), f"{name} is a secret too", "leave it to `secrets`: env is shown and logged")
        if not phase.steps:
            self.wrong(("steps",), "a phase needs at least one step")

    def packs(self) -> None:
        """Each a folder of its own, in which artifacts may be."""
        for folder in self.phase.pack:
            at = ("pack", folder)
            clean = posixpath.normpath(folder)
            within = next((other for other in self.phase.pack if clean.startswith(f"{other}/")), "")
            if message := words.below(folder):
                self.wrong(at, message)
            elif clean == "." or any(character in folder for character in "*?["):
                self.wrong(at, f"{folder!r} is no folder below the workspace", "name one, as data/frames")
            elif clean != folder:
                self.wrong(at, f"{folder} is written with more than its names", f"write it as {clean}")
            elif within:
                self.wrong(at, f"{folder} is packed with {within} already", "leave one of them out")
            elif not any(may_meet(glob, f"{folder}/") for glob in self.phase.artifacts):
                self.wrong(at, f"no artifact can be in {folder}", f"name it among the artifacts: {folder}/**")

    def steps(self) -> None:
        self.unique("steps", self.names)
        for index, step in enumerate(self.phase.steps):
            at: KeyPath = ("steps", index)
            self.one((*at, "name"), step.name, words.step_name)
            self.one((*at, "cwd"), step.cwd, words.below)
            self.each((*at, "creates"), step.creates, words.below)
            self.each((*at, "uses"), step.uses, words.below)
            self.each((*at, "secrets"), step.secrets, words.secret_name)
            for name in step.env:
                self.one((*at, "env", name), name, words.set_name)
                if name in (*step.secrets, *self.phase.secrets):
                    self.wrong((*at, "env", name), f"{name} is a secret too", "env is shown and logged: leave it out")
            if step.hub:
                self.one((*at, "hub", "dir"), step.hub.dir, words.below)
                self.each((*at, "hub", "include"), step.hub.include, words.below)
                self.each((*at, "hub", "exclude"), step.hub.exclude, words.below)
            if step.rate not in Rates.model_fields:
                self.wrong((*at, "rate"), f"unknown rate {step.rate}", nearest(step.rate, Rates.model_fields))
            self.kind(at, step)
            self.service(at, step)
            self.nodes(at, step)

    def kind(self, at: KeyPath, step: Step) -> None:
        if bool(step.run) == bool(step.builtin):
            self.wrong(at, f"{step.name} needs exactly one of run and builtin")
        for key in ("run", "on_oom"):
            if len((getattr(step, key) or "").encode()) > words.LONGEST_COMMAND:
                self.wrong((*at, key), f"{key} is longer than {words.LONGEST_COMMAND:,} bytes", "put it into a script")
        if step.on_oom and not step.run:
            self.wrong((*at, "on_oom"), "on_oom replaces run, and there is none")
        if step.text and step.builtin != "report":
            self.wrong((*at, "text"), "text is for a step with builtin: report")
        if step.builtin == "report" and len(step.creates) != 1:
            self.wrong(at, f"{step.name} writes one file: name it in creates")

    def service(self, at: KeyPath, step: Step) -> None:
        if step.ready is None:
            return
        if (step.ready.log is None) == (step.ready.port is None):
            self.wrong((*at, "ready"), "ready asks for exactly one of log and port")
        if step.builtin or step.creates or step.hub:
            self.wrong(at, f"{step.name} is a service: it runs a command and creates nothing")
        if not any(step.name in other.needs for other in self.phase.steps):
            self.wrong(at, f"no step needs the service {step.name}", "name it in the needs of a step, or remove it")

    def nodes(self, at: KeyPath, step: Step) -> None:
        if step.on is RunsOn.WORKERS and self.phase.machine.nodes == 1:
            self.wrong((*at, "on"), "this phase has one node and so no workers", "set machine.nodes to 2 or more")
        if step.on is not RunsOn.ROOT and (step.creates or step.hub or step.builtin):
            self.wrong((*at, "on"), f"{step.name} writes to the volume: one node writes, the root")

    def deliverables(self) -> None:
        self.unique("deliverables", [deliverable.name for deliverable in self.phase.deliverables])
        for index, deliverable in enumerate(self.phase.deliverables):
            at: KeyPath = ("deliverables", index)
            asked = [key for key in QUESTIONS if getattr(deliverable, key)]
            if len(asked) != 1:
                found = f"has {' and '.join(asked)}" if asked else "has none"
                self.wrong(at, f"a deliverable asks exactly one question, this one {found}", _questions())
            self.companions(at, deliverable)
            for key in ("file", "checkpoint", "pulled", "uploaded"):
                self.one((*at, key), getattr(deliverable, key), words.below)
            self.each((*at, "same"), deliverable.same, words.below)
            self.asked_of(at, deliverable)

    def companions(self, at: KeyPath, deliverable: Deliverable) -> None:
        """Keys that only make sense beside another."""
        given = deliverable.model_dump(exclude_none=True)
        pairs = (
            ("stdout", "step"), ("matches", "step"), ("metric", "step"), ("min", "metric"), ("max", "metric"),
            ("device", "metric"), ("min_bytes", "file"),
        )  # fmt: skip
        for key, other in pairs:
            if key in given and other not in given:
                self.wrong((*at, key), f"{key} goes with {other}, which is missing")
        if deliverable.metric and deliverable.min is None and deliverable.max is None:
            self.wrong((*at, "metric"), "a metric needs min or max")
        asked = [key for key in ("metric", "stdout", "matches") if key in given]
        if len(asked) > 1:
            self.wrong(
                at, f"a deliverable asks for one of metric, stdout and matches, this one for {' and '.join(asked)}"
            )
        if deliverable.matches is not None:
            self.one((*at, "matches"), deliverable.matches, words.expression)
        if len(deliverable.same) == 1:
            self.wrong((*at, "same"), "same compares two files or more")

    def asked_of(self, at: KeyPath, deliverable: Deliverable) -> None:
        """That what is asked can be answered by this phase."""
        if deliverable.step is not None and deliverable.step not in self.names:
            message = f"this phase has no step {deliverable.step}"
            self.wrong((*at, "step"), message, nearest(deliverable.step, self.names))
        if deliverable.pulled and not self.phase.pull_to:
            self.wrong((*at, "pulled"), "nothing is pulled: the phase has no pull_to")
        if (deliverable.pulled or deliverable.uploaded) and not self.phase.artifacts:
            self.wrong(at, "nothing is saved: the phase has no artifacts")
        for key in ("pulled", "uploaded"):
            glob = getattr(deliverable, key)
            saved = (*self.phase.artifacts, *(f"{folder}.tar" for folder in self.phase.pack))
            if glob and self.phase.artifacts and not any(may_meet(glob, other) for other in saved):
                self.wrong((*at, key), f"no artifact can match {glob}", f"saved are: {', '.join(self.phase.artifacts)}")


def _questions() -> str:
    return f"ask one of: {', '.join(QUESTIONS)}"
