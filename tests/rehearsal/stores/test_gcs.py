"""The rehearsal's GCS against the official client and plain HTTP."""

from __future__ import annotations

import base64
import http.client
import os
import urllib.parse
from typing import Any

import google_crc32c
import pytest
from google.api_core.exceptions import Forbidden, NotFound, PreconditionFailed

from tests.rehearsal.stores.gcs_served import GcsServed

KIB = 1024


def crc32c(data: bytes) -> str:
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def put(uri: str, body: bytes, content_range: str, cut: int | None = None) -> tuple[int, dict[str, str]]:
    """PUT as the agent does it; `cut` sends only so many bytes and hangs up. (0, {}): no answer."""
    url = urllib.parse.urlsplit(uri)
    connection = http.client.HTTPConnection(url.netloc, timeout=10)
    connection.putrequest("PUT", f"{url.path}?{url.query}")
    connection.putheader("Content-Length", str(len(body)))
    connection.putheader("Content-Range", content_range)
    connection.endheaders()
    try:
        connection.send(body[:cut])
        if cut is not None:
            return 0, {}
        answer = connection.getresponse()
        answer.read()
        return answer.status, dict(answer.headers)
    except OSError:
        return 0, {}
    finally:
        connection.close()


def begin(gcs: GcsServed, name: str, size: int, **properties: str) -> str:
    blob = gcs.client().bucket(gcs.bucket).blob(name)
    for key, value in properties.items():
        setattr(blob, key, value)
    return blob.create_resumable_upload_session(size=size)


def kept(uri: str, total: int) -> int | None:
    """How much the session holds; None: it is finished."""
    status, headers = put(uri, b"", f"bytes */{total}")
    if status in {200, 201}:
        return None
    assert status == 308
    return int(headers["Range"].rsplit("-", 1)[1]) + 1 if "Range" in headers else 0


@pytest.mark.parametrize("name", ["glm.m", "runs/1/out put/größe+1.m"])
def test_the_official_client_stores_lists_reads_and_deletes(gcs: GcsServed, name: str):
    """Upload (whole and resumable), metadata, listing, ranges and deletion work with google-cloud-storage."""
    bucket = gcs.client().bucket(gcs.bucket)
    data = os.urandom(700 * KIB)
    blob = bucket.blob(name, chunk_size=256 * KIB)
    blob.metadata = {"sha256": "x"}
    blob.upload_from_string(data, checksum="crc32c", if_generation_match=0)
    found = bucket.get_blob(name)
    assert (found.size, found.crc32c, found.metadata) == (len(data), crc32c(data), {"sha256": "x"})
    assert found.download_as_bytes() == data
    assert found.download_as_bytes(start=1000, end=1999) == data[1000:2000]
    assert name in [item.name for item in bucket.list_blobs(prefix=name[:3])]
    with pytest.raises(PreconditionFailed):
        bucket.blob(name).upload_from_string(b"other", if_generation_match=0)
    found.delete()
    with pytest.raises(Forbidden):  # who may not list is told no more
        bucket.get_blob(name)
    small = bucket.blob("small")
    small.upload_from_string(b"{}", content_type="application/json")
    assert small.download_as_bytes() == b"{}"


def test_buckets_are_made_and_looked_up(gcs: GcsServed):
    """A bucket can be made once; an unknown one is 404."""
    client = gcs.client()
    client.create_bucket("another-bucket")
    assert client.get_bucket("another-bucket").name == "another-bucket"
    with pytest.raises(NotFound):
        client.get_bucket("no-such-bucket")
    with pytest.raises(NotFound):
        client.bucket("no-such-bucket").blob("x").upload_from_string(b"x")


