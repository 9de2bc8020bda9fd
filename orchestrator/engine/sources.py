"""What results were made of: the images that were asked for, the commits of the hub's repositories and of clones."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from orchestrator.engine import records
from orchestrator.engine.context import Context
from orchestrator.transport.agent import Agent
from orchestrator.words.model import MachineNeed
from orchestrator.words.spec import plain


@dataclass(frozen=True, slots=True)
class Sources:
    """`images`: phase -> as it was asked for; with its digest where the plan names one, which no provider tells.

    `hub`: repository -> commit; `clones`: folder below the workspace -> commit.
    """

    images: dict[str, str]
    hub: dict[str, str]
    clones: dict[str, str]

    def lines(self) -> list[str]:
        """One line of Markdown each."""
        named = [(f"image of {phase}", image) for phase, image in self.images.items()]
        return [f"- {what}: `{which}`" for what, which in (*named, *self.hub.items(), *self.clones.items())]


def image_of(context: Context, need: MachineNeed, *, gpus: int) -> str:
    """The image that such a machine, with so many GPUs, is asked for with; "": the provider's own."""
    settings, vendor = context.spec.plan.settings, context.provider.name
    plain_one = "" if gpus else settings.cpu_images.get(vendor, "")
    return need.image or plain_one or settings.images.get(vendor, "")


def gather(context: Context, agent: Agent) -> Sources:
    """By this run's phases, and by the done-records of all of the plan's steps that lie on this machine or volume."""
    images = dict[str, str]()
    for row in context.ledger.machines.all(run=context.run):
        image = image_of(context, context.phase(row.phase).phase.machine, gpus=row.gpus)
        known = images.get(row.phase, "")
        images[row.phase] = known if image in known else ", ".join(filter(None, (known, image)))
    hub, clones = dict[str, str](), dict[str, str]()
    for phase in context.spec.plan.phases:
        for step in phase.steps:
            found = records.read_as(agent, f"{phase.name}/{step.name}") if step.creates else None
            if found and step.hub and records.COMMIT.fullmatch(found.commit):
                hub[step.hub.repo] = found.commit
            for folder, commit in found.clones.items() if found else ():
                where = posixpath.normpath(posixpath.join(step.cwd, plain(folder)))
                clones[where] = commit if records.COMMIT.fullmatch(commit) else "unknown"
    return Sources({phase: image for phase, image in images.items() if image}, hub, clones)
