"""A phase's inputs as what they are: a step of gpuplan's own, which all its other steps need."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.config import words
from orchestrator.config.problems import KeyPath
from orchestrator.config.validate import Source
from orchestrator.words.model import Input, Phase, Step

NAME = "inputs"


def with_step(phase: Phase, folder: Path) -> Phase:
    """The phase with the step that fetches its inputs; it comes last in the list, for places in the file stay so.

    `folder`: the plan's, where samples lie.
    """
    if not phase.inputs or any(step.name == NAME for step in phase.steps):
        return phase
    fetch = Step(
        name=NAME,
        builtin="inputs",
        gpu=False,
        timeout=phase.timeout,
        creates=tuple(dict.fromkeys(one.to if one.is_file else f"{one.to.rstrip('/')}/**" for one in phase.inputs)),
        writes_gb=sum((one.gb for one in phase.inputs), Decimal(0)),
        rate="hub",
    )
    steps = [step.model_copy(update={"needs": (*step.needs, NAME)}) for step in phase.steps]
    found = (
        one.model_copy(update={"sample": str(folder.resolve() / one.sample)}) if one.sample else one
        for one in phase.inputs
    )
    return phase.model_copy(update={"steps": (*steps, fetch), "inputs": tuple(found)})


def check(phase: Phase, source: Source) -> None:
    """Note what is wrong in the inputs that a phase file names."""
    check_each(phase.inputs, source, (NAME,))
    for index, step in enumerate(phase.steps):
        if phase.inputs and step.name == NAME:
            source.wrong(
                ("steps", index, "name"), f"{NAME} is the step that fetches the phase's inputs", "rename this one"
            )
        if step.builtin == "inputs":
            source.wrong(("steps", index, "builtin"), "inputs belong to the phase", "write inputs: above its steps")


def check_each(inputs: Sequence[Input], source: Source, path: KeyPath) -> None:
    """Note what is wrong in these inputs, which stand at that path."""
    for index, one in enumerate(inputs):
        _check_address(one, source, (*path, index, "from"))
        if message := words.below(one.to):
            source.wrong((*path, index, "to"), message)
        elif one.to.strip("./") == "" or any(c in one.to for c in "*?["):
            source.wrong((*path, index, "to"), f"{one.to!r} is no folder for inputs alone", "name one, as data")
        if one.sha256 and not re.fullmatch(r"[0-9a-f]{64}", one.sha256):
            source.wrong((*path, index, "sha256"), f"{one.sha256!r} is no sha256", "write its 64 digits")
        if one.sample and (message := words.below(one.sample)):
            source.wrong((*path, index, "sample"), message, "it lies in the plan's folder")


def check_samples(inputs: Sequence[Input], source: Source, folder: Path) -> None:
    """Note each sample that is not there, or is a way out of the plan's folder."""
    top = folder.resolve()
    for index, one in enumerate(inputs):
        if one.sample and not words.below(one.sample) and (message := _sample(one, top)):
            source.wrong((NAME, index, "sample"), message, "name a file or a folder of the plan's")


def _sample(one: Input, top: Path) -> str:
    """What is wrong with what stands for an input; "": nothing is."""
    found = top / one.sample
    if not found.exists():
        return f"there is no {found}"
    if not found.resolve().is_relative_to(top):
        return f"{one.sample} is a link that leads out of {top}"
    return f"{one.source} is one file, {one.sample} a folder" if one.source[:5] == "https" and found.is_dir() else ""


def _check_address(one: Input, source: Source, path: KeyPath) -> None:
    scheme, there, place = one.source.partition("://")
    if scheme not in words.SOURCES or not there or not place.strip("/"):
        schemes = ", ".join(f"{scheme}://" for scheme in words.SOURCES[:-1])
        source.wrong(
            path,
            f"{one.source!r} is nothing that machines fetch from",
            f"it begins with {schemes} or {words.SOURCES[-1]}://",
        )
    elif scheme == "https":
        if message := _https(one):
            source.wrong(path, message, "write https://HOST/PATH/FILE, and what needs a login into a store of your own")
    elif "?" in place:  # its store would be asked, and signed for, before anybody has agreed to the plan
        source.wrong(path, f"{one.source!r} names an address of its own", "leave out what follows the ?")


def _https(one: Input) -> str:
    """What is wrong with an address of a file; "": nothing is."""
    try:
        parts = urlsplit(one.source)
        named = bool(parts.hostname) and (parts.port or 443) > 0
    except ValueError:
        named = False
    if not named or not re.fullmatch(r"[!-~]+", one.source):
        return f"{one.source!r} is no address"
    if "@" in parts.netloc:
        return "a plan is shown and kept: an address with a password in it is none for inputs"
    if not one.is_file and not parts.path.strip("/"):
        return f"{one.source!r} names no file"
    return ""
