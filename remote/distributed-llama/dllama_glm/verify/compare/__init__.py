"""What a conversion costs: a `.m` file's answers beside the original's, which transformers computes."""

from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Run `dllama compare` with these arguments.

    Returns the exit code: 0 within the bound, 1 not comparable, 2 wrong use, 3 beyond the bound, 75 out of memory,
    130 interrupted.
    """
    from dllama_glm.verify.compare.command import run

    return run(argv)
