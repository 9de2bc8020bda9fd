"""The plan of one phase and one step by which a provider is asked, what it may cost at most, and what it printed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from pathlib import Path
from typing import Any

from orchestrator.engine.provisioning import SPARE_S
from orchestrator.plan import with_disk
from orchestrator.words.errors import NoMachine, OverBudget
from orchestrator.words.model import GPU_MEMORY_GB, Defaults, MachineNeed, Phase, Plan, Step, VolumeNeed
from orchestrator.words.provider import Capability, Offer, Provider

PHASE, STEP = "probe", "look"
TIMEOUT_S, READINESS_S = 900.0, 600.0
LINGER_S = 120.0  # that the machine lives on for its private address: as long as nodes of a phase are waited for
DEADMAN_MINUTES = 10.0
DISK_GB, VOLUME_GB = 20, 10  # the smallest that are sold
VOLUME_DAYS = 1
DEARER = Decimal("1.5")  # a type that costs up to so much more is tried where the cheapest is sold out
TIERS = 2  # the dearest kind of volume costs so many times what the usual one does
PREFIX = "probe: "
LOOK = """python3 - <<'PROBE'
import importlib.metadata, json, os, subprocess
try:
    torch = importlib.metadata.version("torch")
except importlib.metadata.PackageNotFoundError:
    torch = "none"
shown = subprocess.run(["df", "-kP", os.environ["WORKSPACE"]], capture_output=True, text=True).stdout
print("probe: " + json.dumps({"torch": torch, "disk_kib": int(shown.splitlines()[-1].split()[1])}), flush=True)
PROBE
sleep %g
"""


@dataclass(frozen=True)
class Probe:
    """One provider's machine before it is rented. `usd`: the most that it may cost, at its deadline's end."""

    provider: str
    offer: Offer
    most_hour: Decimal
    has_volume: bool
    usd: Decimal

    def plan(self, plan: Plan, cap: Decimal, time_scale: float) -> Plan:
        """One phase on that machine, with the images of the plan at hand and nothing else of it."""
        phase = Phase(
            name=PHASE,
            machine=MachineNeed(gpu=(self.offer.gpu,), disk_gb=DISK_GB, staging="none"),
            volume=VolumeNeed(name=PHASE, size_gb=VOLUME_GB) if self.has_volume else None,
            max_usd_hour=self.most_hour,
            budget_usd=cap,
            timeout=TIMEOUT_S,
            steps=(Step(name=STEP, run=LOOK % (LINGER_S * time_scale), timeout=TIMEOUT_S),),
        )
        settings = plan.settings.model_copy(update={
            "plan": "", "stores": (), "notify": (), "code": "", "requirements": (), "requirements_gpu": (),
            "setup": "", "defaults": Defaults(), "publish": None, "budget_usd": cap, "volume_days": VOLUME_DAYS,
            "max_replacements": 0, "readiness_seconds": READINESS_S, "deadman_minutes": DEADMAN_MINUTES,
        })  # fmt: skip
        return Plan(name=f"doctor-live-{self.provider}", phases=(phase,), settings=settings)


def priced(provider: Provider, plan: Plan, cap: Decimal) -> Probe:
    """The cheapest machine with one GPU on sale there now. NoMachine: none is; OverBudget: it may cost more than that.

    With a GPU, because the image with torch and the private network are asked about too.
    """
    cuda = plan.settings.cuda.get(provider.name, "")
    sold = [with_disk(offer, DISK_GB) for offer in provider.offers(gpus=1, spot=False, min_cuda=cuda)]
    network = Capability.PRIVATE_NETWORK in provider.capabilities
    fit = [o for o in sold if o.available and o.gpu in GPU_MEMORY_GB and (o.private_network or not network)]
    if not fit:
        raise NoMachine(f"{provider.name}: no machine with one GPU is for sale just now", remedy="ask again later")
    offer = min(fit, key=lambda o: (o.price_hour, o.place))
    has_volume = Capability.QUOTA in provider.capabilities  # elsewhere a volume has no size that could be shown
    volume = provider.volume_price_hour(VOLUME_GB) * TIERS * 24 * VOLUME_DAYS if has_volume else Decimal(0)
    hours = Decimal(TIMEOUT_S + SPARE_S) / 3600
    least = offer.price_hour * hours + volume
    if least > cap:
        raise OverBudget(
            f"{provider.name}: its cheapest machine, {offer.gpu} at ${offer.price_hour:.4f} an hour, "
            f"may cost ${least:.2f} until its deadline, more than ${cap}",
            remedy="raise --max-usd, or ask another --provider",
        )
    affordable = ((cap - volume) / hours).quantize(Decimal("0.0001"), ROUND_DOWN)
    most = max(min(offer.price_hour * DEARER, affordable), offer.price_hour)
    return Probe(provider.name, offer, most, has_volume, most * hours + volume)


def printed(folder: Path) -> dict[str, Any]:
    """What the step has said, from its log in the run's folder; {}: nothing yet."""
    try:
        lines = (folder / "logs" / PHASE / f"{STEP}.log").read_text(errors="replace").splitlines()
    except OSError:
        return {}
    for line in reversed(lines):
        if line.startswith(PREFIX):
            try:
                said = json.loads(line.removeprefix(PREFIX))
            except ValueError:
                continue
            return said if isinstance(said, dict) else {}
    return {}
