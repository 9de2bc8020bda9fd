"""Several ranks as processes of their own: same tokens as one, and no rank is left when another ends."""

import json
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.payload.runtime.runtime_ranks import (
    BOUND,
    Processes,
    Start,
    files,
    free_port,
    listening,
    long_text,
    metrics_of,
    patched,
    wait_for_output,
)
from tests.payload.runtime.runtime_scripts import MODELS, REPOS, try_script

ANSWERS = json.loads((MODELS / "answers.json").read_text(encoding="utf-8"))


def answer(prompt: str) -> dict[str, Any]:
    return next(a for a in ANSWERS[REPOS["intellect3"]] if (a["prompt"], a["mode"]) == (prompt, "raw"))


@pytest.mark.parametrize("ranks", [3, 5])
def test_ranks_write_what_one_process_writes(ranks: int, converted: Path, start: Start, tmp_path: Path):
    """The plan's form on one node, uneven (8 heads, 3 blocks an expert): the single process's tokens, with evidence.

    The root publishes ranks, hosts and its figures, each worker its rank and the tokens that it has read.
    """
    model = ["--model", str(converted / "intellect3.m"), "--port", "0"]
    metrics = [tmp_path / f"metrics{rank}" for rank in range(ranks)]
    processes = [start("dllama-worker", *model, GPUPLAN_METRICS=str(path)) for path in metrics[1:]]
    addresses = ",".join(f"tcp://localhost:{listening(process)}" for process in processes)
    words = [*files(converted, "intellect3"), "--prompt", "Describe the future of AI", "--workers", addresses, "--json"]
    done = try_script("dllama", "inference", *words, GPUPLAN_METRICS=str(metrics[0]))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    expected = answer("Describe the future of AI")
    assert document["token_ids"] == expected["answer_ids"][:-1]
    assert (document["ranks"], document["stop"]["id"]) == (ranks, expected["answer_ids"][-1])
    figures = [metrics_of(path) for path in metrics]  # the root has waited for them
    for process in processes:
        assert process.wait(BOUND) == 0
        assert f"of {ranks}\nthe root has ended" in process.stdout.read()
    counts = {name: figures[0][name]["value"] for name in ("ranks", "hosts", "gpus_used")}
    assert counts == {"ranks": ranks, "hosts": 1, "gpus_used": 0}
    read = document["prompt_tokens"] + document["tokens"]
    for rank, found in enumerate(figures[1:], start=1):
        values = [found[name]["value"] for name in ("rank", "tokens", "passes")]
        assert values == [rank, read, document["tokens"] + 1]
    for found in figures:
        assert {line["device"] for line in found.values()} == {"cpu"}
        assert all(str(line["measured_on"]).startswith("CPU (") for line in found.values())


def test_the_root_ends_last(converted: Path, start: Processes, tmp_path: Path):
    """A worker that takes a second to end has ended when the root does: whoever stops it then hides nothing."""
    mark = tmp_path / "ended"
    end = f"lambda code: (time.sleep(1), pathlib.Path({str(mark)!r}).touch(), end(code))"
    slow = f"import os, pathlib, time\nend = os._exit\nos._exit = {end}"
    worker = start.begin([*patched("dllama-worker", slow), "--model", str(converted / "base.m"), "--port", "0"])
    words = [*files(converted, "base"), "--prompt", "Hello", "--max-tokens", "2"]
    done = try_script("dllama", "inference", *words, "--workers", f"localhost:{listening(worker)}")
    assert done.returncode == 0, done.stderr
    assert mark.exists()


def test_two_ranks_meet_where_the_root_waits(converted: Path, start: Start):
    """The plan's form over nodes: $GPUPLAN_NODES - 1 workers dial the root, and may do so before it listens."""
    port = str(free_port())
    model = ["--model", str(converted / "intellect3.m")]
    env = {"GPUPLAN_NODES": "2", "GPUPLAN_TOKEN": "t"}
    worker = start("dllama-worker", *model, "--root-hostname", f"127.0.0.1:{port}", **env, GPUPLAN_NODE_RANK="1")
    assert worker.stdout.readline() == f"dialling 127.0.0.1:{port}\n"
    words = [*files(converted, "intellect3"), "--port", port, "--prompt", "Explain machine learning", "--json"]
    done = try_script("dllama", "inference", *words, GPUPLAN_NODES="2", GPUPLAN_TOKEN="t")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["token_ids"] == answer("Explain machine learning")["answer_ids"][:-1]
    assert (document["ranks"], document["hosts"]) == (2, 2), "two nodes of a plan are two hosts, whatever they share"
    assert worker.wait(BOUND) == 0


