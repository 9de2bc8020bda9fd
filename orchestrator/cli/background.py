"""A run that goes on without the terminal it was begun at."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from orchestrator.cli.common import print_json
from orchestrator.report.console import say
from orchestrator.words.errors import GpuplanError

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.ledger import Ledger
    from orchestrator.words.spec import RunSpec
    from orchestrator.world.home import Home

PROGRAM = "from orchestrator.cli import main; main()"
BEGINS_WITHIN_S = 60.0


def detach(home: Home, ledger: Ledger, spec: RunSpec, *, json: bool, events: Path | None = None) -> None:
    """Have a process of its own drive the run, and return once it does. GpuplanError: it ended before."""
    said = home.run_folder(spec.run) / "console.log"
    words = [sys.executable, "-P", "-c", PROGRAM, "resume", spec.run, "--yes"]
    words += ["--json-events", str(events.absolute())] if events else []
    with said.open("a") as out:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    give_up = time.monotonic() + BEGINS_WITHIN_S
    while not ledger.runs.maybe(id=spec.run, pid=process.pid):
        if process.poll() is not None or time.monotonic() > give_up:
            process.terminate()
            raise GpuplanError(
                f"{spec.run} did not begin in the background:\n{said.read_text(errors='replace')[-2000:]}",
                remedy=f"gpuplan resume {spec.run} drives it from here",
            )
        time.sleep(0.1)
    if json:
        print_json({"run": spec.run, "pid": process.pid, "output": str(said)})
        return
    say(f"{spec.run} goes on in the background; what it prints: {said}")
    say(f"gpuplan status --watch {spec.run} and gpuplan logs -f {spec.run} look on, gpuplan down {spec.run} ends it")
