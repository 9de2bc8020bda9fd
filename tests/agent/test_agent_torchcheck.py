"""What is said of a machine's torch, with one that computes as it is told."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.agent.conftest import AGENT

sys.path.insert(0, str(AGENT))
from gpuplan_agent import torchcheck


class Ones:
    """A matrix whose product with itself sums up to `total`."""

    def __init__(self, total: float) -> None:
        self.total = total

    def __matmul__(self, _: Ones) -> Ones:
        return self

    def sum(self) -> SimpleNamespace:
        return SimpleNamespace(item=lambda: self.total)


def _torch(totals: list[float], asked: list[Any]) -> SimpleNamespace:
    """One that has a card for each of these totals, and notes which matrices were asked for."""

    def ones(shape: tuple[int, int], device: str) -> Ones:
        asked.append((shape, device))
        return Ones(totals[int(device.removeprefix("cuda:"))])

    cuda = SimpleNamespace(
        get_device_capability=lambda index: (9, 0), get_device_name=lambda index: f"H100 number {index}"
    )
    return SimpleNamespace(__version__="2.8", version=SimpleNamespace(cuda="12.8"), cuda=cuda, ones=ones)


def _said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_each_card_is_computed_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """As many cards as were rented have to multiply, each by itself; a further one is nobody's business."""
    asked: list[Any] = []
    monkeypatch.setitem(sys.modules, "torch", _torch([64.0**3, 64.0**3, 0.0], asked))
    assert torchcheck.main(["2"]) == 0
    assert asked == [((64, 64), "cuda:0"), ((64, 64), "cuda:1")]
    assert _said(capsys) == [f"torch 2.8 (CUDA 12.8) computes on H100 number {index} (sm_90)" for index in (0, 1)]


def test_a_wrong_sum_is_a_fault(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """A card that answers, and wrongly, is named with what it said."""
    monkeypatch.setitem(sys.modules, "torch", _torch([64.0**3, 4096.0], []))
    assert torchcheck.main(["2"]) == 1
    assert _said(capsys)[-1] == (
        "torch 2.8 (CUDA 12.8) computes wrongly on H100 number 1 (sm_90): 4096 in place of 262144"
    )


def test_a_torch_that_cannot_be_loaded_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Of the package's many lines of complaint the first is told."""
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.12: cannot open shared object file\\n(loading)')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert torchcheck.main(["1"]) == 1
    assert _said(capsys) == ["torch cannot be imported: libcudart.so.12: cannot open shared object file"]
