"""What S3's own errors mean: the user's fault, a passing one, or the object's."""

from __future__ import annotations

from botocore import exceptions as boto_errors

from orchestrator.storage.layout import UploadGone
from orchestrator.words.errors import StepFailed, StoreBusy, StoreUnavailable, UsageError
from orchestrator.words.store import Upload

_WORDS: dict[str, str] = {
    "NoSuchBucket": "there is no such bucket: create it, or correct the URL",
    "AccessDenied": "these credentials may not do this: they need s3:PutObject, s3:GetObject, "
    "s3:ListMultipartUploadParts and s3:AbortMultipartUpload on the prefix",
    "ExpiredToken": "the credentials have expired: log in again",
    "ExpiredTokenException": "the credentials have expired: log in again",
    "RequestExpired": "the credentials have expired, or this computer's clock is wrong",
    "RequestTimeTooSkewed": "this computer's clock is wrong",
    "InvalidAccessKeyId": "the access key is unknown: check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret key does not fit the access key: check AWS_SECRET_ACCESS_KEY",
    "PermanentRedirect": "the bucket is in another region: set AWS_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set AWS_REGION",
    "InvalidRegionName": "the store has no such region: set region: beside its endpoint_url (auto for R2)",
    "NotImplemented": "this store lacks something that an upload needs",
    "InvalidBucketName": "this is not a valid bucket name",
}
_BUSY = frozenset({"SlowDown", "ServiceUnavailable", "Throttling", "503", "429"})
_PASSING = frozenset({"RequestTimeout", "InternalError", "500"})
ABSENT = frozenset({"NoSuchKey", "NotFound", "404"})
FORBIDDEN = frozenset({"AccessDenied", "Forbidden", "403"})


def failure(url: str, error: Exception, upload: Upload | None = None) -> Exception:
    """An error of boto3's about the store at a URL, in our words: the user's fault, a passing one, or the object's."""
    if isinstance(error, boto_errors.NoCredentialsError | boto_errors.PartialCredentialsError):
        return UsageError(f"{url}: no credentials", remedy="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if not isinstance(error, boto_errors.ClientError):
        return StoreUnavailable(f"{url} cannot be reached: {error}")
    code, words = code_of(error), error.response.get("Error", {}).get("Message", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    said = f"{url}: {code}: {words}"
    if code in _WORDS:
        return UsageError(said, remedy=_WORDS[code])
    if code in _BUSY or status in StoreBusy.STATUSES:
        return StoreBusy(said)
    if code in _PASSING or status >= 500:
        return StoreUnavailable(said)
    if code in ABSENT:
        return FileNotFoundError(said)
    about = f"{url}: {upload.key}: {code}: {words}" if upload else said
    return UploadGone(about) if code == "NoSuchUpload" else StepFailed(about)


def code_of(error: boto_errors.ClientError) -> str:
    """The store's own code for an error; "": it has none."""
    return str(error.response.get("Error", {}).get("Code", ""))
