"""Converting straight from a hub: the rehearsal's, with its faults, over real connections."""

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Event, Semaphore, Thread
from typing import Any

import pytest
from dllama_glm.checkpoint.errors import CheckpointError
from dllama_glm.convert import main
from dllama_glm.convert.errors import HubError
from dllama_glm.convert.hub import client as client_module
from dllama_glm.convert.hub.client import Client
from dllama_glm.convert.hub.supply import AT_ONCE, HubSupply
from dllama_glm.convert.plan import check_output

from tests.payload.converter.converter_files import (
    GLM,
    GLM_MOE,
    MODELS,
    Config,
    Tensors,
    command,
    convert,
    glm_tensors,
    write_checkpoint,
)
from tests.payload.converter.hub_emulator import TOKEN, Emulated, hub_of

BASE = "zai-org/GLM-4.5-Air-Base"
GATED = "PrimeIntellect/INTELLECT-3"
OWN = "owner/model"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulated]:
    """The project's small models; nobody waits long for anything."""
    with hub_of(MODELS) as emulated:
        _use(emulated, monkeypatch)
        yield emulated


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Emulated]]:
    """Starts a hub with one model of the test's own."""
    opened = []

    def start(config: Config, tensors: Tensors, shards: int = 1) -> Emulated:
        write_checkpoint(tmp_path / "models" / OWN, config, tensors, shards=shards)
        context = hub_of(tmp_path / "models")
        opened.append(context)
        emulated = context.__enter__()
        _use(emulated, monkeypatch)
        return emulated

    yield start
    for context in opened:
        context.__exit__(None, None, None)


