"""What stores that speak like S3 refuse of it, each as its documents and its users' reports say.

R2: developers.cloudflare.com/r2/api/s3/api, /r2/objects/multipart-objects; aws-sdk-js-v3#6810, cloudflare-docs#19236.
B2: backblaze.com/docs/cloud-storage-s3-compatible-api; home-assistant/core#143995, django-storages#1498, zipline#746.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.rehearsal.s3_signature import Rejected, Request


@dataclass(frozen=True)
class Kind:
    """A vendor. Headers are refused by how their names begin; a signed URL has them in its query."""

    refused: tuple[str, ...] = ()
    status: int = 400
    code: str = ""
    words: str = "{name}"
    regions: tuple[str, ...] = ()  # that a signature may be for; (): any
    takes_chunks: bool = True  # bodies in S3's own chunks, with trailers
    equal_parts: bool = False  # all but the last have the same size
    hides_md5: bool = False  # the ETag of what is encrypted is none

    def admit(self, request: Request) -> None:
        """Pass what this vendor takes. Raises Rejected in its words."""
        said = {**request.headers, **{name.lower(): value for name, value in request.parameters().items()}}
        for name, value in said.items():
            if name.startswith(self.refused or ("\0",)):
                raise Rejected(self.status, self.code, self.words.format(name=name, value=value))
        body = request.headers.get("x-amz-content-sha256", "")
        if body.startswith("STREAMING-") and not self.takes_chunks:
            raise Rejected(501, "NotImplemented", f"{body} not implemented")
        if self.regions and (region := _region(request, said)) not in self.regions:
            must = f"The region name '{region}' is not valid. Must be one of: {', '.join(self.regions)}"
            raise Rejected(400, "InvalidRegionName", must)

    def admit_parts(self, sizes: Sequence[int]) -> None:
        """Pass the parts of an object that is to be joined."""
        if self.equal_parts and len(set(sizes[:-1])) > 1:
            raise Rejected(400, "InvalidPart", "All non-trailing parts must have the same length.")


def _region(request: Request, said: dict[str, str]) -> str:
    credential = said.get("x-amz-credential") or request.headers.get("authorization", "").partition("Credential=")[2]
    scope = credential.split(",")[0].split("/")
    return scope[2] if len(scope) > 2 else ""


AMAZON = Kind()
_CHECKSUMS = ("x-amz-checksum-", "x-amz-sdk-checksum-", "x-amz-trailer")
KINDS: dict[str, Kind] = {
    "r2": Kind(
        (*_CHECKSUMS, "x-amz-mp-object-size"), 501, "NotImplemented",
        "Header '{name}' with value '{value}' not implemented",
        ("auto", "us-east-1", "wnam", "enam", "weur", "eeur", "apac", "oc"), takes_chunks=False, equal_parts=True,
    ),
    "b2": Kind(
        (*_CHECKSUMS, "x-amz-mp-object-size"), 400, "InvalidArgument",
        "Unsupported header '{name}' received for this API call.", ("us-west-004",), takes_chunks=False,
    ),
    "encrypting": Kind(_CHECKSUMS, 400, "InvalidArgument", "Unsupported header '{name}'", hides_md5=True),
}  # fmt: skip
