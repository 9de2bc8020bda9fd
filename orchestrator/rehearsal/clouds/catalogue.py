"""What the emulated vendors sell: types, list prices in USD, places. Third-party readings of November 2026, +-20 %.

A catalogue is not live: prices rose by 10 to 30 % in the autumn of 2026, and gpuplan reads the real one at run time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

SPOT_SHARE = Decimal("0.5")  # last known interruptible prices were about half of the list price

HIGH, MEDIUM, LOW = "HIGH", "MEDIUM", "LOW"


@dataclass(frozen=True)
class Gpu:
    """A GPU type. RunPod's id is the name that nvidia-smi prints. Prices are for one GPU and one hour."""

    id: str
    name: str
    memory_gb: int
    memory_mib: int  # as nvidia-smi says
    secure: Decimal
    community: Decimal | None
    max_secure: int = 8
    max_community: int = 4
    vcpus: int = 16  # of the host, for each GPU
    pool: str | None = None

    @property
    def minimum_bid(self) -> Decimal:
        """USD an hour for one interruptible GPU."""
        return (self.secure * SPOT_SHARE).quantize(Decimal("0.001"))


@dataclass(frozen=True)
class Cpu:
    """A CPU flavour, sold by the vCPU."""

    id: str
    name: str
    group: str
    ram_gb_per_vcpu: int
    price: Decimal
    max_vcpu: int = 32

    @property
    def disk_gb_per_vcpu(self) -> int:
        """GB of the container's own disk that go with each vCPU."""
        return 10 if self.group == "Gen 3" else 15


