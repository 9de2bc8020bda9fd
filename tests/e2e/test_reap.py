"""`gpuplan reap` against the rehearsed cloud, from a home that knows nothing but its owner."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.ledger import open_ledger
from orchestrator.words.provider import MachineSpec, Provider
from orchestrator.words.spec import WorldSpec
from orchestrator.world.home import Home
from orchestrator.world.rehearsed import rehearsed
from tests.e2e.tool import GPUPLAN, PLANS, TERM, Tool, ended, gpuplan

OWNER = "abcdefgh"


@pytest.fixture
def elsewhere(tool: Tool, tmp_path: Path) -> Tool:
    """Another computer of the same owner, without any ledger."""
    (tool.home / "owner").write_text(OWNER)
    other = Tool(tmp_path / "elsewhere", tool.cloud)
    other.home.mkdir()
    (other.home / "owner").write_text(OWNER)
    return other


def provider(tool: Tool, name: str) -> Provider:
    """The adapter of the rehearsed cloud."""
    spec = WorldSpec(provider=name, dry_run=True, rehearsal=str(tool.cloud.file))
    return rehearsed(Home(tool.home), open_ledger(tool.home), spec, "").provider(name)


def rent(tool: Tool, name: str, where: str = "runpod") -> None:
    """A machine in the cloud that no ledger knows."""
    cloud = provider(tool, where)
    offer = next(o for o in cloud.offers(gpus=1, spot=False) if o.available)
    image = "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404" if where == "runpod" else ""
    key = (tool.home / "id_ed25519.pub").read_text()
    cloud.create(MachineSpec(name, offer, image, 50, ("22/tcp",), key, datetime.now(UTC)))


def names(tool: Tool) -> set[str]:
    """What is alive in the cloud."""
    return {m.name for where in ("runpod", "lambda") for m in provider(tool, where).machines()}


def test_only_this_owners_overdue_machines_are_ended(elsewhere: Tool):
    """What is past the deadline in its name is ended at every provider; what is not, and another owner's, lives on."""
    late = f"gpuplan-{OWNER}-1101-aaaa-day1-1-t1700000000"
    later = f"gpuplan-{OWNER}-1101-aaaa-day1-1-t1700000001"
    due = f"gpuplan-{OWNER}-1101-bbbb-day1-1-t4000000000"
    foreign = "gpuplan-zzzzzzzz-1101-cccc-day1-1-t1700000000"
    for name in (late, due, foreign):
        rent(elsewhere, name)
    rent(elsewhere, later, "lambda")
    done = elsewhere.run("reap", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert sorted(said["ended"]) == [late, later]
    assert {f["name"]: f["owner"] for f in said["others"]} == {due: OWNER, foreign: "zzzzzzzz"}
    assert names(elsewhere) == {due, foreign}
    again = elsewhere.run("reap")
    assert again.returncode == 0
    assert "no machine of this owner is past its deadline" in again.stdout
    assert f"left alone: runpod machine {foreign}" in again.stdout


def test_an_overdue_volume_goes_only_when_somebody_says_so(elsewhere: Tool):
    """A kept volume past its deadline is asked about on a terminal; without one it is listed and left."""
    cloud = provider(elsewhere, "runpod")
    place = next(o.place for o in cloud.offers(gpus=1, spot=False) if o.available)
    name = f"gpuplan-{OWNER}-vol-small-small-1101-aaaa-t1700000000"
    cloud.create_volume(name, 10, place)
    assert f"left alone: runpod volume {name}" in elsewhere.run("reap").stdout
    for answer, there in (("n", 1), ("y", 0)):
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [*GPUPLAN, "reap", "--provider", "runpod"], stdin=slave, stdout=subprocess.PIPE, text=True,
            env=elsewhere.env(), cwd=elsewhere.home,
        )  # fmt: skip
        os.close(slave)
        os.write(master, f"{answer}\n".encode())
        said, _ = process.communicate(timeout=60)
        os.close(master)
        assert process.returncode == 0, said
        assert len([v for v in cloud.volumes() if v.name == name]) == there


def test_a_machine_that_outlived_its_run_is_ended_at_home(tool: Tool):
    """A machine under the name of a finished run's is not waited for: the ledger knows that nobody needs it."""
    assert tool.run("run", "one", "--plan", str(PLANS / "small"), "--dry-run", "--yes").returncode == 0
    ((name,),) = tool.rows("select name from gpuplan_machines")
    rent(tool, name)
    done = tool.run("reap", "--json")
    assert (done.returncode, json.loads(done.stdout)["ended"]) == (0, [name])
    assert names(tool) == set()


def test_reap_without_any_key_says_which_is_missing(tmp_path: Path):
    """No provider's key is set: exit code 2, and where to get one."""
    done = gpuplan("reap", env={"PATH": os.environ["PATH"], "GPUPLAN_HOME": str(tmp_path)}, cwd=tmp_path)
    assert done.returncode == 2
    assert "RUNPOD_API_KEY is not set" in done.stderr


def iter_until(lines: Iterable[str], word: str) -> Iterator[str]:
    """Lines as they come, to the first one with that word in it."""
    for line in lines:
        yield line
        if word in line:
            return


def test_reap_watches_until_it_is_told_to_stop(elsewhere: Tool):
    """`--watch` ends what passes its deadline while it looks, says each thing once, and SIGTERM ends it with exit 0."""
    due = f"gpuplan-{OWNER}-1101-bbbb-day1-1-t4000000000"
    rent(elsewhere, due)
    late = f"gpuplan-{OWNER}-1101-aaaa-day1-1-t1700000000"
    process = elsewhere.start("reap", "--watch", "--every", "10s", "--provider", "runpod")
    assert process.stdout is not None
    said = "".join(iter_until(process.stdout, due))
    rent(elsewhere, late)
    said += "".join(iter_until(process.stdout, late))
    code, rest = ended(process, TERM)
    assert code == 0, rest
    said += rest
    assert said.count(f" ended: {late}\n") == 1
    assert said.count(f"left alone: runpod machine {due}") == 1


def test_what_install_prints_reaps(elsewhere: Tool, tmp_path: Path):
    """The lines that `reap --install` prints, typed in a shell, end what is overdue: with this owner and these keys."""
    late = f"gpuplan-{OWNER}-1101-aaaa-day1-1-t1700000000"
    rent(elsewhere, late)
    text = elsewhere.run("reap", "--install").stdout
    bin_, user = tmp_path / "bin", tmp_path / "user"
    bin_.mkdir()
    user.mkdir()
    program = "\n".join(["#!/bin/sh", f'exec {sys.executable} -c "from orchestrator.cli import main; main()" "$@"'])
    edit = "#!/bin/sh\nsed -i 's/^RUNPOD_API_KEY=$/RUNPOD_API_KEY=a-key/' \"$1\"\n"
    for name, body in {"gpuplan": program, "edit": edit, "systemctl": "#!/bin/sh\n", "loginctl": "#!/bin/sh\n"}.items():
        (bin_ / name).write_text(body)
        (bin_ / name).chmod(0o755)
    env = elsewhere.env(HOME=str(user), EDITOR=str(bin_ / "edit"), PATH=f"{bin_}:{os.environ['PATH']}")
    done = subprocess.run(["sh", "-c", text], env=env, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
    assert f"ended: {late}" in done.stdout
    assert (user / ".config/gpuplan-reap/env").stat().st_mode & 0o077 == 0
    unit = (user / ".config/systemd/user/gpuplan-reap.service").read_text()
    assert f"ExecStart={bin_}/gpuplan reap --watch --every 10m\n" in unit