def _use(emulated: Emulated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", emulated.endpoint)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(client_module, "_LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(client_module, "_LONGEST_ASKED", 0.01)


def _run(repo: str, output: Path, *options: str) -> int:
    return main([f"hf://{repo}", "q40", "name", "--output", str(output), *options])


def _armed(monkeypatch: pytest.MonkeyPatch, hub: Emulated, fault: str, times: str) -> None:
    """Arm a fault for when the shards are fetched: what comes before them has been read."""
    batches = HubSupply.batches

    def arming(*words: Any) -> Any:
        hub.switches.arm(fault, times)
        return batches(*words)

    monkeypatch.setattr(HubSupply, "batches", arming)


@pytest.mark.parametrize("repo", [BASE, GATED])
def test_the_hubs_model_gives_the_folders_bytes(
    repo: str, hub: Emulated, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The same file as from the downloaded folder, and nothing else is left; the first line names the commit."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    room = tmp_path / "room"
    room.mkdir()
    assert _run(repo, room / "x.m") == 0
    assert (room / "x.m").read_bytes() == convert(MODELS / repo, "q40", tmp_path / "y.m")
    assert [path.name for path in room.iterdir()] == ["x.m"]
    assert f"hf://{repo} at " in capsys.readouterr().out
    commits = {path.split("/")[4] for path, _ in hub.asked if "/resolve/" in path}
    assert len(commits) == 1
    assert sum("/revision/main" in path for path, _ in hub.asked) == 1


class _Room(Semaphore):
    """Tells when it is asked for a third time: two shards have come then."""

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.asked = 0
        self.third = Event()

    def acquire(self, *words: Any, **more: Any) -> bool:
        self.asked += 1
        if self.asked == 3:
            self.third.set()
        return super().acquire(*words, **more)


def test_each_shard_comes_once_and_two_lie_there_at_most(
    own: Callable[..., Emulated], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Six shards: each is read once, and before the first is converted no third one comes."""
    hub, start, wait, seen = own(GLM_MOE, glm_tensors(GLM_MOE), 6), HubSupply.__init__, HubSupply._wait, []

    def started(supply: HubSupply, *words: Any) -> None:
        start(supply, *words)
        supply._room = _Room(AT_ONCE)

    def waited(supply: HubSupply, *words: Any) -> Path:
        assert isinstance(supply._room, _Room)
        assert supply._room.third.wait(60)
        seen.append({file.name.split(".")[0] for file in (tmp_path / "x.m.shards").iterdir()})
        return wait(supply, *words)

    monkeypatch.setattr(HubSupply, "__init__", started)
    monkeypatch.setattr(HubSupply, "_wait", waited)
    assert _run(OWN, tmp_path / "x.m") == 0
    assert [len(names) for names in seen[:1]] == [2]
    assert max(map(len, seen)) == 2
    contents = [name for name, _ in hub.shards()]
    assert sorted(contents) == sorted(2 * list(dict.fromkeys(contents)))  # its header, then all of it
    assert len(contents) == 12
    assert (tmp_path / "x.m").read_bytes() == convert(tmp_path / "models" / OWN, "q40", tmp_path / "y.m")


@pytest.mark.parametrize("fault", ["hub-429", "hub-503", "hub-cut", "hub-corrupt"])
@pytest.mark.parametrize("when", ["from the start", "among the shards"])
def test_what_passes_is_passed_over(
    fault: str, when: str, hub: Emulated, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """A busy hub, cut connections and a wrong byte cost a second try, and not one bit of the result."""
    if when == "from the start":
        hub.switches.arm(fault, "1")
    else:
        _armed(monkeypatch, hub, fault, "1")
    assert _run(BASE, tmp_path / "x.m") == 0
    assert (tmp_path / "x.m").read_bytes() == convert(MODELS / BASE, "q40", tmp_path / "y.m")


def test_a_cut_connection_is_gone_on_with(hub: Emulated, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """After a cut half-way only the rest is asked for."""
    _armed(monkeypatch, hub, "hub-cut", "1")
    assert _run(BASE, tmp_path / "x.m") == 0
    assert [first for _, first in hub.shards() if first]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("hub-503", "answered 503 (10 times in a row)"),
        ("hub-corrupt", "model-00001-of-00004.safetensors came twice with another hash than the hub lists"),
    ],
)
def test_patience_ends(
    fault: str,
    words: str,
    hub: Emulated,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    """What does not pass is one clear sentence and exit code 3, and no file under the final name."""
    _armed(monkeypatch, hub, fault, "1000")
    assert _run(BASE, tmp_path / "x.m") == 3
    assert words in capsys.readouterr().err
    assert not (tmp_path / "x.m").exists()
    tries = [first for name, first in hub.shards() if name.startswith("model-00001-") and not first]
    assert len(tries) == 1 + (10 if fault == "hub-503" else 2)  # one is for the header


def test_a_hub_that_is_not_there_is_said(hub: Emulated, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any):
    """Nobody listens: after the tries, the address and what to look at."""
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    server.server_close()
    assert _run(BASE, tmp_path / "x.m") == 3
    said = capsys.readouterr().err
    assert "cannot be reached" in said
    assert "see whether the hub can be reached" in said


@pytest.mark.parametrize(
    ("repo", "token", "words"),
    [
        (GATED, None, "the model is gated: accept its terms on its page, then export HF_TOKEN"),
        (GATED, "hf_of_somebody", "HF_TOKEN is not known there"),
        ("nobody/nothing", None, "see whether name and revision are right"),
        (f"{BASE}@v7", None, "see whether name and revision are right"),
    ],
)
def test_refusals_say_what_to_do(
    repo: str,
    token: str | None,
    words: str,
    hub: Emulated,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    """A gated model, a wrong token, a name or a revision that is not there: one sentence, without the token in it."""
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    assert _run(repo, tmp_path / "x.m") == 3
    said = capsys.readouterr().err
    assert words in said
    assert "hf_of_somebody" not in said


def test_a_commit_is_a_revision(hub: Emulated, tmp_path: Path):
    """hf://OWNER/NAME@COMMIT converts that commit."""
    assert _run(BASE, tmp_path / "x.m") == 0
    commit = next(path.split("/")[4] for path, _ in hub.asked if "/resolve/" in path)
    assert _run(f"{BASE}@{commit}", tmp_path / "y.m") == 0
    assert (tmp_path / "y.m").read_bytes() == (tmp_path / "x.m").read_bytes()


@pytest.mark.parametrize("address", ["hf://", "hf://name", "hf://a/b/c", "hf://a/b@", "hf://a /b"])
def test_an_address_that_is_none_is_wrong_use(address: str, capsys: pytest.CaptureFixture[str]):
    """Exit code 2 and the form of an address."""
    assert main([address, "q40", "name"]) == 2
    assert "is not hf://OWNER/NAME" in capsys.readouterr().err


def test_what_cannot_be_converted_is_said_before_a_shard_comes(
    own: Callable[..., Emulated], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Wrong shapes are known from the headers: 64 KiB of each shard at most have been read."""
    hub = own(GLM_MOE | {"moe_intermediate_size": 64}, glm_tensors(GLM_MOE), 3)
    assert _run(OWN, tmp_path / "x.m") == 3
    assert "has the shape [32, 64]; config.json calls for [64, 64]" in capsys.readouterr().err
    assert {part for path, part in hub.asked if path.endswith(".safetensors")} == {"bytes=0-65535"}


@pytest.mark.parametrize("equal", ["equal", "other"])
def test_a_tied_head_is_compared_on_the_hub(equal: str, own: Callable[..., Emulated], tmp_path: Path, capsys: Any):
    """Both a promise of tied embeddings and an output matrix: the two are read and compared before anything else."""
    config = GLM | {"tie_word_embeddings": True}
    tensors = glm_tensors(config)
    if equal == "equal":
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    own(config, tensors, 3)
    assert _run(OWN, tmp_path / "x.m") == (0 if equal == "equal" else 3)
    assert ("that is not model.embed_tokens.weight" in capsys.readouterr().err) == (equal == "other")


def _kill(hub: Emulated, output: Path, when: Callable[[], bool]) -> None:
    """Kill a conversion at that moment, in a process of its own."""
    words = [f"hf://{OWN}" if word == "folder" else word for word in command(Path("folder"), "q40", output)]
    env = {**os.environ, "HF_ENDPOINT": hub.endpoint}
    process = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not when():
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_a_killed_run_is_gone_on_with(own: Callable[..., Emulated], tmp_path: Path, capsys: Any):
    """Kill -9 while later shards come: finished ones are not fetched again, and the bytes are those of one run."""
    config = GLM_MOE | {"hidden_size": 512, "num_hidden_layers": 12, "moe_intermediate_size": 512}
    hub, output = own(config, glm_tensors(config), 8), tmp_path / "x.m"
    journal = output.with_name("x.m.partial.journal")
    _kill(hub, output, lambda: journal.exists() and journal.read_text().count('"done"') > 100)
    hub.asked.clear()
    assert _run(OWN, output, "--json") == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["resumed_tensors"] > 100
    fetched = [part for path, part in hub.asked if path.endswith("00001-of-00008.safetensors")]
    assert fetched == ["bytes=0-65535"]
    assert output.read_bytes() == convert(tmp_path / "models" / OWN, "q40", tmp_path / "y.m")
    assert {path.name for path in tmp_path.glob("x.m*")} == {"x.m"}


@pytest.mark.parametrize("state", ["a part", "a whole file", "a damaged whole file", "a part with wrong bytes"])
def test_what_an_earlier_run_left_of_a_shard_is_used(state: str, hub: Emulated, tmp_path: Path):
    """The rest of a part is fetched, a whole file is not fetched at all, and damage is found by the hash."""
    name = "model-00001-of-00004.safetensors"
    content = bytearray((MODELS / BASE / name).read_bytes())
    if "damaged" in state or "wrong" in state:
        content[5000] ^= 1
    shards = tmp_path / "x.m.shards"
    shards.mkdir()
    half = len(content) // 2
    if "whole" in state:
        (shards / name).write_bytes(content)
    else:
        (shards / f"{name}.part").write_bytes(content[:half] + bytes(100))
        (shards / f"{name}.part.bytes").write_text(str(half))
    assert _run(BASE, tmp_path / "x.m") == 0
    expected = {"a part": [0, half], "a whole file": [0], "a damaged whole file": [0, 0]}
    expected["a part with wrong bytes"] = [0, half, 0]
    assert [first for shard, first in hub.shards() if shard == name] == expected[state]
    digest = hashlib.sha256((tmp_path / "x.m").read_bytes()).hexdigest()
    assert digest == hashlib.sha256(convert(MODELS / BASE, "q40", tmp_path / "y.m")).hexdigest()
    assert not shards.exists()


def test_room_for_two_shards_is_asked_for(tmp_path: Path):
    """A disk with room for the output alone is too full, and both are told."""
    with pytest.raises(
        CheckpointError, match=r"needs [0-9,]+ bytes \(of which 1,152,921,504,606,846,976 for two shards"
    ):
        check_output(tmp_path / "x.m", None, 1000, beside=1 << 60)


class _Recorder(BaseHTTPRequestHandler):
    """Answers with a redirect for paths that name one, and keeps the Authorization of every request."""

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers.get("Authorization")))  # type: ignore[attr-defined]
        target = self.server.targets.get(self.path)  # type: ignore[attr-defined]
        self.send_response(302 if target else 200)
        if target:
            self.send_header("Location", target)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


@pytest.fixture
def servers() -> Iterator[tuple[Any, Any]]:
    """Two origins."""
    found = []
    for _ in range(2):
        server: Any = HTTPServer(("127.0.0.1", 0), _Recorder)
        server.seen, server.targets = [], {}
        server.url = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, daemon=True).start()
        found.append(server)
    yield found[0], found[1]
    for server in found:
        server.shutdown()
        server.server_close()


def test_the_token_stays_at_its_origin(servers: tuple[Any, Any]):
    """It follows a redirect within the hub, goes to no other host, and is lost for good once a redirect led away."""
    hub, other = servers
    hub.targets = {"/old": "/new", "/away": f"{other.url}/there"}
    other.targets = {"/there": f"{hub.url}/back"}
    reader = Client(hub.url, "hf_secret")
    assert (reader.whole("/old"), reader.whole("/away")) == (b"{}", b"{}")
    bearer = "Bearer hf_secret"
    assert hub.seen == [("/old", bearer), ("/new", bearer), ("/away", bearer), ("/back", None)]
    assert other.seen == [("/there", None)]


def test_a_page_without_an_address_is_an_error_of_ours(servers: tuple[Any, Any]):
    """Half of an IPv6 address as the next page is refused in words."""
    with pytest.raises(HubError, match="is no address of a hub"):
        Client(servers[0].url, "hf_secret").document("http://[")


def test_a_page_at_another_host_gets_no_token(servers: tuple[Any, Any]):
    """An address that the hub's list names as its next page may lead anywhere: the token does not go along."""
    hub, other = servers
    assert Client(hub.url, "hf_secret").document(f"{other.url}/page") == ({}, None)
    assert other.seen == [("/page", None)]
