"""Uploads to the rehearsal's hub by the real `hf`, as `gpuplan publish` runs it."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import httpx
import pytest

from orchestrator.publish.model_hub import ModelHub
from orchestrator.words.errors import StepFailed
from orchestrator.words.secret import Secret
from tests.rehearsal.hub.hub_served import TOKEN, Served

MODEL = b"\0" * 1000 + b"weights"
CARD = "---\nlicense: mit\nbase_model: zai-org/Toy\n---\n\n# Toy\n"
REPO = "rehearsal/toy-q40"


@pytest.fixture
def hf(hub: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelHub:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    monkeypatch.setenv("HF_TOKEN", "hf_of-somebody-else")
    (tmp_path / "toy.m").write_bytes(MODEL)
    (tmp_path / "card.md").write_text(CARD)
    env = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "hf")}
    return ModelHub(env | {"HF_HUB_DISABLE_UPDATE_CHECK": "1"})


def upload(hf: ModelHub, file: Path, name: str, *, repo: str = "toy-q40", token: str = TOKEN) -> None:
    hf.upload(repo, file, name, Secret(token), seen=False)


def test_a_model_goes_up_and_comes_down(hub: Served, hf: ModelHub, tmp_path: Path):
    """A name alone is the token's owner's; large files and the card are served as they were, and again is no change."""
    upload(hf, tmp_path / "toy.m", "toy.m")
    upload(hf, tmp_path / "card.md", "README.md")
    done = hub.download(REPO, tmp_path / "down", token=TOKEN)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "down/toy.m").read_bytes() == MODEL
    assert (tmp_path / "down/README.md").read_text() == CARD
    tree = f"{hub.endpoint}/api/models/{REPO}/tree/main"
    listed = {entry["path"]: entry for entry in httpx.get(tree).json()}
    assert listed["toy.m"]["lfs"]["oid"] == hashlib.sha256(MODEL).hexdigest()
    before = httpx.get(f"{hub.endpoint}/api/models/{REPO}").json()["sha"]
    upload(hf, tmp_path / "toy.m", "toy.m")
    assert httpx.get(f"{hub.endpoint}/api/models/{REPO}").json()["sha"] == before


def test_the_wrong_token_and_somebody_elses_name_are_refused(hub: Served, hf: ModelHub, tmp_path: Path):
    """With the hub's words, and nothing of it is there."""
    with pytest.raises(StepFailed, match="hf upload"):
        upload(hf, tmp_path / "toy.m", "toy.m", token="hf_wrong")
    with pytest.raises(StepFailed, match="hf upload"):
        upload(hf, tmp_path / "toy.m", "toy.m", repo="zai-org/toy-q40")
    assert httpx.get(f"{hub.endpoint}/api/models/{REPO}").status_code == 404


def test_a_card_without_a_licence_is_refused(hf: ModelHub, tmp_path: Path):
    """As the hub refuses what it cannot read of a card."""
    (tmp_path / "card.md").write_text("---\nbase_model: o/r\n---\n")
    with pytest.raises(StepFailed, match="license"):
        upload(hf, tmp_path / "card.md", "README.md")


def test_only_what_arrived_whole_is_committed(hub: Served):
    """An object under another's name, a commit that names one which is not there, and a way out of the folder."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    httpx.post(f"{hub.endpoint}/api/repos/create", headers=headers, json={"name": "toy-q40"}).raise_for_status()
    oid = hashlib.sha256(MODEL).hexdigest()
    assert httpx.put(f"{hub.endpoint}/lfs/{oid}", content=b"other").status_code == 400
    commit = f"{hub.endpoint}/api/models/{REPO}/commit/main"
    for path in ("toy.m", "../toy.m"):
        line = f'{{"key": "lfsFile", "value": {{"path": "{path}", "oid": "{oid}", "size": 1007}}}}'
        said = httpx.post(commit, headers=headers, content=f'{{"key": "header", "value": {{}}}}\n{line}\n')
        assert said.status_code == 400
        httpx.put(f"{hub.endpoint}/lfs/{oid}", content=MODEL).raise_for_status()
    assert httpx.post(commit, content="").status_code == 401