@dataclass(frozen=True)
class Place:
    """A data centre: its stock is level and largest machine, by GPU id."""

    id: str
    region: str
    country: str
    gpus: dict[str, tuple[str, int]]
    cpus: dict[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ("STANDARD", "HIGH_PERFORMANCE")
    global_network: bool = True
    compliance: tuple[str, ...] = ("SOC_2_TYPE_2",)


RTX_4090, L40S = "NVIDIA GeForce RTX 4090", "NVIDIA L40S"
A100_PCIE, A100_SXM = "NVIDIA A100 80GB PCIe", "NVIDIA A100-SXM4-80GB"
H100_PCIE, H100_NVL, H100_SXM = "NVIDIA H100 PCIe", "NVIDIA H100 NVL", "NVIDIA H100 80GB HBM3"
H200, B200 = "NVIDIA H200", "NVIDIA B200"


def _usd(text: str) -> Decimal:
    return Decimal(text)


GPUS = {
    gpu.id: gpu
    for gpu in (
        Gpu(RTX_4090, "RTX 4090", 24, 24564, _usd("0.74"), _usd("0.34"), pool="ADA_24"),
        Gpu(L40S, "L40S", 48, 46068, _usd("0.99"), _usd("0.79"), pool="ADA_48_PRO"),
        Gpu(A100_PCIE, "A100 PCIe", 80, 81920, _usd("1.79"), _usd("1.19"), pool="AMPERE_80"),
        Gpu(A100_SXM, "A100 SXM", 80, 81920, _usd("1.79"), _usd("1.39"), pool="AMPERE_80"),
        Gpu(H100_PCIE, "H100 PCIe", 80, 81559, _usd("2.89"), _usd("1.99"), pool="ADA_80_PRO"),
        Gpu(H100_NVL, "H100 NVL", 94, 95830, _usd("3.19"), _usd("2.59")),
        Gpu(H100_SXM, "H100 SXM", 80, 81559, _usd("3.99"), _usd("2.69"), pool="ADA_80_PRO"),
        Gpu(H200, "H200 SXM", 141, 143771, _usd("4.59"), None, max_community=0),
        Gpu(B200, "B200", 180, 183359, _usd("6.79"), _usd("5.98")),
    )
}

# Two prices are on record: 0.03 (cpu3c, a fixture) and 0.04 (cpu5c, the specification's example). The other
# flavours are priced by their memory from those two; no document states them.
CPUS = {
    cpu.id: cpu
    for cpu in (
        Cpu("cpu3c", "Compute-Optimized", "Gen 3", 2, _usd("0.03")),
        Cpu("cpu3g", "General Purpose", "Gen 3", 4, _usd("0.04")),
        Cpu("cpu3m", "Memory-Optimized", "Gen 3", 8, _usd("0.05")),
        Cpu("cpu5c", "Compute-Optimized", "Gen 5", 2, _usd("0.04")),
        Cpu("cpu5g", "General Purpose", "Gen 5", 4, _usd("0.05")),
        Cpu("cpu5m", "Memory-Optimized", "Gen 5", 8, _usd("0.06")),
    )
}

_ALL_CPUS = dict.fromkeys(CPUS, HIGH)

# Which place sells what is made up, so that the choice of a place matters: two sell all that the plan needs,
# one does but for the private network, the others lack a type, storage or CPU machines.
PLACES = {
    place.id: place
    for place in (
        Place(
            "EU-RO-1",
            "EUROPE",
            "RO",
            {
                RTX_4090: (HIGH, 8),
                L40S: (MEDIUM, 4),
                A100_PCIE: (HIGH, 8),
                A100_SXM: (MEDIUM, 8),
                H100_SXM: (MEDIUM, 8),
            },
            _ALL_CPUS,
            compliance=("GDPR", "ISO_IEC_27001", "SOC_2_TYPE_2"),
        ),
        Place(
            "US-KS-2",
            "NORTH_AMERICA",
            "US",
            {
                RTX_4090: (MEDIUM, 8),
                L40S: (LOW, 2),
                A100_PCIE: (MEDIUM, 8),
                A100_SXM: (HIGH, 8),
                H100_PCIE: (LOW, 4),
                H100_SXM: (HIGH, 8),
                H200: (LOW, 8),
                B200: (LOW, 8),
            },
            _ALL_CPUS,
            compliance=("SOC_2_TYPE_2", "ISO_IEC_27001"),
        ),
        Place("US-TX-3", "NORTH_AMERICA", "US", {RTX_4090: (HIGH, 8), L40S: (HIGH, 8)}, {"cpu3c": MEDIUM}),
        Place("CA-MTL-1", "NORTH_AMERICA", "CA", {A100_SXM: (HIGH, 8), H100_NVL: (MEDIUM, 4)}, global_network=False),
        # Seven of the vendor's 15 places for volumes have no private network, at the same prices as the others.
        Place(
            "CA-MTL-3",
            "NORTH_AMERICA",
            "CA",
            {RTX_4090: (HIGH, 8), A100_PCIE: (HIGH, 8), A100_SXM: (HIGH, 8), H100_SXM: (HIGH, 8)},
            _ALL_CPUS,
            global_network=False,
        ),
        Place("EU-SE-1", "EUROPE", "SE", {RTX_4090: (LOW, 4), A100_PCIE: (LOW, 2)}, volumes=()),
        Place("AP-JP-1", "ASIA", "JP", {H100_SXM: (LOW, 2), H200: (MEDIUM, 8)}, {"cpu5c": LOW}, volumes=("STANDARD",)),
    )
}


@dataclass(frozen=True)
class InstanceType:
    """A Lambda instance type; regions are those that are listed with capacity."""

    name: str
    gpu: str  # the vendor's words
    smi: str  # nvidia-smi's
    gpus: int
    memory_mib: int
    cents: int
    vcpus: int
    memory_gib: int
    storage_gib: int
    regions: tuple[str, ...]

    @property
    def description(self) -> str:
        """The vendor's one line."""
        return f"{self.gpus}x {self.gpu}" if self.gpus else self.gpu


_A100_40, _H100, _B200 = "A100 (40 GB SXM4)", "H100 (80 GB SXM5)", "B200 (180 GB SXM6)"
_SMI_A100, _SMI_H100, _SMI_B200 = "NVIDIA A100-SXM4-40GB", "NVIDIA H100 80GB HBM3", "NVIDIA B200"
_EAST, _WEST, _SOUTH = "us-east-1", "us-west-1", "us-south-1"

INSTANCE_TYPES = {
    kind.name: kind
    for kind in (
        InstanceType("gpu_1x_a10", "A10 (24 GB PCIe)", "NVIDIA A10", 1, 23028, 129, 30, 226, 1400, (_EAST, _WEST)),
        InstanceType("gpu_1x_rtx6000", "RTX 6000 (24 GB)", "Quadro RTX 6000", 1, 24576, 69, 14, 46, 512, (_SOUTH,)),
        InstanceType("gpu_1x_a6000", "A6000 (48 GB)", "NVIDIA RTX A6000", 1, 49140, 109, 14, 100, 512, (_EAST,)),
        InstanceType("gpu_2x_a6000", "A6000 (48 GB)", "NVIDIA RTX A6000", 2, 49140, 218, 28, 200, 1024, (_EAST,)),
        InstanceType("gpu_4x_a6000", "A6000 (48 GB)", "NVIDIA RTX A6000", 4, 49140, 436, 56, 400, 1024, ()),
        InstanceType("gpu_1x_a100_sxm4", _A100_40, _SMI_A100, 1, 40960, 199, 30, 200, 512, (_EAST, _WEST)),
        InstanceType("gpu_1x_a100", "A100 (40 GB PCIe)", "NVIDIA A100-PCIE-40GB", 1, 40960, 199, 30, 200, 512, ()),
        InstanceType(
            "gpu_8x_a100_80gb_sxm4", "A100 (80 GB SXM4)", A100_SXM, 8, 81920, 2232, 240, 1800, 19456, (_EAST,)
        ),
        InstanceType("gpu_1x_h100_pcie", "H100 (80 GB PCIe)", H100_PCIE, 1, 81559, 329, 26, 200, 1024, (_WEST,)),
        InstanceType("gpu_1x_h100_sxm5", _H100, _SMI_H100, 1, 81559, 429, 26, 225, 2816, (_EAST, _SOUTH)),
        InstanceType("gpu_2x_h100_sxm5", _H100, _SMI_H100, 2, 81559, 838, 52, 450, 5632, (_EAST, _SOUTH)),
        InstanceType("gpu_4x_h100_sxm5", _H100, _SMI_H100, 4, 81559, 1636, 104, 900, 11264, (_EAST,)),
        InstanceType("gpu_8x_h100_sxm5", _H100, _SMI_H100, 8, 81559, 3192, 208, 1800, 22528, (_EAST,)),
        InstanceType(
            "gpu_1x_gh200", "GH200 (96 GB)", "NVIDIA GH200 480GB", 1, 97871, 229, 64, 432, 4096, ("us-east-3",)
        ),
        InstanceType("gpu_1x_b200_sxm6", _B200, _SMI_B200, 1, 183359, 699, 26, 360, 2816, (_SOUTH,)),
        InstanceType("gpu_2x_b200_sxm6", _B200, _SMI_B200, 2, 183359, 1378, 52, 720, 5632, (_SOUTH,)),
        InstanceType("gpu_8x_b200_sxm6", _B200, _SMI_B200, 8, 183359, 5352, 208, 2900, 22528, ()),
        InstanceType(
            "gpu_8x_v100", "Tesla V100 (16 GB)", "Tesla V100-SXM2-16GB", 8, 16384, 632, 88, 448, 5939, (_SOUTH,)
        ),
        InstanceType("cpu_4x_general", "4 CPU Cores", "", 0, 0, 20, 4, 16, 512, (_EAST, _WEST)),
    )
}

REGIONS = {
    "us-east-1": "Virginia, USA",
    "us-east-2": "Washington DC, USA",
    "us-east-3": "Washington DC, USA",
    "us-west-1": "California, USA",
    "us-west-2": "Arizona, USA",
    "us-west-3": "Utah, USA",
    "us-south-1": "Texas, USA",
    "us-south-2": "North Texas, USA",
    "us-south-3": "Central Texas, USA",
    "us-midwest-1": "Illinois, USA",
    "us-midwest-2": "Ohio, USA",
    "europe-central-1": "Germany",
    "europe-south-1": "Italy",
    "asia-south-1": "India",
    "asia-northeast-1": "Osaka, Japan",
    "asia-northeast-2": "Tokyo, Japan",
    "me-west-1": "Israel",
    "australia-east-1": "Australia",
}

HOURS_A_MONTH = 730  # 365 * 24 / 12: neither vendor says how its month is turned into hours


def volume_price_hour(size_gb: int, kind: str = "STANDARD") -> Decimal:
    """USD an hour for a RunPod network volume: 0.07 a GB-month up to 1000 GB, 0.05 beyond; the fast tier 0.14."""
    if kind != "STANDARD":
        return size_gb * Decimal("0.14") / HOURS_A_MONTH
    first, beyond = min(size_gb, 1000), max(size_gb - 1000, 0)
    return (first * Decimal("0.07") + beyond * Decimal("0.05")) / HOURS_A_MONTH


DISK_USD_PER_GB_MONTH = Decimal("0.10")  # RunPod, for a pod's own disk, while the pod is RUNNING


def disk_price_hour(size_gb: int) -> Decimal:
    """USD an hour for the container's own disk of a RunPod pod, of whichever kind."""
    return size_gb * DISK_USD_PER_GB_MONTH / HOURS_A_MONTH


FILE_SYSTEM_USD_PER_GB_MONTH = Decimal("0.20")  # Lambda, for the bytes that are used


def file_system_price_hour(used_bytes: int) -> Decimal:
    """USD an hour for a Lambda filesystem that holds so much."""
    return Decimal(used_bytes) / 10**9 * FILE_SYSTEM_USD_PER_GB_MONTH / HOURS_A_MONTH