def test_a_port_probe_and_a_stranger_do_not_disturb_a_worker(converted: Path, start: Start):
    """A worker lets go of a connection that says nothing, or nonsense, and of a root with another token.

    It was given no model: on the same disk it takes the root's path.
    """
    worker = start("dllama", "worker", "--port", "0", GPUPLAN_TOKEN="right")
    port = listening(worker)
    socket.create_connection(("127.0.0.1", port)).close()
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
    words = [*files(converted, "base"), "--workers", f"localhost:{port}", "--prompt", "The capital of France is"]
    refused = try_script("dllama", "inference", *words, GPUPLAN_TOKEN="wrong")
    assert refused.returncode == 1
    assert "GPUPLAN_TOKEN" in refused.stderr
    done = try_script("dllama", "inference", *words, GPUPLAN_TOKEN="right")
    assert (done.returncode, done.stdout) == (0, " Paris.\n"), done.stderr
    assert worker.wait(BOUND) == 0


def _strange_lines(role: str) -> list[bytes]:
    """What somebody without the token may send: `role` is what a real other end would say it is."""
    hello = b'{"hello":"dllama-glm/2","role":"%s","nonce":"%s"}\n'
    named = role.encode()
    return [
        b"[" * 50_000 + b"\n",  # within the limit of a line, and far deeper than the parser goes
        b"[" * 200_000 + b"\n",
        b'{"hello":"' + b"x" * 300_000 + b'"}\n',
        b"\xff\xfe\n",
        b"7\n",
        b"1" * 5000 + b"\n",
        b'{"hello":"dllama-glm/2","role":"%s"}\n' % named,
        hello % (b"\\ud800", b"ab"),
        hello % (named, b"\\ud800"),
        hello % (named, b"x" * 40_000),
        hello % (named, b"ab") + '{"proof":"é"}\n'.encode(),
        hello % (named, b"ab") + b'{"proof":"\\ud800"}\n',
        hello % (named, b"ab") + b'{"proof":["a"]}\n',
        hello % (named, b"ab") + b"[" * 60_000 + b"\n",
    ]


def _pester(port: int, role: str) -> None:
    """Send each strange line over a connection of its own, and wait until the other end lets go of it."""
    for line in _strange_lines(role):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as stranger, suppress(ConnectionError):
            stranger.sendall(line)
            with suppress(OSError):  # the other end has hung up already
                stranger.shutdown(socket.SHUT_WR)
            while stranger.recv(65536):
                pass


def test_no_line_of_a_stranger_ends_a_waiting_worker(converted: Path, start: Start):
    """Deep, long, broken and wrong lines cost a stranger the connection; the root that comes after is served."""
    worker = start("dllama-worker", "--model", str(converted / "base.m"), "--port", "0", GPUPLAN_TOKEN="t")
    port = listening(worker)
    _pester(port, "root")
    words = [*files(converted, "base"), "--workers", f"localhost:{port}", "--prompt", "The capital of France is"]
    done = try_script("dllama", "inference", *words, GPUPLAN_TOKEN="t")
    assert (done.returncode, done.stdout) == (0, " Paris.\n"), done.stderr
    assert worker.wait(BOUND) == 0
    assert "Traceback" not in worker.stderr.read()


def test_no_line_of_a_stranger_ends_a_waiting_root(converted: Path, start: Start):
    """The same for a root that waits for its workers."""
    words = [*files(converted, "base"), "--port", "0", "--prompt", "The capital of France is"]
    root = start("dllama", "inference", *words, GPUPLAN_TOKEN="t")
    said = root.stderr.readline()
    assert said.startswith("note: waiting for 1 worker(s) on port "), said
    port = int(said.split()[-1])
    _pester(port, "worker")
    model = ["--model", str(converted / "base.m")]
    env = {"GPUPLAN_NODES": "2", "GPUPLAN_TOKEN": "t"}
    worker = start("dllama-worker", *model, "--root-hostname", f"127.0.0.1:{port}", **env, GPUPLAN_NODE_RANK="1")
    assert root.wait(BOUND) == 0
    assert root.stdout.read() == " Paris.\n"
    assert "Traceback" not in root.stderr.read()
    assert worker.wait(BOUND) == 0


def test_a_count_that_cannot_work_is_refused_at_once_on_all_ranks(converted: Path, start: Start):
    """Nine ranks for eight heads: root and workers end with the same message, before anything is loaded."""
    workers = [start("dllama-worker", "--model", str(converted / "base.m"), "--port", "0") for _ in range(8)]
    addresses = ",".join(f"localhost:{listening(worker)}" for worker in workers)
    done = try_script("dllama", "inference", *files(converted, "base"), "--workers", addresses, "--prompt", "x")
    assert done.returncode == 1
    assert "9 ranks cannot share this model" in done.stderr
    assert "1 to 8 ranks work" in done.stderr
    for worker in workers:
        assert worker.wait(BOUND) == 1
        assert worker.stderr.read() == done.stderr


