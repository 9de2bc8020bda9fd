"""Figures, each with where it was measured, by the program that measured it."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dllama_glm.runtime.machine import granted, note, processor

_LONGEST = 200  # characters of a text beside a figure


@dataclass(frozen=True)
class Place:
    """Where figures come from: `device` is `cpu` or the card's name, `measured_on` says it in full."""

    device: str
    measured_on: str


def on_cpu(details: str) -> Place:
    """This processor, and how it was used."""
    return Place("cpu", f"CPU ({processor()}{granted()}), {details}")


def where(computed_by: Mapping[str, Any]) -> Place:
    """Where a model computes that describes itself so (`model.Model.computed_by`)."""
    how = computed_by
    if "card" in how:
        versions = f"torch {how['torch']}, triton {how['triton']}"
        shared = f", shared by {how['sharers']} ranks" if how["sharers"] > 1 else ""
        graph = "one graph a token" if how["graph"] else "no graph"
        return Place(how["device"], f"{how['device']}{shared}, {how['arithmetic']}, {graph}, {versions}")
    details = f"{how['threads']} thread(s) a rank, {how['simd']}, {how['threading']}, weights {how['weights']}"
    return on_cpu(details)


def gpus_used(computed_by: Mapping[str, Any]) -> float:
    """This rank's share of the cards in use: ranks on one card count as one card together."""
    return 1 / computed_by["sharers"] if "card" in computed_by else 0.0


def checksums_wanted() -> bool:
    """Whether a controller asks for the checksums of what is written."""
    return bool(os.environ.get("GPUPLAN_CHECKSUMS"))


def publish_checksum(file: Path, sha256: str) -> None:
    """Append a file's sha256 to the one that $GPUPLAN_CHECKSUMS names, if it does, as sha256sum prints it."""
    path, name = os.environ.get("GPUPLAN_CHECKSUMS"), os.path.relpath(file)
    if path and name.isprintable():  # no line end in it
        _append(path, [f"{sha256}  {name}\n"], "checksums")


def publish(values: Mapping[str, float], place: Place) -> None:
    """Append figures to the file that $GPUPLAN_METRICS names, if it does: one JSON document a line.

    A file that cannot be written is no reason to fail, but is said.
    """
    path = os.environ.get("GPUPLAN_METRICS")
    if not path:
        return
    beside = {"measured_on": place.measured_on[:_LONGEST], "device": place.device[:_LONGEST]}
    lines = [json.dumps({"name": name, "value": value} | beside) + "\n" for name, value in values.items()]
    _append(path, lines, "metrics")


def _append(path: str, lines: list[str], what: str) -> None:
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.writelines(lines)
    except OSError as error:
        note(f"{what} could not be written to {path}: {error.strerror or error}")
