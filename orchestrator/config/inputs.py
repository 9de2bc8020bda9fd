"""A phase's inputs as what they are: a step of gpuplan's own, which all its other steps need."""

from __future__ import annotations

from decimal import Decimal

from orchestrator.config import words
from orchestrator.config.validate import Source
from orchestrator.words.model import Phase, Step

NAME = "inputs"


def with_step(phase: Phase) -> Phase:
    """The phase with the step that fetches its inputs; it comes last in the list, for places in the file stay so."""
    if not phase.inputs or any(step.name == NAME for step in phase.steps):
        return phase
    fetch = Step(
        name=NAME,
        builtin="inputs",
        gpu=False,
        timeout=phase.timeout,
        creates=tuple(dict.fromkeys(f"{one.to.rstrip('/')}/**" for one in phase.inputs)),
        writes_gb=sum((one.gb for one in phase.inputs), Decimal(0)),
        rate="hub",
    )
    steps = [step.model_copy(update={"needs": (*step.needs, NAME)}) for step in phase.steps]
    return phase.model_copy(update={"steps": (*steps, fetch)})


def check(phase: Phase, source: Source) -> None:
    """Note what is wrong in the inputs that a phase file names."""
    for index, one in enumerate(phase.inputs):
        scheme, there, place = one.source.partition("://")
        if scheme not in words.SOURCES or not there or not place.strip("/"):
            schemes = " or ".join(f"{scheme}://" for scheme in words.SOURCES)
            source.wrong(
                (NAME, index, "from"),
                f"{one.source!r} is nothing that machines fetch from",
                f"it begins with {schemes}",
            )
        elif "?" in place:  # its store would be asked, and signed for, before anybody has agreed to the plan
            source.wrong(
                (NAME, index, "from"), f"{one.source!r} names an address of its own", "leave out what follows the ?"
            )
        if message := words.below(one.to):
            source.wrong((NAME, index, "to"), message)
        elif one.to.strip("./") == "" or any(c in one.to for c in "*?["):
            source.wrong((NAME, index, "to"), f"{one.to!r} is no folder for inputs alone", "name one, as data")
    for index, step in enumerate(phase.steps):
        if phase.inputs and step.name == NAME:
            source.wrong(
                ("steps", index, "name"), f"{NAME} is the step that fetches the phase's inputs", "rename this one"
            )
        if step.builtin == "inputs":
            source.wrong(("steps", index, "builtin"), "inputs belong to the phase", "write inputs: above its steps")
