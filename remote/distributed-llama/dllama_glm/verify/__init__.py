"""Proving a `.m` file: header against configuration, every byte against the source quantised again."""

from collections.abc import Sequence

from dllama_glm.verify.check import verify
from dllama_glm.verify.report import Difference, Report, TensorReport

__all__ = ["Difference", "Report", "TensorReport", "main", "verify"]


def main(argv: Sequence[str]) -> int:
    """Run `dllama verify` with these arguments.

    Returns the exit code: 0 equal, 2 wrong use, 3 a difference or an unusable file, 75 out of memory, 130 interrupted.
    """
    from dllama_glm.verify.command import run

    return run(argv)
