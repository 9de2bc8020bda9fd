"""The objects of the rehearsal's S3 on disk, between two daemons of a cloud that is kept. moto holds them in memory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

CHECKSUM = ("checksum_algorithm", "checksum_value", "checksum_type", "checksum_parts")


def save(backend: Any, folder: Path) -> None:
    """Write every object of every bucket into `folder`, which is replaced."""
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    keys = [key for bucket in backend.buckets.values() for key in bucket.keys.values()]
    for number, key in enumerate(keys):
        (new / f"{number}.data").write_bytes(key.value)
        facts = {
            "bucket": key.bucket_name,
            "key": key.name,
            "etag": key.etag.strip('"'),
            "metadata": dict(key.metadata),
        }
        facts |= {name: getattr(key, name) for name in CHECKSUM}
        (new / f"{number}.json").write_text(json.dumps(facts))
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)


def load(backend: Any, folder: Path) -> None:
    """Put the objects of `folder` back where they were."""
    for file in sorted(folder.glob("*.json")):
        facts = json.loads(file.read_text())
        if facts["bucket"] not in backend.buckets:
            backend.create_bucket(facts["bucket"], "us-east-1")
        key = backend.put_object(
            facts["bucket"], facts["key"], file.with_suffix(".data").read_bytes(), etag=facts["etag"]
        )
        key.set_metadata(facts["metadata"])
        for name in CHECKSUM:
            setattr(key, name, facts[name])