def test_unequal_model_files_are_refused_on_all_ranks(converted: Path, start: Start):
    """A worker with another model's file: both ends say so, with the file to copy."""
    worker = start("dllama-worker", "--model", str(converted / "intellect3.m"), "--port", "0")
    words = [*files(converted, "base"), "--workers", f"localhost:{listening(worker)}", "--prompt", "x"]
    done = try_script("dllama", "inference", *words)
    assert done.returncode == 1
    assert "another model file" in done.stderr
    assert worker.wait(BOUND) == 1
    assert worker.stderr.read() == done.stderr


def test_workers_end_with_a_root_that_cannot_go_on(converted: Path, tmp_path: Path, start: Start):
    """A root whose tokenizer is damaged tells its worker why it ends."""
    worker = start("dllama-worker", "--model", str(converted / "base.m"), "--port", "0")
    damaged = tmp_path / "damaged.t"
    damaged.write_bytes((converted / "base.t").read_bytes()[:100])
    words = ["--model", str(converted / "base.m"), "--tokenizer", str(damaged), "--prompt", "x"]
    done = try_script("dllama", "inference", *words, "--workers", f"localhost:{listening(worker)}")
    assert done.returncode == worker.wait(BOUND) == 1
    assert worker.stderr.read() == done.stderr.replace("error: ", "error: The root ended: ")


def test_workers_end_when_the_root_is_killed(converted: Path, start: Start):
    """Kill -9 of the root in the middle of a long text: the worker notices and ends, and says why."""
    worker = start("dllama-worker", "--model", str(converted / "base.m"), "--port", "0")
    root = start("dllama", "inference", *long_text(converted, listening(worker)))
    wait_for_output(root)
    root.kill()
    assert worker.wait(BOUND) == 1
    assert "gone" in worker.stderr.read()


def test_the_root_ends_when_a_worker_is_killed(converted: Path, start: Start):
    """Kill -9 of a worker: the root ends with an error that names it, and the other worker ends too."""
    workers = [start("dllama-worker", "--model", str(converted / "base.m"), "--port", "0") for _ in range(2)]
    ports = [listening(worker) for worker in workers]
    root = start("dllama", "inference", *long_text(converted, *ports))
    wait_for_output(root)
    workers[0].kill()
    assert root.wait(BOUND) == 1
    said = root.stderr.read()
    assert said == f"error: Rank 1, the worker at 127.0.0.1:{ports[0]}, was lost: it ended, or its host is gone\n"
    assert workers[1].wait(BOUND) == 1
    assert workers[1].stderr.read() == said.replace("error: ", "error: The root ended: ")


def test_workers_end_when_the_root_is_interrupted(converted: Path, start: Start):
    """Ctrl-C at the root: it exits 130, and the worker ends with it."""
    worker = start("dllama-worker", "--model", str(converted / "base.m"), "--port", "0")
    root = start("dllama", "inference", *long_text(converted, listening(worker)))
    wait_for_output(root)
    root.send_signal(signal.SIGINT)
    assert root.wait(BOUND) == 130
    assert worker.wait(BOUND) == 1


def test_a_dialling_worker_refuses_a_count_that_cannot_work(converted: Path):
    """A worker that knows the number of nodes does not wait, for ten minutes, for a root that refused it before."""
    words = ["--model", str(converted / "base.m"), "--root-hostname", "localhost:1"]
    done = try_script("dllama-worker", *words, GPUPLAN_NODES="9")
    assert done.returncode == 1
    assert "9 ranks cannot share this model" in done.stderr


def test_one_node_needs_no_worker(converted: Path):
    """With $GPUPLAN_NODES=1 a root with --port waits for nobody."""
    words = [*files(converted, "base"), "--port", "0", "--prompt", "The capital of France is"]
    done = try_script("dllama", "inference", *words, GPUPLAN_NODES="1")
    assert (done.returncode, done.stdout) == (0, " Paris.\n"), done.stderr


def test_the_root_ends_when_a_worker_is_lost_before_the_first_pass(converted: Path):
    """A worker that proves itself, is handed its rank and then vanishes does not leave the root waiting for it."""
    import threading

    from dllama_glm.formats.fingerprint import fingerprint
    from dllama_glm.parallel.channel import admit

    def vanish(listener: socket.socket) -> None:
        channel = admit(listener.accept()[0], "worker")
        asked = channel.expect("ask")
        channel.send({"ready": {"model": fingerprint(Path(asked["model"])), "host": "elsewhere", "name": "a"}})
        channel.expect("join")
        channel.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        worker = threading.Thread(target=vanish, args=[listener])
        worker.start()
        address = f"localhost:{listener.getsockname()[1]}"
        done = try_script("dllama", "inference", *files(converted, "base"), "--workers", address, "--prompt", "x")
        worker.join()
    assert done.returncode == 1
    assert "was lost" in done.stderr