def test_a_session_resumes_where_it_was(gcs: GcsServed):
    """Chunks without a credential, a connection cut inside one, a repeat that overlaps: the object is whole."""
    data = os.urandom(1000 * KIB + 17)
    total = len(data)
    uri = begin(gcs, "resumed", total)
    assert kept(uri, total) == 0
    status, headers = put(uri, data[: 512 * KIB], f"bytes 0-{512 * KIB - 1}/{total}")
    assert (status, headers["Range"]) == (308, f"bytes=0-{512 * KIB - 1}")
    put(uri, data[512 * KIB :], f"bytes {512 * KIB}-{total - 1}/{total}", cut=300 * KIB)
    held = gcs.settled(lambda: kept(uri, total))
    assert held % (256 * KIB) == 0
    assert 512 * KIB <= held <= 812 * KIB
    status, _ = put(uri, data[256 * KIB :], f"bytes {256 * KIB}-{total - 1}/{total}")
    assert status == 200
    assert kept(uri, total) is None
    assert gcs.client().bucket(gcs.bucket).blob("resumed").download_as_bytes() == data


def test_a_chunk_ahead_of_what_is_kept_is_refused(gcs: GcsServed):
    """A gap is 503; only whole granules of a chunk that is not the last are kept; an odd range is 400."""
    uri = begin(gcs, "gap", 1000 * KIB)
    assert put(uri, b"x", f"bytes {256 * KIB}-{256 * KIB}/{1000 * KIB}")[0] == 503
    status, headers = put(uri, b"x" * 300 * KIB, f"bytes 0-{300 * KIB - 1}/{1000 * KIB}")
    assert (status, headers["Range"]) == (308, f"bytes=0-{256 * KIB - 1}")
    assert put(uri, b"x", "bytes nonsense")[0] == 400
    assert put(uri.replace("upload_id=", "upload_id=x"), b"x", "bytes 0-0/1")[0] == 404


def test_a_wrong_checksum_is_refused_and_stores_nothing(gcs: GcsServed):
    """The announced CRC32C is compared when the last byte is there."""
    data = b"x" * 1000
    uri = begin(gcs, "wrong", len(data), crc32c=crc32c(b"other"))
    assert put(uri, data, "bytes 0-999/1000")[0] == 400
    with pytest.raises(Forbidden):
        gcs.client().bucket(gcs.bucket).get_blob("wrong")
    uri = begin(gcs, "right", len(data), crc32c=crc32c(data))
    assert put(uri, data, "bytes 0-999/1000")[0] == 200


def test_an_empty_object_is_finished_by_a_status_request(gcs: GcsServed):
    """An object of no bytes is complete as soon as its session is asked."""
    uri = begin(gcs, "empty", 0)
    assert put(uri, b"", "bytes */0")[0] == 200
    assert gcs.client().bucket(gcs.bucket).get_blob("empty").size == 0


def test_a_session_can_be_given_up(gcs: GcsServed):
    """DELETE of a session answers 499, and the session is gone."""
    uri = urllib.parse.urlsplit(begin(gcs, "given up", 10))
    connection = http.client.HTTPConnection(uri.netloc, timeout=10)
    connection.request("DELETE", f"{uri.path}?{uri.query}")
    assert connection.getresponse().status == 499
    connection.close()
    assert put(uri.geturl(), b"", "bytes */10")[0] == 404


@pytest.mark.parametrize("fault", ["gcs-503", "gcs-cut"])
def test_the_faults_of_chunks(gcs: GcsServed, fault: str):
    """gcs-503 refuses a chunk, gcs-cut drops the connection inside it; the upload goes on from what is kept."""
    data = os.urandom(900 * KIB)
    total = len(data)
    uri = begin(gcs, fault, total)
    gcs.switches.arm(fault)
    status, _ = put(uri, data, f"bytes 0-{total - 1}/{total}")
    assert status == (503 if fault == "gcs-503" else 0)
    held = gcs.settled(lambda: kept(uri, total))
    assert held < total
    assert put(uri, data[held:], f"bytes {held}-{total - 1}/{total}")[0] == 200


def test_objects_are_there_for_the_next_daemon(gcs: GcsServed, tmp_path: Any):
    """A second emulator over the same folder has the first one's objects."""
    gcs.client().bucket(gcs.bucket).blob("kept/a").upload_from_string(b"data")
    with GcsServed(gcs.folder) as again:
        assert again.client().bucket(gcs.bucket).blob("kept/a").download_as_bytes() == b"data"
