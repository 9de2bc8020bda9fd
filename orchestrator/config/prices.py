"""The dated price list that a plan is estimated with when no provider can be asked."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import yaml

from orchestrator.cost import HOURS_A_MONTH
from orchestrator.words import files
from orchestrator.words.model import GPU_MEMORY_GB, MachineNeed
from orchestrator.words.ports import Offer


@dataclass(frozen=True, slots=True)
class PriceList:
    """USD an hour, as read on a day."""

    read_on: str
    provider: str
    gpus: dict[str, Decimal]
    spot_share: Decimal
    cpu: Decimal
    volume_gb_month: Decimal

    def offers(self, need: MachineNeed, *, spot: bool) -> list[Offer]:
        """What the list has with that many GPUs; a CPU machine where no GPU is needed."""
        share = self.spot_share if spot else Decimal(1)
        if not need.gpu:
            return [self.cpu_offer()]
        return [
            Offer(
                self.provider,
                gpu,
                gpu,
                need.count,
                GPU_MEMORY_GB.get(gpu, 0),
                price * need.count * share,
                "",
                spot=spot,
            )
            for gpu, price in self.gpus.items()
        ]

    def cpu_offer(self) -> Offer:
        """A machine without GPU."""
        return Offer(self.provider, "CPU", "", 0, 0, self.cpu, "")

    def volume_hour(self, size_gb: int) -> Decimal:
        """USD an hour for a volume."""
        return self.volume_gb_month * size_gb / HOURS_A_MONTH


def load_prices(path: Path | None = None) -> PriceList:
    """Read configs/prices.yaml."""
    data = yaml.safe_load((path or files.configs() / "prices.yaml").read_text())
    return PriceList(
        read_on=str(data["read_on"]),
        provider=str(data["provider"]),
        gpus={name: Decimal(str(price)) for name, price in data["gpus"].items()},
        spot_share=Decimal(str(data["spot_share"])),
        cpu=Decimal(str(data["cpu"])),
        volume_gb_month=Decimal(str(data["volume_gb_month"])),
    )
