"""A plan as `gpuplan plan --out FILE` showed it, and `gpuplan run FILE`, which does exactly that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from orchestrator.transport import bundle
from orchestrator.words.errors import UsageError
from orchestrator.words.model import Plan
from orchestrator.words.value import Value

if TYPE_CHECKING:
    from orchestrator.transport.code_folder import CodeFile

SUFFIX = ".json"


class Frozen(Value):
    """What was shown: the plan with its settings, which phases, at whose prices, and the code as it was."""

    plan: Plan
    asked: tuple[str, ...]
    provider: str = ""  # "": whichever the settings prefer
    spot: bool = False
    code: dict[str, str] = Field(default_factory=dict)  # path -> sha256


def hashes(code: Sequence[CodeFile]) -> dict[str, str]:
    """Path -> sha256 of the plan's code."""
    return {entry.path: bundle.sha256_of(entry.file) for entry in code}


def write(file: Path, frozen: Frozen) -> None:
    """Write it. UsageError: it cannot be, or the name is none that `run` knows again."""
    if file.suffix != SUFFIX:
        raise UsageError(f"--out {file}: the name ends in {SUFFIX}", remedy="that is how `gpuplan run FILE` knows it")
    try:
        file.write_text(f"{frozen.model_dump_json(indent=1)}\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--out {file}: {error.strerror}", remedy="name another file") from error


def read(file: Path) -> Frozen:
    """Read it back. UsageError: it is damaged, or another version's."""
    try:
        return Frozen.model_validate_json(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        remedy = f"gpuplan plan --out {file} writes it anew"
        raise UsageError(f"{file} is no plan that this version of gpuplan has written", remedy=remedy) from error


def require_same_code(frozen: Frozen, code: Sequence[CodeFile]) -> None:
    """UsageError: the code is another one than was shown."""
    now = hashes(code)
    if now != frozen.code:
        names = sorted(path for path in now.keys() | frozen.code.keys() if now.get(path) != frozen.code.get(path))
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise UsageError(
            f"the code has changed since the plan was shown: {', '.join(names[:3])}{more}",
            remedy="gpuplan plan --out FILE shows and freezes it anew",
        )
