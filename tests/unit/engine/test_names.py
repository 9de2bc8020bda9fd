"""The names of machines and volumes: what is written is read again, and nobody else's is taken for ours."""

from __future__ import annotations

import pytest

from orchestrator.engine.names import Due, MachineName, VolumeName, spoken


@pytest.mark.parametrize("run", ["1128-abcd", "1128-abcd.2", "1128-abcd.12"])
@pytest.mark.parametrize("phase", ["day1", "day2-3", "Train_It.2"])
def test_a_machines_name_is_read_as_it_was_written(run: str, phase: str):
    """Owner, run, number and deadline come back; run and phase in plain letters."""
    name = MachineName.parse(str(MachineName("abcdefgh", run, phase, 7, 1_764_000_000)))
    assert name
    assert name.is_of("abcdefgh", run)
    assert (name.number, name.deadline) == (7, 1_764_000_000)


def test_a_machine_of_the_following_run_is_not_this_runs():
    """RUN and RUN.2 begin alike; each has its own machines."""
    second = MachineName.parse(str(MachineName("abcdefgh", "1128-abcd.2", "only", 1, 1_764_000_000)))
    assert second
    assert not second.is_of("abcdefgh", "1128-abcd")
    assert second.is_of("abcdefgh", "1128-abcd.2")
    assert not second.is_of("zzzzzzzz", "1128-abcd.2")


def test_a_long_phase_is_cut_off():
    """Twelve letters of a phase are in the name: providers cut long ones."""
    assert str(MachineName("o", "1128-abcd", "a-very-long-phase", 1, 1_764_000_000)) == (
        "gpuplan-o-1128-abcd-a-very-long--1-t1764000000"
    )


@pytest.mark.parametrize("run", ["1128-abcd", "1128-abcd.3"])
def test_a_volumes_name_is_read_as_it_was_written(run: str):
    """Owner, label and deadline come back, and a volume is no machine."""
    text = str(VolumeName("abcdefgh", "plan-data-2", run, 1_764_000_000))
    name = VolumeName.parse(text)
    assert name
    assert (name.owner, name.label, name.deadline) == ("abcdefgh", "plan-data-2", 1_764_000_000)
    assert MachineName.parse(text) is None
    assert Due.parse(text) == Due("abcdefgh", 1_764_000_000)


@pytest.mark.parametrize(
    "text", ["", "gpuplan-", "gpuplan-abcdefgh-notes", "other-abcdefgh-1128-abcd-only-1-t1764000000"]
)
def test_what_is_not_named_by_us_says_nothing(text: str):
    """A name that only begins as ours do has neither owner nor deadline."""
    assert (MachineName.parse(text), VolumeName.parse(text), Due.parse(text)) == (None, None, None)


def test_a_name_in_a_text_is_said_as_people_say_it():
    """A machine by its phase and number, with the plan's own long name for it; a volume by its label."""
    text = (
        "gpuplan-abcdefgh-1128-abcd-a-very-long--7-t1764000000 has gpuplan-abcdefgh-vol-glm-1128-abcd.2-t1764000000"
    ).replace(".", "-")
    assert spoken(text, ["a very long phase"]) == "a very long phase#7 has volume glm"
    assert spoken(text) == "a-very-long-#7 has volume glm"
