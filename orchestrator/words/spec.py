"""What a run is: frozen into its folder before anything is rented; `resume` reads this and nothing else."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from orchestrator.words.errors import UsageError
from orchestrator.words.model import Plan, VolumeNeed
from orchestrator.words.value import Value

GONE = frozenset({"payload", "payload_env"})  # settings of older versions


class WorldSpec(Value):
    """Which world the run is in: read where its adapters are opened, and nowhere in the engine."""

    provider: str
    dry_run: bool = False
    cloud: str = ""  # folder of the rehearsed cloud; "": the real one
    keep_cloud: bool = False  # the rehearsed cloud outlives the run
    rehearsal: str = ""  # its rehearsal.json, when somebody else keeps it running
    faults: tuple[str, ...] = ()
    network: str = ""  # of a rehearsal: RATE,DELAY of its lines; "": as fast as this computer
    clock_skew_s: float = 0.0  # of a rehearsal: by how much its machines' clocks are ahead
    ssh_host: str = ""  # user@host:port of a machine that is already there
    ssh_key: str = ""  # private key for it; "": gpuplan's own
    host_key: str = (
        ""  # its host key, TYPE BASE64 or SHA256:...; "": known_hosts, or whatever it shows at first contact
    )

    @property
    def is_play(self) -> bool:
        """Whether nothing of it is real: what happens there is nobody else's."""
        return self.dry_run

    @property
    def throwaway(self) -> bool:
        """A rehearsal whose cloud is a folder of the run: what it keeps costs nothing, and goes with it."""
        return self.dry_run and not self.keep_cloud


class Expected(Value):
    """What a phase was expected to take when the run was confirmed. usd None: no price was known."""

    hours: Decimal
    usd: Decimal | None = None


class RunSpec(Value):
    """One run, decided and confirmed."""

    run: str
    owner: str
    plan: Plan
    asked: tuple[str, ...]  # phases, in order
    whole_plan: bool  # every phase was asked for: then the volume ends with the run
    done_before: dict[str, str] = Field(default_factory=dict)  # phase with nothing to do -> the run that finished it
    looked_at: tuple[str, ...] = ()  # phases of which nothing is left to run: a machine without GPU will do
    world: WorldSpec
    staged: tuple[str, ...] = ()  # phases whose steps without GPU have a CPU machine of their own
    place: str | None  # where volume and machines are; None: anywhere
    movable: bool = False  # no volume fixed that place before, and another one serves all of it too
    moves_to: str = ""  # the place to which the plan moves: a volume of it elsewhere is left alone; "": nowhere
    asked_provider: str = ""  # the one that was named, which no other one replaces; "": none was
    worst_usd: Decimal | None = None  # what it may cost on the dearest machines, as it was agreed to; None: not known
    wait_s: float = 0.0  # how long machines are waited for where none is to be had, in the cloud's time
    spot: bool = False
    spot_or_demand: bool = False
    force: tuple[str, ...] = ()  # ids of steps that run although their done-records hold
    seen_done: tuple[str, ...] = ()  # steps that the preview took for done: the volume must bear it out
    stores: tuple[str, ...] = ()
    hold_s: float = 0.0  # how long the machine of a step that failed is kept, in the cloud's time
    deadman_minutes: float | None = None  # without a heartbeat for so long machines stop steps too; None: the settings'
    pull_root: str  # folder that each phase's pull_to is relative to
    previous: str = ""  # the ended run that this one goes on with
    failed_before: int = 0  # machines that did not come up in runs that this one looks for another machine after
    expected: dict[str, Expected] = Field(default_factory=dict)  # phase -> the preview's figures; none of a rehearsal's
    created_at: float
    tags: tuple[str, ...] = ()  # words to find it by
    fleeting: bool = False  # nothing on its volume is anybody's: it goes with the run, however that ends

    @model_validator(mode="before")
    @classmethod
    def _of_an_older_version(cls, found: Any) -> Any:
        """Earlier versions kept the world's keys among the others; `force` was all or nothing; code was renamed."""
        plan = found.get("plan") if isinstance(found, dict) else None
        if isinstance(plan, dict) and isinstance(found.get("force"), bool):
            steps = [f"{p['name']}/{s['name']}" for p in plan["phases"] for s in p["steps"]]
            found = found | {"force": steps if found["force"] else []}
        if isinstance(plan, dict) and isinstance(plan.get("settings"), dict):
            kept = {key: value for key, value in plan["settings"].items() if key not in GONE}
            found = {**found, "plan": {**plan, "settings": kept}}
        if isinstance(found, dict) and "world" not in found:
            own = {key: value for key, value in found.items() if key not in WorldSpec.model_fields}
            return own | {"world": {key: found[key] for key in WorldSpec.model_fields if key in found}}
        return found

    def save(self, folder: Path) -> None:
        """Write run.json; it never changes afterwards."""
        new = folder / "run.json.new"
        new.write_text(self.model_dump_json(indent=1))
        new.rename(folder / "run.json")

    @staticmethod
    def load(folder: Path, *, exactly: bool = False) -> RunSpec:
        """Read run.json back. UsageError: it is damaged.

        What another version of gpuplan wrote may have keys that this one does not know: they are passed over, so that
        such a run can be looked at and ended. `exactly`: they are an error, for whoever is to go on with the run.
        """
        file = folder / "run.json"
        try:
            return RunSpec.model_validate_json(file.read_text(), extra=None if exactly else "ignore")
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{file} is damaged, or of another version of gpuplan",
                remedy="the version that began the run can go on with it; gpuplan reap lists what may still run",
            ) from error

    def label(self, need: VolumeNeed) -> str:
        """What a volume of this plan is known by: another plan's volume of the same name is another volume."""
        return plain(f"{self.plan.name}-{need.name}")

    @property
    def wanted(self) -> tuple[str, ...]:
        """All phases that were asked for, in the plan's order, those with nothing to do too."""
        return tuple(p.name for p in self.plan.phases if p.name in self.asked or p.name in self.done_before)

    @property
    def cloud(self) -> str:
        """Which cloud volumes are in: "" the real one, else the folder of a rehearsed one."""
        return self.world.cloud

    @property
    def cloud_or_host(self) -> str:
        """Where the volumes of this run are: two runs with the same words here share what has the same label."""
        return self.cloud or self.world.ssh_host

    @property
    def ends_volume(self) -> bool:
        """Whether success deletes the volume: then the whole plan is done, and saved in every store."""
        if self.fleeting:
            return True
        saved = bool(self.stores) and any(p.artifacts for p in self.plan.phases)
        return self.world.throwaway or (self.whole_plan and saved)


def plain(text: str) -> str:
    """Lower case letters, digits and dashes only: what every provider takes in a name."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in text.lower()).strip("-")
