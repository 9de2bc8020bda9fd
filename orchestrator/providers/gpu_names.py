"""gpuplan's names for GPUs, one for all clouds: model and memory, whatever the form factor."""

from __future__ import annotations

import re

# RunPod's id -> gpuplan's name. Cards sold with one size of memory only carry no size.
RUNPOD: dict[str, str] = {
    "NVIDIA GeForce RTX 3090": "RTX-3090",
    "NVIDIA GeForce RTX 4090": "RTX-4090",
    "NVIDIA GeForce RTX 5090": "RTX-5090",
    "NVIDIA RTX A5000": "RTX-A5000",
    "NVIDIA RTX A6000": "RTX-A6000",
    "NVIDIA RTX 6000 Ada Generation": "RTX-6000-ADA",
    "NVIDIA A40": "A40",
    "NVIDIA L4": "L4",
    "NVIDIA L40": "L40",
    "NVIDIA L40S": "L40S",
    "NVIDIA A100 80GB PCIe": "A100-80GB",
    "NVIDIA A100-SXM4-80GB": "A100-80GB",
    "NVIDIA H100 PCIe": "H100-80GB",
    "NVIDIA H100 80GB HBM3": "H100-80GB",
    "NVIDIA H100 NVL": "H100-94GB",
    "NVIDIA H200": "H200-141GB",
    "NVIDIA B200": "B200-180GB",
}

# Lambda's model words -> gpuplan's name without the memory; "" after the colon: sold with one size only.
LAMBDA: dict[str, str] = {
    "RTX 6000": "RTX-6000",
    "QUADRO RTX 6000": "RTX-6000",
    "RTX A6000": "RTX-A6000",
    "A6000": "RTX-A6000",
    "TESLA V100": "V100",
}
ONE_SIZE = frozenset({"RTX-6000", "RTX-A6000"})

KNOWN: tuple[str, ...] = tuple(
    sorted({*RUNPOD.values(), *ONE_SIZE, "A10-24GB", "A100-40GB", "V100-16GB", "GH200-96GB"})
)

_GB = re.compile(r"(\d+)\s*GB", re.IGNORECASE)


def from_runpod(type_id: str, memory_gb: int) -> str:
    """The name of a RunPod GPU id; one that is new to us: its words and its memory."""
    if type_id in RUNPOD:
        return RUNPOD[type_id]
    words = re.sub(r"^NVIDIA |GeForce | Generation$", "", type_id)
    slug = re.sub(r"[^A-Za-z0-9]+", "-", words).strip("-").upper()
    return slug if slug.endswith(f"-{memory_gb}GB") else f"{slug}-{memory_gb}GB"


def from_lambda(description: str) -> tuple[str, int]:
    """The name and the memory in GB of one GPU, from a text like `A100 (40 GB SXM4)`; memory 0: not stated."""
    words = re.sub(r"^\s*\d+x\s+", "", description.split("(", maxsplit=1)[0]).strip().upper()
    found = _GB.search(description)
    memory = int(found[1]) if found else 0
    model = LAMBDA.get(words, re.sub(r"[^A-Z0-9]+", "-", words).strip("-"))
    return (model if model in ONE_SIZE or not memory else f"{model}-{memory}GB"), memory
