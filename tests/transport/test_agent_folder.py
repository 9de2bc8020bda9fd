"""The agent, its installation and an emulated machine's programs beside other people's Python files."""

from __future__ import annotations

import sys

from orchestrator.transport.job import Job
from tests.transport.conftest import Reached


def test_nothing_of_ours_takes_code_from_a_folder_on_the_machine(reached: Reached):
    """Files named like the standard library, in home, workspace and beside the agent, are run by nobody."""
    marker = reached.workspace / "marker"
    for folder in (reached.home, reached.home / ".gpuplan", reached.workspace):
        for name in sorted(sys.stdlib_module_names):
            (folder / f"{name}.py").write_text(f"open({str(marker)!r}, 'a').write(__file__ + '\\n')\n")
    next((reached.home / ".gpuplan").glob("agent-*")).rename(reached.home / "gone")
    reached.agent.hello()
    command = "if command -v nvidia-smi; then nvidia-smi -L; fi"
    reached.agent.start(Job(id="job", command=command, cwd=str(reached.workspace), timeout_s=30))
    end = reached.agent.follow("job", 0, lambda _text, _offset: None)
    assert end is not None
    assert end.exit == 0
    assert not marker.exists(), marker.read_text()
