"""Telling in milliseconds whether two large files are the same, without reading all of them."""

import hashlib
from pathlib import Path

SAMPLES = 64
SAMPLE_BYTES = 4096


def fingerprint(path: Path, samples: int = SAMPLES) -> dict[str, str | int]:
    """Return the file's size and a hash over its start and evenly spread samples (not over every byte)."""
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for sample in range(samples):
            file.seek(max(0, size - SAMPLE_BYTES) * sample // (samples - 1))
            digest.update(file.read(SAMPLE_BYTES))
    return {"bytes": size, "sample": digest.hexdigest()}
