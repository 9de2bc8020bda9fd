"""The rehearsal's hub against the real `hf download` and huggingface_hub's API."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import httpx
import pytest
from huggingface_hub import HfApi

from orchestrator.words import files
from tests.rehearsal.hub.hub_served import TOKEN, Served

BASE = "zai-org/GLM-4.5-Air-Base"
GATED = "PrimeIntellect/INTELLECT-3"


def same(folder: Path, repo: str) -> bool:
    source = files.models() / repo
    names = sorted(str(path.relative_to(source)) for path in source.rglob("*") if path.is_file())
    return all((folder / name).read_bytes() == (source / name).read_bytes() for name in names)


def test_hf_download_fetches_a_model_as_written_in_the_plan(hub: Served, tmp_path: Path):
    """`hf download REPO --local-dir D` without a token gives each file byte for byte."""
    done = hub.download(BASE, tmp_path / "model")
    assert done.returncode == 0, done.stderr
    assert same(tmp_path / "model", BASE)


def test_a_gated_model_needs_the_token(hub: Served, tmp_path: Path):
    """Without a token hf says that access is restricted, with the wrong one that it is invalid, with ours it works."""
    refused = hub.download(GATED, tmp_path / "a")
    assert refused.returncode == 1
    assert "requires approval" in refused.stderr
    wrong = hub.download(GATED, tmp_path / "b", token="hf_other")
    assert wrong.returncode == 1
    assert not list((tmp_path / "b").rglob("*.safetensors"))
    done = hub.download(GATED, tmp_path / "c", token=TOKEN)
    assert done.returncode == 0, done.stderr
    assert same(tmp_path / "c", GATED)


def test_the_tree_lists_sizes_and_hashes_that_hold(hub: Served):
    """Each file's size and sha256 (LFS) or git id (others) in the tree are those of the file."""
    api = HfApi(endpoint=hub.endpoint, token=False)
    info = api.model_info(BASE)
    listed = {item.path: item for item in api.list_repo_tree(BASE, recursive=True)}
    assert {sibling.rfilename for sibling in info.siblings} == set(listed)
    for path, item in listed.items():
        content = (files.models() / BASE / path).read_bytes()
        assert item.size == len(content)
        if path.endswith(".safetensors"):
            assert item.lfs.sha256 == hashlib.sha256(content).hexdigest()
        elif item.lfs is None:
            assert item.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    assert [item.path for item in api.get_paths_info(BASE, ["config.json", "none"])] == ["config.json"]


def test_ranges_and_headers_are_the_hubs(hub: Served):
    """HEAD carries commit, ETag and size; a range is 206 with its place; one past the end is 416."""
    url = f"{hub.endpoint}/{BASE}/resolve/main/model-00001-of-00004.safetensors"
    content = (files.models() / BASE / "model-00001-of-00004.safetensors").read_bytes()
    head = httpx.head(url)
    digest = hashlib.sha256(content).hexdigest()
    assert head.headers["ETag"] == head.headers["X-Linked-Etag"] == f'"{digest}"'
    assert int(head.headers["X-Linked-Size"]) == int(head.headers["Content-Length"]) == len(content)
    assert head.headers["X-Repo-Commit"] == HfApi(endpoint=hub.endpoint, token=False).model_info(BASE).sha
    middle = httpx.get(url, headers={"Range": "bytes=100-199"})
    assert (middle.status_code, middle.content) == (206, content[100:200])
    assert middle.headers["Content-Range"] == f"bytes 100-199/{len(content)}"
    tail = httpx.get(url, headers={"Range": "bytes=-7"})
    assert tail.content == content[-7:]
    assert httpx.get(url, headers={"Range": f"bytes={len(content)}-"}).status_code == 416


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/models/zai-org/other/revision/main", 404, "RepoNotFound"),
        (f"/api/models/{BASE}/revision/dev", 404, "RevisionNotFound"),
        (f"/{BASE}/resolve/main/none.json", 404, "EntryNotFound"),
        (f"/{BASE}/resolve/main/../../secret", 404, None),
        (f"/{GATED}/resolve/main/config.json", 401, "GatedRepo"),
        ("/api/agent-harnesses", 404, None),
    ],
)
def test_refusals_carry_the_hubs_codes(hub: Served, path: str, status: int, code: str | None):
    """Unknown repository, revision, file and address, and a gated file, are refused as the hub does."""
    answer = httpx.get(hub.endpoint + path)
    assert (answer.status_code, answer.headers.get("X-Error-Code")) == (status, code)


def test_a_wrong_token_is_refused_even_where_none_is_needed(hub: Served):
    """A token that the hub does not know is 401 on every address."""
    answer = httpx.get(f"{hub.endpoint}/api/models/{BASE}", headers={"Authorization": "Bearer hf_other"})
    assert answer.status_code == 401


def test_a_body_cut_in_the_middle_is_resumed_by_hf(hub: Served, tmp_path: Path):
    """With the fault hub-cut hf resumes and the download is whole."""
    fault = hub.switches.arm("hub-cut")
    done = hub.download(BASE, tmp_path / "model")
    assert done.returncode == 0, done.stderr
    assert (fault.fired, fault.left) == (1, 0)
    assert same(tmp_path / "model", BASE)


def test_a_body_that_stalls_holds_hf_as_long_as_its_time_out(hub: Served, tmp_path: Path):
    """With the fault hub-stall the connection stays open and nothing comes: Xet has no time-out, plain HTTP has."""
    fault = hub.switches.arm("hub-stall", "2")
    with pytest.raises(subprocess.TimeoutExpired):
        hub.download(BASE, tmp_path / "model", HF_HUB_DOWNLOAD_TIMEOUT="3600", within_s=8.0)
    fetched = list((tmp_path / "model").glob("*.safetensors"))
    done = hub.download(BASE, tmp_path / "model", HF_HUB_DOWNLOAD_TIMEOUT="1")
    assert done.returncode == 0, done.stderr
    assert (fault.fired, fault.left) == (2, 0)
    assert fetched  # whole files are kept
    assert same(tmp_path / "model", BASE)


def test_a_corrupt_body_goes_unnoticed_by_hf(hub: Served, tmp_path: Path):
    """With the fault hub-corrupt hf says that all is well and the content is wrong: its exit code proves nothing."""
    hub.switches.arm("hub-corrupt")
    done = hub.download(BASE, tmp_path / "model")
    assert done.returncode == 0
    assert not same(tmp_path / "model", BASE)


def test_a_rate_limit_and_an_outage_fail_hf_at_once(hub: Served, tmp_path: Path):
    """The faults hub-429 and hub-503 end hf with code 1; the next call works."""
    for name in ("hub-429", "hub-503"):
        hub.switches.arm(name)
        assert hub.download(BASE, tmp_path / name).returncode == 1, name
        assert hub.download(BASE, tmp_path / name).returncode == 0, name


def test_wrong_faults_are_refused(hub: Served):
    """An unknown fault and a count that is no number are refused in words."""
    for name, arg in (("hub-nothing", None), ("hub-429", "x"), ("hub-429", "0")):
        with pytest.raises(ValueError, match="hub-"):
            hub.switches.arm(name, arg)
