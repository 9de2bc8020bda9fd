"""The dated price list that a plan is estimated with when no provider can be asked."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated

from pydantic import Field

from orchestrator.config.document import read_file
from orchestrator.config.problems import Problems, nearest
from orchestrator.config.validate import validate
from orchestrator.cost import HOURS_A_MONTH, gb_hour
from orchestrator.words import files
from orchestrator.words.model import GPU_MEMORY_GB, MachineNeed
from orchestrator.words.provider import Offer
from orchestrator.words.value import Value

Price = Annotated[Decimal, Field(gt=0, le=1_000_000)]  # USD


class PriceList(Value):
    """USD an hour, as read on a day."""

    read_on: str
    provider: str
    gpus: dict[str, Price]  # gpuplan's names -> one GPU
    spot_share: Decimal = Field(gt=0, le=1)  # of the price, for an interruptible machine
    cpu: Price  # a machine without GPU
    cpu_disk_gb: int = Field(ge=1, le=1_000_000)  # the most that its own disk can have
    disk_gb_month: Decimal = Field(ge=0, le=1_000_000)  # of a machine's own disk, beside its price
    volume_gb_month: Price

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
                GPU_MEMORY_GB[gpu],
                price * need.count * share,
                "",
                spot=spot,
                disk_gb_hour=gb_hour(self.disk_gb_month),
            )
            for gpu, price in self.gpus.items()
        ]

    def cpu_offer(self) -> Offer:
        """A machine without GPU."""
        disk = gb_hour(self.disk_gb_month)
        return Offer(self.provider, "CPU", "", 0, 0, self.cpu, "", disk_gb_hour=disk, most_disk_gb=self.cpu_disk_gb)

    def volume_hour(self, size_gb: int) -> Decimal:
        """USD an hour for a volume."""
        return self.volume_gb_month * size_gb / HOURS_A_MONTH


def load_prices(path: Path | None = None) -> PriceList:
    """Read configs/prices.yaml. ConfigErrors: everything that is wrong in it."""
    problems = Problems()
    prices, source = validate(PriceList, read_file(path or files.configs() / "prices.yaml", problems), problems)
    for gpu in prices.gpus if prices else ():
        if gpu not in GPU_MEMORY_GB:
            source.wrong(("gpus", gpu), f"unknown GPU {gpu}", nearest(gpu, GPU_MEMORY_GB))
    problems.raise_all()
    assert prices is not None, "what cannot be read has been raised"
    return prices
