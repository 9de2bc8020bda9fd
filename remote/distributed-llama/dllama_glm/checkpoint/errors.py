"""Why a checkpoint cannot be converted."""

from collections.abc import Sequence

_SHOWN = 20


class CheckpointError(Exception):
    """All that is wrong with a checkpoint (or with where the output should go), each problem naming file and key."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        shown = [f"  {problem}" for problem in self.problems[:_SHOWN]]
        if len(self.problems) > _SHOWN:
            shown.append(f"  ... and {len(self.problems) - _SHOWN} more")
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n".join([f"cannot convert, {count}:", *shown]))
