"""The hub reader against the rehearsal's hub, over HTTP."""

from __future__ import annotations

import hashlib

import httpx
import pytest

from orchestrator.rehearsal.client import Rehearsal
from orchestrator.words.errors import ProviderUnavailable, UsageError
from orchestrator.words.retry import retrying
from orchestrator.words.secret import Secret
from orchestrator.world.model_hub import Hub, HubFile

REPO = "zai-org/GLM-4.5-Air-Base"


def reader(rehearsal: Rehearsal, token: str | None = None) -> Hub:
    return Hub(rehearsal.facts.hub, Secret(token or rehearsal.facts.hub_token))


def files(rehearsal: Rehearsal) -> list[HubFile]:
    hub = reader(rehearsal)
    return hub.files(REPO, hub.commit(REPO))


def test_listed_sizes_and_hashes_are_those_of_the_files(rehearsal: Rehearsal):
    """Each file can be fetched from where the hub says, and is what the list says."""
    listed = files(rehearsal)
    assert any(f.sha256 for f in listed)
    headers = {"Authorization": f"Bearer {rehearsal.facts.hub_token}"}
    for file in listed:
        url = f"{rehearsal.facts.hub}/{REPO}/resolve/main/{file.path}"
        body = httpx.get(url, headers=headers, follow_redirects=True).content
        assert file.bytes == len(body)
        assert file.sha256 in {None, hashlib.sha256(body).hexdigest()}


def test_a_repository_that_is_not_there(rehearsal: Rehearsal):
    """An unknown repository or a wrong token is the user's to mend: the page or the variable is named."""
    with pytest.raises(UsageError, match="nobody/nothing"):
        reader(rehearsal).commit("nobody/nothing")


@pytest.mark.parametrize("fault", ["hub-429"])
def test_a_passing_fault_passes(rehearsal: Rehearsal, fault: str):
    """A rate limit is told as one, and retrying waits it out."""
    rehearsal.arm(fault)
    with pytest.raises(ProviderUnavailable) as raised:
        files(rehearsal)
    assert raised.value.retry_after is not None
    rehearsal.arm(fault)
    scale = rehearsal.facts.time_scale
    assert retrying(lambda: files(rehearsal), time_scale=scale)


def test_a_branch_that_moves_leaves_its_commits_as_they_were(rehearsal: Rehearsal):
    """`main` may be another commit a moment later; what was listed at the first one is still there."""
    hub = reader(rehearsal)
    first = hub.commit(REPO)
    before = hub.files(REPO, first)
    rehearsal.arm("hub-moved")
    second = hub.commit(REPO)
    assert second != first
    assert hub.commit(REPO) == second
    assert hub.files(REPO, first) == before
    assert {f.path for f in hub.files(REPO, second)} - {f.path for f in before} == {"NEWS.md"}
    assert hub.commit(REPO, first) == first
