"""One phase of steps on this computer: the real ledger, the real agent and its jobs; only SSH and the cloud are not."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from orchestrator.engine.board import Boards
from orchestrator.engine.context import Agents, Context
from orchestrator.engine.control import Control
from orchestrator.engine.machines import Machines
from orchestrator.engine.steps import Steps
from orchestrator.ledger import open_ledger
from orchestrator.ledger.rows import ChargeRow, MachineRow, StepRow
from orchestrator.transport.agent import Agent
from orchestrator.words.lifecycle import MachineState, StepState
from orchestrator.words.model import Phase, Plan, Step
from orchestrator.words.spec import RunSpec, WorldSpec
from orchestrator.words.transport import CommandResult
from orchestrator.world.clock import SystemClock

RUN, PHASE, MACHINE = "1128-abcd", "only", "gpuplan-o-1128-abcd-only-1-t1"


class Here:
    """`Transport` without a network: commands run on this computer, in a home of their own."""

    def __init__(self, home: Path) -> None:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._env = {"HOME": str(home), "PATH": path, "WORKSPACE": str(home / "workspace")}

    def run(self, command: str, *, stdin: bytes = b"", timeout_s: float = 60.0) -> CommandResult:
        done = subprocess.run(["bash", "-c", command], input=stdin, capture_output=True, env=self._env, check=False)
        return CommandResult(done.returncode, done.stdout, done.stderr)

    def stream(
        self,
        command: str,
        on_line: Callable[[bytes], None],
        *,
        stdin: bytes = b"",
        silence_s: float = 60.0,
        timeout_s: float = 60.0,
        most_bytes: float = 1e9,
        stop: Callable[[], bool] = lambda: False,
    ) -> int:
        words, pipe = ["bash", "-c", command], subprocess.PIPE
        with subprocess.Popen(words, env=self._env, bufsize=0, stdin=pipe, stdout=pipe) as process:
            assert process.stdout
            with contextlib.suppress(BrokenPipeError):  # no agent there yet: nobody reads
                process.stdin.write(stdin)
                process.stdin.close()
            while not stop():
                if select.select([process.stdout], [], [], 0.02)[0]:
                    line = process.stdout.readline()
                    if not line:
                        return process.wait()
                    on_line(line)
            process.kill()
        return -1

    def send(self, command: str, chunks: Iterable[bytes], *, timeout_s: float = 3600.0) -> CommandResult:
        return self.run(command, stdin=b"".join(chunks))

    def fetch(self, path: str, offset: int = 0) -> Iterator[bytes]:
        yield Path(path).read_bytes()[offset:]

    def close(self) -> None:
        pass


class There(Machines):
    """The machine is there, and stays."""

    def lost(self, name: str) -> str:
        return ""

    def distrust(self, name: str, reason: str) -> None:
        raise AssertionError(reason)


def always(agent: Any) -> Agents:
    """Every machine's agent is that one: no connection is ever closed, and no lease renewed."""
    return cast("Agents", lambda _machine: agent)


class Straight:
    """`Recorder` that keeps the names of what it is asked for, and does it."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def record(self, name: str, body: Callable[[], Any], kind: Any) -> Any:
        self.names.append(name)
        return body()

    def branch(self, kind: str, *arguments: str, id: str) -> Any:  # noqa: A002
        raise AssertionError("nothing of it is asked here")


class Bench:
    """A phase of those steps, on one machine that was reached."""

    def __init__(self, folder: Path, *steps: Step, **phase: Any) -> None:
        clock = SystemClock()
        self.home = folder / "machine"
        self.workspace = self.home / "workspace"
        self.workspace.mkdir(parents=True, exist_ok=True)
        plan = Plan(name="p", phases=(Phase(name=PHASE, steps=steps or (Step(name="none", run="true"),), **phase),))
        spec = RunSpec(
            run=RUN, owner="o", plan=plan, asked=(PHASE,), whole_plan=True, world=WorldSpec(provider="none"),
            place=None, pull_root=str(folder), created_at=1.0,
        )  # fmt: skip
        self.ledger = open_ledger(folder / "home")
        (folder / "home" / "runs" / RUN).mkdir(parents=True, exist_ok=True)
        agent = Agent(Here(self.home), workspace=str(self.workspace))
        self.context = Context(
            spec=spec, folder=folder / "home" / "runs" / RUN, ledger=self.ledger, clock=clock, control=Control(clock),
            provider=SimpleNamespace(name="none", shows_gpu=False, rented=True, disk_share=1.0),
            agents=always(agent), code=SimpleNamespace(hash="", files={}),
            hub=SimpleNamespace(listing=lambda repo, revision: []), stores=[], public_key="", secrets={},
        )  # fmt: skip
        for number, step in enumerate(steps):
            row = StepRow(run=RUN, phase=PHASE, id=f"{PHASE}/{step.name}", position=number, state=StepState.PENDING)
            self.ledger.steps.put(row)
        self.ledger.machines.put(
            MachineRow(
                name=MACHINE, run=RUN, phase=PHASE, request="1.0.0", node=0, provider="none", type_id="t", gpu="",
                gpus=0, place="", price_hour=Decimal(1), state=MachineState.REACHABLE, reachable_at=1.0,
            )
        )  # fmt: skip
        self.ledger.charges.put(ChargeRow(machine=MACHINE, run=RUN, phase=PHASE, since=1.0))
        self.agent, self.steps, self.recorder = (
            agent,
            Steps(self.context, There(self.context), Boards(self.context)),
            Straight(),
        )

    def run(self, step: str, attempt: int = 1) -> Any:
        """Bring a step to its end."""
        return self.steps.run(self.recorder, PHASE, f"{PHASE}/{step}", attempt)

    def stop_service(self, step: str) -> Any:
        """The end of a service."""
        return self.steps.stop_service(self.recorder, PHASE, f"{PHASE}/{step}", 1)

    def row(self, step: str) -> StepRow:
        """What the ledger says of it."""
        return self.ledger.steps.get(run=RUN, phase=PHASE, id=f"{PHASE}/{step}")

    def said(self) -> list[str]:
        """The run's events."""
        return [event.text for event in self.ledger.events.all(run=RUN)]
