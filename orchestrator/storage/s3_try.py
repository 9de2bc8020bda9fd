"""Whether a signed URL of an S3 does what it is signed for: tried here, before a machine has to."""

from __future__ import annotations

import httpx

from orchestrator.words import web
from orchestrator.words.errors import StoreBusy, StoreUnavailable, UsageError
from orchestrator.words.outside import quoted
from orchestrator.words.store import SignedPart

SEND_S, WORDS_SHOWN = 30.0, 300


def send_as_a_machine(store: str, signed: SignedPart, body: bytes) -> None:
    """Send a part by its URL as a machine does: without credentials, and following no redirect.

    StoreBusy, StoreUnavailable: not now. UsageError: refused, with the store's words and what to do.
    """
    try:
        with web.client(signed.url, timeout=SEND_S, follow_redirects=False) as client:
            reply = client.put(signed.url, content=body, headers=signed.headers)
    except httpx.RequestError as error:
        raise StoreUnavailable(f"{store} cannot be reached by a signed URL: {error}") from error
    if reply.status_code in StoreBusy.STATUSES:
        raise StoreBusy(f"{store}: a signed URL is answered with {reply.status_code}")
    if reply.status_code not in signed.accept:
        said = quoted(web.readable(reply.text), WORDS_SHOWN)
        where = "set AWS_REGION to the bucket's own" if reply.is_redirect else allow("s3:PutObject")
        raise UsageError(f"{store}: a signed URL is answered with {reply.status_code}: {said}", remedy=where)


def allow(right: str) -> str:
    """What to do where a right is missing."""
    return f"allow {right} on the prefix"
