"""The converter: a Hugging Face folder in, one `.m` file out."""

from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str], *, default_folder: Path | None = None) -> int:
    """Run `convert-hf.py` with these arguments; NAME.m goes to `default_folder` (None: the current one).

    Returns the exit code: 0 done, 2 wrong use, 3 refused or failed, 75 out of memory, 130 interrupted.
    """
    from dllama_glm.convert.command import run

    return run(argv, default_folder=default_folder or Path.cwd())
