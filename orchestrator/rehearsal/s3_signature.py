"""AWS Signature Version 4, checked as S3 checks it: signed URLs (in the query) and signed requests (in a header)."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote

ALGORITHM = "AWS4-HMAC-SHA256"
MAX_EXPIRES = timedelta(days=7)
MAX_SKEW = timedelta(minutes=15)
HEADER = re.compile(r"Credential=([^,\s]+),\s*SignedHeaders=([^,\s]+),\s*Signature=([0-9a-f]+)")


class Rejected(Exception):
    """S3's refusal of a request: HTTP status, its error code, and words; the region that it says, if it does."""

    def __init__(self, status: int, code: str, message: str, region: str = "") -> None:
        super().__init__(message)
        self.region = region
        self.status = status
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Request:
    """What a signature covers. `path` is the decoded path's bytes; headers' names are in lower case."""

    method: str
    path: bytes
    query: str
    headers: Mapping[str, str]

    def parameters(self) -> dict[str, str]:
        """Return the query, decoded."""
        return dict(_pairs(self.query))


@dataclass(frozen=True)
class _Claim:
    credential: str
    date: str
    signed_headers: list[str]
    signature: str
    payload: str


def verify(request: Request, access_key: str, secret_key: str, *, now: datetime | None = None) -> None:
    """Pass when the request is signed by this key and not expired. Raises Rejected in S3's words."""
    now = now or datetime.now(UTC)
    parameters = request.parameters()
    claim = _from_query(parameters, now) if "X-Amz-Signature" in parameters else _from_header(request.headers, now)
    key_id, _, scope = claim.credential.partition("/")
    if key_id != access_key:
        raise Rejected(403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
    if "host" not in claim.signed_headers or scope.count("/") != 3:
        raise Rejected(400, "AuthorizationQueryParametersError", "The credential scope or the signed headers are wrong")
    text = "\n".join([ALGORITHM, claim.date, scope, hashlib.sha256(_canonical(request, claim).encode()).hexdigest()])
    expected = hmac.new(_signing_key(secret_key, scope), text.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, claim.signature):
        words = "The request signature we calculated does not match the signature you provided."
        raise Rejected(403, "SignatureDoesNotMatch", words)


def _from_query(parameters: dict[str, str], now: datetime) -> _Claim:
    try:
        signed_at = _time(parameters["X-Amz-Date"])
        lifetime = timedelta(seconds=int(parameters["X-Amz-Expires"]))
        claim = _Claim(
            parameters["X-Amz-Credential"],
            parameters["X-Amz-Date"],
            parameters["X-Amz-SignedHeaders"].split(";"),
            parameters["X-Amz-Signature"],
            "UNSIGNED-PAYLOAD",
        )
    except (KeyError, ValueError):
        words = "Query-string authentication version 4 requires all of its X-Amz parameters."
        raise Rejected(400, "AuthorizationQueryParametersError", words) from None
    if lifetime > MAX_EXPIRES:
        raise Rejected(400, "AuthorizationQueryParametersError", "X-Amz-Expires must be less than a week")
    if now > signed_at + lifetime:
        raise Rejected(403, "AccessDenied", "Request has expired")
    if signed_at > now + MAX_SKEW:
        raise Rejected(403, "AccessDenied", "Request is not valid yet")
    return claim


def _from_header(headers: Mapping[str, str], now: datetime) -> _Claim:
    given = headers.get("authorization", "")
    match = HEADER.search(given)
    if not given.startswith(ALGORITHM) or match is None:
        raise Rejected(403, "AccessDenied", "Access Denied")  # S3 says this to the unsigned and to version 2
    date = headers.get("x-amz-date", "")
    try:
        skew = abs(now - _time(date))
    except ValueError:
        raise Rejected(403, "AccessDenied", "AWS authentication requires a valid x-amz-date header") from None
    if skew > MAX_SKEW:
        words = "The difference between the request time and the current time is too large."
        raise Rejected(403, "RequestTimeTooSkewed", words)
    payload = headers.get("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
    return _Claim(match[1], date, match[2].split(";"), match[3], payload)


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def _pairs(query: str) -> list[tuple[str, str]]:
    split = (part.partition("=") for part in query.split("&") if part)
    return [(unquote(name), unquote(value)) for name, _, value in split]


def _canonical(request: Request, claim: _Claim) -> str:
    pairs = sorted(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
        for name, value in _pairs(request.query)
        if name != "X-Amz-Signature"
    )
    headers = [f"{name}:{' '.join(request.headers.get(name, '').split())}" for name in claim.signed_headers]
    return "\n".join(
        [
            request.method,
            quote(request.path, safe="/-_.~"),
            "&".join(pairs),
            *headers,
            "",
            ";".join(claim.signed_headers),
            claim.payload,
        ]
    )


def _signing_key(secret: str, scope: str) -> bytes:
    key = b"AWS4" + secret.encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
