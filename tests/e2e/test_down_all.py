"""`gpuplan down --all`: everything of this owner, in the ledger or not, after one question."""

from __future__ import annotations

import json

from tests.e2e.test_reap import OWNER, names, rent
from tests.e2e.tool import Tool

MINE = f"gpuplan-{OWNER}-1101-bbbb-day1-1-t4000000000"
FOREIGN = "gpuplan-zzzzzzzz-1101-cccc-day1-1-t1700000000"


def test_all_of_this_owner_ends_and_nobody_elses(tool: Tool):
    """A machine that no ledger knows ends though it is not late; nobody is there to ask: nothing ends, exit code 2."""
    (tool.home / "owner").write_text(OWNER)
    tool.run("ls")
    rent(tool, MINE, "lambda")
    rent(tool, FOREIGN)
    asked = tool.run("down", "--all")
    assert asked.returncode == 2, asked.stderr
    assert MINE in asked.stdout
    assert "an hour" in asked.stdout
    assert names(tool) == {MINE, FOREIGN}
    done = tool.run("down", "--all", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ended"] == [MINE]
    assert names(tool) == {FOREIGN}
    again = tool.run("down", "--all")
    assert (again.returncode, again.stdout.splitlines()[-1]) == (0, "nothing of this owner is running")
    assert tool.run("down", "1101-abcd", "--all").returncode == 2
