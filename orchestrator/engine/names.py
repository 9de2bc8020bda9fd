"""The names of what is rented: the one handle that survives everything. Written and read here only.

A machine is called gpuplan-OWNER-RUN-PHASE-N-tDEADLINE, a volume gpuplan-OWNER-vol-LABEL-RUN-tDEADLINE.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.words.provider import MACHINE_PREFIX
from orchestrator.words.spec import plain

LONGEST_PHASE = 12  # letters of a phase's name: providers cut long names off
_RUN = r"(?P<run>\d{4}-[a-z0-9]{4}(?:-\d+)?)"  # as world.home makes them, in plain letters
_BEGIN, _END = rf"{MACHINE_PREFIX}(?P<owner>[^-]+)-", r"-t(?P<deadline>\d{9,11})"
_MACHINE = re.compile(rf"{_BEGIN}{_RUN}-(?P<phase>.+)-(?P<number>\d+){_END}")
_VOLUME = re.compile(rf"{_BEGIN}vol-(?P<label>.+)-{_RUN}{_END}")
_ANY = re.compile(rf"{_BEGIN}.*{_END}")
_OF = r"\d{4}-[a-z0-9]{4}(?:-\d+)?"
_QUOTED = re.compile(
    rf"{MACHINE_PREFIX}[a-z0-9]+-(?:vol-(?P<label>[\w-]+?)-{_OF}|{_OF}-(?P<phase>[\w-]+?)-(?P<number>\d+))-t\d{{9,11}}"
)


@dataclass(frozen=True, slots=True)
class MachineName:
    """A machine's name. `deadline`: Unix seconds of the wall clock, when it is to be gone whatever happens."""

    owner: str
    run: str
    phase: str  # the beginning of its plain name
    number: int  # of the run's machines for that phase
    deadline: int

    def __str__(self) -> str:
        phase = plain(self.phase)[:LONGEST_PHASE]
        return f"{MACHINE_PREFIX}{self.owner}-{plain(self.run)}-{phase}-{self.number}-t{self.deadline}"

    @staticmethod
    def parse(text: str) -> MachineName | None:
        """What a name says, run and phase in plain letters; None: no machine of ours is called so.

        A phase that begins with a number looks as if it belonged to a run's run: where the ledger has the name, its
        word goes first.
        """
        found = _MACHINE.fullmatch(text)
        if found is None or text.startswith(f"{MACHINE_PREFIX}{found['owner']}-vol-"):
            return None
        return MachineName(found["owner"], found["run"], found["phase"], int(found["number"]), int(found["deadline"]))

    def is_of(self, owner: str, run: str) -> bool:
        """Whether it is a machine of that very run: RUN's following one (RUN.2) has machines of its own."""
        return (self.owner, self.run) == (owner, plain(run))


@dataclass(frozen=True, slots=True)
class VolumeName:
    """A volume's name. `label`: what its plan knows it by."""

    owner: str
    label: str
    run: str  # that made it
    deadline: int

    def __str__(self) -> str:
        return f"{MACHINE_PREFIX}{self.owner}-vol-{self.label}-{plain(self.run)}-t{self.deadline}"

    @staticmethod
    def parse(text: str) -> VolumeName | None:
        """What a name says; None: no volume of ours is called so."""
        found = _VOLUME.fullmatch(text)
        return VolumeName(found["owner"], found["label"], found["run"], int(found["deadline"])) if found else None


@dataclass(frozen=True, slots=True)
class Due:
    """What every name of ours says, whichever version of gpuplan wrote it."""

    owner: str
    deadline: int

    @staticmethod
    def parse(text: str) -> Due | None:
        """Whose it is and when it is to be gone; None: no name of ours, only its beginning perhaps."""
        found = _ANY.fullmatch(text)
        return Due(found["owner"], int(found["deadline"])) if found else None


def spoken(text: str, phases: Sequence[str] = ()) -> str:
    """A text with every name of ours in it as people say it: `day2-3#1`, `volume glm`.

    `phases`: those of the plan, whose names are longer than what a machine's name has room for.
    """
    whole = {plain(name)[:LONGEST_PHASE]: name for name in phases}

    def said(found: re.Match[str]) -> str:
        if found["label"]:
            return f"volume {found['label']}"
        return f"{whole.get(found['phase'], found['phase'])}#{found['number']}"

    return _QUOTED.sub(said, text)
