"""A store as one text, and where its requests may be sent."""

from __future__ import annotations

import pytest

from orchestrator.words.errors import UsageError
from orchestrator.words.store_url import StorePlace, of_user, read_place, store_url

R2 = "https://0123.r2.cloudflarestorage.com"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("s3://b/p", StorePlace("s3://b/p")),
        ("gs://b/p", StorePlace("gs://b/p")),
        ("file:///a/b", StorePlace("file:///a/b")),
        (f"s3://b/p?endpoint_url={R2}", StorePlace("s3://b/p", R2, "auto")),
        (f"s3://b/p?endpoint_url={R2}/&region=weur", StorePlace("s3://b/p", R2, "weur")),
        (
            "s3://b?endpoint_url=https://s3.eu-central-003.backblazeb2.com&addressing=virtual",
            StorePlace("s3://b", "https://s3.eu-central-003.backblazeb2.com", "eu-central-003", virtual=True),
        ),
        ("s3://b/p?endpoint_url=https://minio.lab:9000", StorePlace("s3://b/p", "https://minio.lab:9000")),
        ("s3://b/p?endpoint_url=http://127.0.0.1:9000", StorePlace("s3://b/p", "http://127.0.0.1:9000")),
    ],
)
def test_a_text_is_taken_apart(url: str, place: StorePlace):
    """Address and region; R2's region is auto, B2's host names its own."""
    assert read_place(url) == place


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://minio.lab:9000", "https://", "minio.lab", "ftp://minio.lab", "https://me@minio.lab", "https://a b",
        "https://minio.lab/bucket", "https://minio.lab?x=1", "https://minio.lab:port", "https://[::1", "http://127.evil",
        "https://good.test\\@evil.test", "https://good.test#@evil.test", "",
    ],
)  # fmt: skip
def test_an_address_that_nothing_is_sent_to(endpoint: str):
    """TLS, or this computer; no bucket, no path, no password, nothing that two programs read in two ways."""
    with pytest.raises(UsageError, match="no address of a store"):
        read_place(store_url("s3://b/p", {"endpoint_url": endpoint}))


def test_a_password_is_not_said_again():
    """What stands before an @ is not in the error."""
    with pytest.raises(UsageError) as raised:
        read_place("s3://b/p?endpoint_url=https://me:hunter2@minio.lab")
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "environ", "found"),
    [
        ("s3://b/p", {}, "s3://b/p"),
        ("s3://b/p", {"AWS_ENDPOINT_URL_S3": R2}, f"s3://b/p?endpoint_url={R2}"),
        ("s3://b/p", {"AWS_ENDPOINT_URL": R2}, f"s3://b/p?endpoint_url={R2}"),
        ("s3://b/p", {"AWS_ENDPOINT_URL": "https://x.test", "AWS_ENDPOINT_URL_S3": R2}, f"s3://b/p?endpoint_url={R2}"),
        ("s3://b/p", {"AWS_ENDPOINT_URL_S3": R2, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, "s3://b/p"),
        ("s3://b/p?endpoint_url=https://x.test", {"AWS_ENDPOINT_URL_S3": R2}, "s3://b/p?endpoint_url=https://x.test"),
        ("gs://b/p", {"AWS_ENDPOINT_URL_S3": R2}, "gs://b/p"),
    ],
)
def test_the_users_own_address_becomes_a_part_of_the_text(url: str, environ: dict[str, str], found: str):
    """As Amazon's tools read it; what the settings say wins. So a run keeps it, and another shell changes nothing."""
    assert of_user(url, environ) == found
