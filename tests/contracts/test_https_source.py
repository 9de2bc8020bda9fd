"""A file by https: what its server says of it, asked here and fetched by the machine, over TLS on loopback."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.storage import open_source
from orchestrator.words import web
from orchestrator.words.errors import GpuplanError, StepFailed, StoreBusy, StoreUnavailable, UsageError
from tests.https_site import File, Site, certificate, site


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site whose certificate is believed."""
    file = certificate(tmp_path)
    monkeypatch.setattr(web, "_authorities", lambda _: ssl.create_default_context(cafile=str(file)))
    with site(file) as made:
        yield made


def test_its_head_says_its_size(there: Site):
    """And what tells its content; one request is enough where the server knows ranges."""
    there.files["/d/a%20b.csv"] = File(b"12345")
    source = open_source(f"{there.url}/d/a%20b.csv?x=1")
    (file,) = source.listing()
    assert (file.name, file.bytes, file.etag) == ("a b.csv", 5, '"one"')
    assert there.asked == [("HEAD", "/d/a%20b.csv?x=1", "")]
    get = source.signed_get(file)
    assert (get.url, get.follow, get.ranges, get.etag) == (source.url, True, True, '"one"')


@pytest.mark.parametrize("odd", [File(b"12345", heads=False), File(b"12345", ranges=False)])
def test_a_server_that_knows_less_is_asked_for_a_byte(there: Site, odd: File):
    """Where HEAD is refused, or says nothing of ranges; without ranges the file is to come whole."""
    there.files["/a"] = odd
    source = open_source(f"{there.url}/a")
    (file,) = source.listing()
    assert file.bytes == 5
    assert there.asked[-1] == ("GET", "/a", "bytes=0-0")
    assert source.signed_get(file).ranges == odd.ranges


def test_the_plans_sha256_is_the_content(there: Site):
    """Whatever the server calls it: another ETag is no change, and the machine looks at the sha256 alone."""
    there.files["/a"] = File(b"12345")
    source = open_source(f"{there.url}/a", sha256="ab" * 32)
    (file,) = source.listing()
    there.files["/a"] = File(b"12345", etag='"two"')
    said = source.about(file)
    assert said
    assert said.sha256 == "ab" * 32
    assert source.listing() == [file]
    assert source.signed_get(file).etag == ""


def test_a_changed_file_is_another_one(there: Site):
    """By its ETag: what was listed is gone."""
    there.files["/a"] = File(b"12345")
    source = open_source(f"{there.url}/a")
    (file,) = source.listing()
    assert source.about(file)
    there.files["/a"] = File(b"54321", etag='"two"')
    assert source.about(file) is None


def test_redirects_lead_to_https_alone(there: Site):
    """Those that do are followed, a few; the machine is given the address of the plan, and follows itself."""
    there.files |= {"/a": File(moved="/b"), "/b": File(moved=f"{there.url}/c"), "/c": File(b"123")}
    there.files |= {"/plain": File(moved="http://127.0.0.1:9/x?token=1"), "/round": File(moved="/round")}
    source = open_source(f"{there.url}/a")
    (file,) = source.listing()
    assert (file.name, file.bytes, source.signed_get(file).url) == ("a", 3, f"{there.url}/a")
    with pytest.raises(StepFailed, match=r"leads to http://127\.0\.0\.1:9/x, which is no https"):
        open_source(f"{there.url}/plain").listing()
    with pytest.raises(StepFailed, match="more than 5 redirects"):
        open_source(f"{there.url}/round").listing()


@pytest.mark.parametrize(
    ("file", "kind", "words"),
    [
        (File(status=403), UsageError, "answers 403"),
        (File(status=503), StoreBusy, "answers 503"),
        (File(status=500), StoreUnavailable, "answers 500"),
        (File(b"1", sized=False, ranges=False), StepFailed, "does not say how large it is"),
    ],
)
def test_what_cannot_be_fetched_is_said(there: Site, file: File, kind: type[GpuplanError], words: str):
    """With what the server answers; a file that is not there is none."""
    there.files["/a"] = file
    with pytest.raises(kind, match=words):
        open_source(f"{there.url}/a").listing()
    assert open_source(f"{there.url}/nowhere").listing() == []


def test_a_stranger_is_not_believed(tmp_path: Path):
    """A certificate that nobody signed ends the request."""
    with site(certificate(tmp_path)) as made, pytest.raises(StoreUnavailable, match=r"(?i)certificate"):
        open_source(f"{made.url}/a").listing()
