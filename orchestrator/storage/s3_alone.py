"""A file that is one part, sent to an S3 by one signed PUT: nothing is opened before, and nothing joined after it."""

from __future__ import annotations

from typing import Any

from orchestrator.storage.s3_proof import Proof
from orchestrator.words.store import Part, SignedPart, Upload

TOKEN = ""  # of such an upload: the store knows of none
KIND = "application/octet-stream"


def signed(client: Any, bucket: str, upload: Upload, part: Part, proof: Proof, seconds: int, tag: str) -> SignedPart:
    """The PUT of the whole object, with what it must be and the sha256 (as the metadata `tag`) in the signature."""
    covered, headers = proof.part(part)
    asked = {"Bucket": bucket, "Key": upload.key, "ContentType": KIND, "Metadata": {tag: upload.sha256}, **covered}
    url = client.generate_presigned_url("put_object", Params=asked, ExpiresIn=seconds)
    return SignedPart(part, url, {**headers, "Content-Type": KIND, f"x-amz-meta-{tag}": upload.sha256}, (200,))


def is_stored(found: dict[str, Any] | None, upload: Upload, tag: str) -> bool:
    """Whether the object at that key is this very file. A PUT is whole or nothing: its metadata came with its bytes."""
    return found is not None and (found["ContentLength"], found["Metadata"].get(tag)) == (upload.bytes, upload.sha256)
