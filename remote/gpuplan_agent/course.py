"""What a job's GPUs did over its time, in a bounded number of points."""

from __future__ import annotations

from typing import Any, List

from gpuplan_agent.sampling import EVERY_S

MOST_POINTS = 300
TOLD_EVERY_S = 60.0  # while the job runs; at its end it is told whole

Point = List[float]  # the highest value, the sum of all, how many they are


class Course:
    """Memory and work of a job's GPUs, in percent, in stretches of `every_s` seconds from its start on.

    Where that would be more than MOST_POINTS, two stretches become one: however long a job takes, its course is small,
    and no peak is lost.
    """

    def __init__(self, since: float) -> None:
        self.since, self.every_s = since, EVERY_S
        self._memory: list[Point | None] = []
        self._busy: list[Point | None] = []
        self._told = 0.0

    def add(self, age_s: float, sample: dict[str, Any]) -> None:
        """Take a sample into account that was taken when the job was so old."""
        gpus = sample.get("gpus", [])
        while age_s >= MOST_POINTS * self.every_s:
            self._memory, self._busy = _halved(self._memory), _halved(self._busy)
            self.every_s *= 2
        place = int(age_s // self.every_s)
        _put(self._memory, place, [
            100.0 * gpu["memory_used_mib"] / gpu["memory_total_mib"]
            for gpu in gpus
            if gpu.get("memory_total_mib") and "memory_used_mib" in gpu
        ])  # fmt: skip
        _put(self._busy, place, [gpu["utilisation"] for gpu in gpus if "utilisation" in gpu])

    def now_and_then(self, age_s: float) -> dict[str, Any] | None:
        """What is told of it while the job runs; None: it was told a moment ago, or there is nothing."""
        if age_s < self._told + TOLD_EVERY_S:
            return None
        self._told = age_s
        return self.told()

    def told(self) -> dict[str, Any] | None:
        """All of it as JSON: for each stretch the highest and the mean, null where nothing was seen. None: no GPU."""
        if not self._memory and not self._busy:
            return None
        columns = {"memory": _told(self._memory), "busy": _told(self._busy)}
        return {"since": self.since, "every_s": self.every_s, **columns}


def _put(points: list[Point | None], place: int, values: list[float]) -> None:
    if not values:
        return
    points.extend([None] * (place + 1 - len(points)))
    old = points[place]
    new = [max(values), sum(values), float(len(values))]
    points[place] = _both(old, new) if old else new


def _halved(points: list[Point | None]) -> list[Point | None]:
    """Two stretches as one each; the last may stand alone."""
    seconds = [*points[1::2], None][: len(points[::2])]
    return [_both(one, two) if one and two else one or two for one, two in zip(points[::2], seconds)]


def _both(one: Point, other: Point) -> Point:
    return [max(one[0], other[0]), one[1] + other[1], one[2] + other[2]]


def _told(points: list[Point | None]) -> list[Any]:
    return [None if point is None else [round(point[0], 1), round(point[1] / point[2], 1)] for point in points]
