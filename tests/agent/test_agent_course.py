"""What GPUs do over time stays small however long a job takes."""

from __future__ import annotations

import json
import sys
from typing import Any

from orchestrator.transport.job_replies import MOST_POINTS, Course
from orchestrator.transport.shapes import json_in, shaped
from tests.agent.conftest import AGENT, Machine

sys.path.insert(0, str(AGENT))
from gpuplan_agent import course as courses


def fed(samples: int) -> tuple[Course, int]:
    """The course of so many samples, as it is read at home, and how often it was told meanwhile."""
    made, told = courses.Course(1.0), 0
    for n in range(samples):
        used = 79000 if n == 777 else 8000
        gpu = {"index": 0, "memory_used_mib": used, "memory_total_mib": 80000, "utilisation": n % 2 * 100}
        made.add(n * 5.0, {"gpus": [] if n in range(100, 140) else [gpu]})
        told += made.now_and_then(n * 5.0) is not None
    said: Any = json_in(json.dumps(made.told()).encode())
    return shaped(Course, said), told


def test_two_days_are_three_hundred_points():
    """Stretches grow by two; the one moment of full memory is in it, the means are right, told once a minute."""
    course, told = fed(2 * 86400 // 5)
    assert course.every_s == 640
    assert len(course.memory) == len(course.busy) == 270 <= MOST_POINTS
    assert max(p[0] for p in course.memory if p) == 98.8
    assert [p for p in course.busy if p] == [(100.0, 50.0)] * 270
    assert told == 2 * 86400 // 60 - 1


def test_a_short_job_has_every_sample():
    """And where the driver said nothing for a while, there is nothing."""
    course, _ = fed(200)
    assert (course.every_s, len(course.memory)) == (5, 200)
    assert course.memory[99] == (10.0, 10.0)
    assert course.memory[100:140] == (None,) * 40


def test_the_course_of_the_gpus_is_told_at_the_end(machine: Machine):
    """The highest and the mean of all GPUs in each stretch of time, in percent; what the driver omits is left out."""
    machine.tool(
        "nvidia-smi", "echo '0, A100, 8000, 80000, 10'; echo '1, A100, 60000, 80000, 97'; echo '2, L4, 1, 9, [N/A]'"
    )
    _, end = machine.run("job", "true")
    course = end["course"]
    assert (course["every_s"], course["busy"]) == (5.0, [[97.0, 53.5]])
    assert course["memory"] == [[75.0, round((10 + 75 + 100 / 9) / 3, 1)]]
    assert abs(course["since"] - end["started"]) < 0.001


def test_a_machine_without_gpus_has_no_course(machine: Machine):
    """There is none to draw."""
    machine.tool("nvidia-smi", "exit 9")
    assert machine.run("job", "true")[1]["course"] is None
