"""What the hub says, and what its refusals become."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from orchestrator.words.errors import ProviderUnavailable, UsageError
from orchestrator.words.secret import Secret
from orchestrator.world.model_hub import Hub, HubFile

URL, REPO, TOKEN = "https://hub.test", "zai-org/GLM-4.5-Air-Base", "hf_secret_token"
TREE = f"/api/models/{REPO}/tree/c0ffee"
ROWS = [
    {"type": "directory", "path": "extra", "size": 0, "oid": "d"},
    {
        "type": "file",
        "path": "model-00001-of-00002.safetensors",
        "size": 135,
        "oid": "a",
        "lfs": {"oid": "5" * 64, "size": 5_000_000_000, "pointerSize": 135},
    },
    {"type": "file", "path": "config.json", "size": 700, "oid": "b"},
]


def hub(answers: dict[str, Any], *, token: bool = True) -> tuple[Hub, list[httpx.Request]]:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        reply = answers[request.url.path]
        if isinstance(reply, list):
            reply = reply.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    return Hub(URL, Secret(TOKEN) if token else None, httpx.MockTransport(answer)), requests


COMMIT = {f"/api/models/{REPO}/revision/main": httpx.Response(200, json={"sha": "c0ffee", "siblings": []})}


def test_files_with_their_true_sizes():
    """A large file has the size and sha256 of its content, a small one its size; all come from one commit."""
    reader, requests = hub(COMMIT | {TREE: httpx.Response(200, json=ROWS)})
    assert reader.files(REPO, reader.commit(REPO)) == [
        HubFile("config.json", 700, None),
        HubFile("model-00001-of-00002.safetensors", 5_000_000_000, "5" * 64),
    ]
    assert dict(requests[1].url.params) == {"recursive": "true", "expand": "false"}
    assert {f"Bearer {TOKEN}"} == {r.headers["Authorization"] for r in requests}


def test_long_lists_come_in_pages():
    """The list goes on where the hub says so."""
    link = {"Link": f'<{URL}{TREE}?cursor=2>; rel="next"'}
    pages = [httpx.Response(200, json=ROWS[1:2], headers=link), httpx.Response(200, json=ROWS[2:])]
    reader, requests = hub(COMMIT | {TREE: pages})
    assert len(reader.files(REPO, reader.commit(REPO))) == 2
    assert requests[2].url.params["cursor"] == "2"


GATED = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to the model is restricted"}


@pytest.mark.parametrize(
    ("token", "reply", "words"),
    [
        (False, httpx.Response(401, headers=GATED), rf"gated.*\n.*{URL}/{REPO}.*HF_TOKEN"),
        (True, httpx.Response(403, headers=GATED), rf"HF_TOKEN has no access.*\n.*{URL}/{REPO}"),
        (True, httpx.Response(401), rf"token in HF_TOKEN.*\n.*{URL}/settings/tokens"),
        (False, httpx.Response(401), rf"private, or does not exist.*\n.*{URL}/{REPO}"),
        (True, httpx.Response(404, headers={"X-Error-Message": "Repository not found"}), "Repository not found"),
    ],
)
def test_refusals_name_the_token_and_the_page(token: bool, reply: httpx.Response, words: str):  # noqa: FBT001
    """A refusal says which token it is about and which page to open, and never shows the token."""
    reader, _ = hub({f"/api/models/{REPO}/revision/main": reply}, token=token)
    with pytest.raises(UsageError, match=words) as raised:
        reader.files(REPO, reader.commit(REPO))
    assert TOKEN not in str(raised.value)


@pytest.mark.parametrize(
    ("reply", "retry_after"),
    [
        (httpx.Response(429, headers={"Retry-After": "30"}), 30.0),
        (httpx.Response(503, text="busy"), None),
        (httpx.Response(200, text="<html>"), None),
        (httpx.Response(200, json={}), None),
        (httpx.ConnectError("refused"), None),
    ],
)
def test_what_may_pass_is_said_to(reply: Any, retry_after: float | None):
    """429, 5xx, a broken connection and nonsense are for now; the hub's own wait is handed on."""
    reader, _ = hub({f"/api/models/{REPO}/revision/main": reply})
    with pytest.raises(ProviderUnavailable) as raised:
        reader.files(REPO, reader.commit(REPO))
    assert retry_after == raised.value.retry_after


@pytest.mark.parametrize("there", ["http://[", "//[x", "https://hub.test:port/x"])
def test_a_next_page_without_an_address_is_an_error_of_ours(there: str):
    """Half of an IPv6 address, or a port that is none."""
    reader, _ = hub(COMMIT | {TREE: httpx.Response(200, json=ROWS, headers={"Link": f'<{there}>; rel="next"'})})
    with pytest.raises(ProviderUnavailable, match="next page"):
        reader.files(REPO, reader.commit(REPO))


@pytest.mark.parametrize(
    "there", ["https://elsewhere.test/x", "http://hub.test/x", "https://hub.test:444/x", "//elsewhere.test/x"]
)
def test_the_token_goes_to_no_other_host(there: str):
    """A next page elsewhere, over plain http or at another port is not asked for: nothing is sent there."""
    link = {"Link": f'<{there}>; rel="next"'}
    reader, requests = hub(
        COMMIT | {TREE: httpx.Response(200, json=ROWS, headers=link), "/x": httpx.Response(200, json=[])}
    )
    with pytest.raises(ProviderUnavailable, match="nothing is sent there"):
        reader.files(REPO, reader.commit(REPO))
    assert {request.url.host for request in requests} == {"hub.test"}
    assert len(requests) == 2


@pytest.mark.parametrize(
    "rows", [{"a": 1}, [1], [{"type": "file"}], [{"type": "file", "path": "../x", "size": 1}], None, "x"]
)
def test_a_list_that_makes_no_sense_is_refused(rows: object):
    """Whatever JSON comes in place of a list of files: an error of ours."""
    reader, _ = hub(COMMIT | {TREE: httpx.Response(200, json=rows)})
    with pytest.raises(ProviderUnavailable):
        reader.files(REPO, reader.commit(REPO))


def test_half_a_body_is_no_answer():
    """A body that is not what its encoding says may pass: it is asked again, and is no crash."""
    reader, _ = hub(
        {
            path: httpx.Response(200, stream=httpx.ByteStream(b"no gzip"), headers={"Content-Encoding": "gzip"})
            for path in COMMIT
        }
    )
    with pytest.raises(ProviderUnavailable, match="no answer"):
        reader.files(REPO, reader.commit(REPO))
