"""Ctrl-C while a rehearsed cloud is opened: nobody would end its daemon."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from orchestrator.rehearsal import client
from orchestrator.words.spec import WorldSpec
from orchestrator.world import rehearsed
from orchestrator.world.home import Home
from tests import forked


@pytest.mark.parametrize(
    "moment", [None, (client, "_find"), (rehearsed, "_arm_once")], ids=["it is begun", "it comes up", "it is there"]
)
def test_an_interrupted_opening_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: tuple[object, str] | None
):
    """Whether it has come up or not: when the command ends it is gone, and no run is said to use it."""
    home, begun = Home(tmp_path / "home"), list[forked.Living]()

    def spawned(folder: Path, arguments: list[str]) -> forked.Living:
        begun.append(forked.spawn(folder, arguments))
        if moment is None:
            signal.raise_signal(signal.SIGINT)  # before anybody has a name for it
        return begun[0]

    def interrupt(*_: object) -> None:
        if begun:  # `_find` looks for a living one before
            raise KeyboardInterrupt

    monkeypatch.setattr(client, "_spawn", spawned)
    if moment:
        monkeypatch.setattr(*moment, interrupt)
    spec = WorldSpec(provider="runpod", dry_run=True, cloud=str(tmp_path / "cloud"))
    with pytest.raises(KeyboardInterrupt):
        rehearsed.rehearsed(home, home.open_ledger(), spec, "1101-aaaa")
    assert [daemon.poll() is None for daemon in begun] == [False]
    assert list((tmp_path / "cloud").glob("users/*")) == []
