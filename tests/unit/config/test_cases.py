"""Every file of tests/cases: a configuration and the exact text that it is refused with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.config import ConfigErrors, load_plan
from orchestrator.words.errors import ExitCode

CASES = Path(__file__).parents[2] / "cases"


def cases() -> list[Any]:
    return [
        pytest.param(case, id=f"{path.stem}: {case['does']}")
        for path in sorted(CASES.glob("*.yaml"))
        for case in yaml.safe_load(path.read_text())
    ]


@pytest.mark.parametrize("case", cases())
def test_refused_with_exactly_this_text(case: dict[str, Any], tmp_path: Path):
    """A wrong configuration is refused with place, reason and remedy, and with exit code 2."""
    files = case["files"] if "files" in case else {"one.yaml": case["phase"]}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigErrors) as caught:
        load_plan(tmp_path, environ=case.get("environ", {}), overrides=case.get("overrides", {}))
    assert str(caught.value).replace(f"{tmp_path}/", "") == case["error"].rstrip("\n")
    assert caught.value.exit_code == ExitCode.USAGE
