"""What recorded effects result in: frozen values that are plain JSON on disk. `kind` tells the members of a union."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from orchestrator.transport.measured import Measured
from orchestrator.words.lifecycle import Outcome, StepState


@dataclass(frozen=True, slots=True)
class Created:
    """The machine exists, under this id of the provider's."""

    id: str
    kind: Literal["created"] = "created"


@dataclass(frozen=True, slots=True)
class Refused:
    """No machine was made. `stops`: the account (no credit, no right) or the request is why: no other one will do.

    `unheard`: nobody refused it: the process died around the create, of which nothing came. It may be asked for again.
    """

    why: str
    stops: bool = False
    unheard: bool = False
    kind: Literal["refused"] = "refused"


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may exist, and nobody could be asked: its name stays on every list of what may cost money."""

    why: str
    kind: Literal["unknown"] = "unknown"


Creation = Created | Refused | Unknown


@dataclass(frozen=True, slots=True)
class Reached:
    """It answers over SSH and its GPUs work."""

    kind: Literal["reached"] = "reached"


@dataclass(frozen=True, slots=True)
class NotReached:
    """It did not become ready, and why: what was seen last. `nowhere`: it never answered at any address."""

    why: str
    nowhere: bool = False
    kind: Literal["not_reached"] = "not_reached"


Readiness = Reached | NotReached


@dataclass(frozen=True, slots=True)
class Gone:
    """Proven: the delete was accepted, GET knows nothing of it, and the list lacks it."""

    kind: Literal["gone"] = "gone"


@dataclass(frozen=True, slots=True)
class NotGone:
    """It may still cost money."""

    why: str
    kind: Literal["not_gone"] = "not_gone"


End = Gone | NotGone


@dataclass(frozen=True, slots=True)
class Go:
    """Whether a step may begin; if not, the state that it ends in and why."""

    go: bool
    state: StepState = StepState.PENDING
    why: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one try of a step's command ended on its machines; the first bad end decides."""

    exit: int
    oom: bool = False  # the system killed it for memory
    timed_out: bool = False
    stopped: bool = False  # by us
    lost: bool = False  # its supervisor died
    stalled: bool = False  # we stopped it, for it moved no bytes any more
    seconds: float = 0.0
    peaks: dict[str, float] = field(default_factory=dict)  # what the agent sampled beside it
    figures: dict[str, Measured] = field(default_factory=dict)  # what it published itself
    cards: tuple[str, ...] = ()  # the kinds of GPU that the agent saw at work meanwhile

    @property
    def succeeded(self) -> bool:
        """Whether the command came to a good end by itself."""
        return self.exit == 0 and not self.timed_out


@dataclass(frozen=True, slots=True)
class StepEnd:
    """How a step ended on this attempt's machines."""

    step: str
    state: StepState
    detail: str = ""
    over_budget: bool = False  # INTERRUPTED because of the money


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One artifact: its name below the workspace."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Answer:
    """How one deliverable was found. `ok` None: these machines cannot show it."""

    name: str
    ok: bool | None
    detail: str


@dataclass(frozen=True, slots=True)
class CrewEnd:
    """How machines that came and went within a phase ended. `lost`: why the phase is to have others; "": it is not."""

    crew: str
    outcome: Outcome = Outcome.SUCCEEDED
    why: str = ""
    lost: str = ""


@dataclass(frozen=True, slots=True)
class SaveEnd:
    """How many artifacts of a step were on their way before their phase came to its end."""

    files: int


@dataclass(frozen=True, slots=True)
class PhaseEnd:
    """How a phase ended."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended. `left`: what may still cost money, in words."""

    outcome: Outcome
    left: tuple[str, ...] = ()
