"""What goes wrong between ranks: strangers in front of them, ranks that hang or are late, roots that come and go."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.payload.runtime.runtime_ranks import (
    BOUND,
    Processes,
    Start,
    files,
    free_port,
    listening,
    long_text,
    patched,
    wait_for_output,
)
from tests.payload.runtime.runtime_scripts import PAYLOAD, try_script

SHORT = {"DLLAMA_PATIENCE": "0.4"}  # 6 s without a sign of life, 7 s for a sum
PARIS = ["--prompt", "The capital of France is"]


@contextmanager
def strangers(port: int) -> Iterator[None]:
    """Three connections that say nothing, and three that say one byte of a long greeting every half second."""
    ended = threading.Event()
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(6)]

        def drip() -> None:
            while not ended.wait(0.5):
                for connection in sockets[3:]:
                    with suppress(OSError):
                        connection.send(b"{")

        thread = threading.Thread(target=drip)
        thread.start()
        stack.callback(thread.join)
        stack.callback(ended.set)
        yield


def test_slow_and_silent_strangers_keep_no_root_from_a_worker(converted: Path, start: Start):
    """With six strangers in front of it a worker serves its root at once: nobody waits for their time to pass."""
    long = {"GPUPLAN_TOKEN": "t", "DLLAMA_PATIENCE": "100"}  # strangers have 1000 s for their handshake
    worker = start("dllama-worker", "--model", str(converted / "base.m"), "--port", "0", **long)
    port = listening(worker)
    with strangers(port):
        words = [*files(converted, "base"), "--workers", f"localhost:{port}", *PARIS]
        done = try_script("dllama", "inference", *words, **long)
        assert (done.returncode, done.stdout) == (0, " Paris.\n"), done.stderr
        assert worker.wait(BOUND) == 0


def test_slow_and_silent_strangers_keep_no_worker_from_a_root(converted: Path, start: Start):
    """The same for a root that waits for a worker."""
    long = {"GPUPLAN_TOKEN": "t", "DLLAMA_PATIENCE": "100"}
    root = start("dllama", "inference", *files(converted, "base"), "--port", "0", *PARIS, **long)
    port = int(root.stderr.readline().split()[-1])
    with strangers(port):
        words = ["--model", str(converted / "base.m"), "--root-hostname", f"127.0.0.1:{port}"]
        worker = start("dllama-worker", *words, **long)
        assert root.wait(BOUND) == 0, root.stderr.read()
        assert root.stdout.read() == " Paris.\n"
        assert worker.wait(BOUND) == 0


def test_a_handshake_has_one_deadline_however_it_drips():
    """A byte every 50 ms does not stretch the time for a handshake: the connection is closed, and it is said why."""
    from dllama_glm.parallel.channel import Unanswered, admit

    ours, theirs = socket.create_server(("127.0.0.1", 0)), socket.socket()
    with ours, theirs:
        theirs.connect(ours.getsockname())
        connection = ours.accept()[0]
        ended = threading.Event()

        def drip() -> None:
            while not ended.wait(0.05):
                theirs.send(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(Unanswered, match="has not answered in time"):
            admit(connection, "worker", time.monotonic() + 0.4)
        ended.set()
        thread.join()


def test_the_strangers_that_have_waited_longest_make_room(monkeypatch: pytest.MonkeyPatch):
    """With all places taken by silent strangers, one who holds the token still comes in."""
    from dllama_glm.parallel import door as doors
    from dllama_glm.parallel.addresses import Endpoint
    from dllama_glm.parallel.dialling import dial

    monkeypatch.setattr(doors, "AT_ONCE", 3)
    door = doors.Door([socket.create_server(("127.0.0.1", 0))], "worker")
    with ExitStack() as stack:
        stack.callback(door.close)
        for _ in range(5):
            stack.enter_context(socket.create_connection(("127.0.0.1", door.port)))
        met = []
        thread = threading.Thread(target=lambda: met.append(dial(Endpoint("127.0.0.1", door.port), "root", 20)))
        thread.start()
        channel = door.next(30)
        thread.join()
        assert channel is not None
        assert len(met) == 1
        for end in (channel, *met):
            end.close()


def test_a_silent_stranger_on_the_port_is_an_error_in_time(converted: Path):
    """A root that dials a port where somebody accepts and says nothing tries again until its patience ends."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        address = f"127.0.0.1:{stranger.getsockname()[1]}"
        words = [*files(converted, "base"), "--workers", address, *PARIS]
        done = try_script("dllama", "inference", *words, DLLAMA_PATIENCE="0.1")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: No worker answers at {address} (")
    assert done.stderr.count("\n") == 1


def test_a_hanging_worker_ends_every_rank_with_its_name(converted: Path, start: Start):
    """SIGSTOP of a worker at work: root and other worker end with one error that names it, not after half an hour."""
    words = ["--model", str(converted / "base.m"), "--port", "0"]
    workers = [start("dllama-worker", *words, **SHORT) for _ in range(2)]
    ports = [listening(worker) for worker in workers]
    root = start("dllama", "inference", *long_text(converted, *ports), **SHORT)
    wait_for_output(root)
    workers[0].send_signal(signal.SIGSTOP)
    assert root.wait(BOUND) == 1
    said = root.stderr.read()
    # Which of the two is noticed first, the silence or the sum that does not come, is a matter of a second.
    assert re.match(
        rf"error: .*rank 1, the worker at 127\.0\.0\.1:{ports[0]}\b.* (no sign of life|It hangs)", said, re.IGNORECASE
    )
    assert said.count("\n") == 1
    assert workers[1].wait(BOUND) == 1
    assert workers[1].stderr.read() == said.replace("error: ", "error: The root ended: ")


def test_a_hanging_root_ends_its_worker(converted: Path, start: Start):
    """SIGSTOP of the root: the worker ends, and says that it was the root."""
    worker = start("dllama-worker", "--model", str(converted / "base.m"), "--port", "0", **SHORT)
    root = start("dllama", "inference", *long_text(converted, listening(worker)), **SHORT)
    wait_for_output(root)
    root.send_signal(signal.SIGSTOP)
    assert worker.wait(BOUND) == 1
    said = worker.stderr.read()
    assert "was lost: no sign of life for 6 s" in said
    assert said.startswith("error: The root at 127.0.0.1:")
    assert said.count("\n") == 1


def test_a_rank_that_lives_but_does_not_come_to_a_sum_is_named(converted: Path, start: Processes):
    """A worker whose disk hangs in its third pass, while the process lives: every rank ends with its name."""
    hang = """
import threading
from dllama_glm.runtime.model import Model
greedy, passes = Model.greedy, []
def late(self, ids, position):
    passes.append(position)
    return threading.Event().wait() if len(passes) == 3 else greedy(self, ids, position)
Model.greedy = late"""
    words = ["--model", str(converted / "base.m"), "--port", "0"]
    workers = [start.begin([*patched("dllama-worker", patch), *words], **SHORT) for patch in ("", hang)]
    ports = [listening(worker) for worker in workers]
    addresses = ",".join(f"127.0.0.1:{port}" for port in ports)
    words = [*files(converted, "base"), "--workers", addresses, "--prompt", "Benchmark test"]
    root = start("dllama", "inference", *words, **SHORT)
    for process, origin in ((root, ""), (workers[0], "The root ended: ")):
        assert process.wait(BOUND) == 1
        said = process.stderr.read()
        blamed = f"within 7.2 s there was no more of rank 2, the worker at 127.0.0.1:{ports[1]}. It hangs"
        assert said.startswith(f"error: {origin}A pass came to a halt: {blamed}"), said
        assert said.count("\n") == 1


def test_a_kept_worker_serves_root_after_root(converted: Path, start: Start):
    """--keep: after a root with another file, one that was killed, and one that ended well, it listens again."""
    worker = start("dllama-worker", "--model", str(converted / "base.m"), "--port", "0", "--keep", **SHORT)
    port = listening(worker)
    paris = [*files(converted, "base"), "--workers", f"localhost:{port}", *PARIS]

    def again() -> None:
        lines = iter(worker.stdout.readline, "")
        assert f"listening on port {port}\n" in lines

    other = [*files(converted, "intellect3"), "--workers", f"localhost:{port}", *PARIS]
    assert "another model file" in try_script("dllama", "inference", *other).stderr
    again()
    root = start("dllama", "inference", *long_text(converted, port), **SHORT)
    wait_for_output(root)
    root.kill()
    again()
    done = try_script("dllama", "inference", *paris)
    assert (done.returncode, done.stdout) == (0, " Paris.\n"), done.stderr
    again()
    assert worker.poll() is None


def test_keep_goes_with_a_port_only():
    """A worker that dials its root cannot be kept: exit code 2, and what to write instead."""
    done = try_script("dllama-worker", "--root-hostname", "localhost:1", "--keep")
    assert (done.returncode, done.stderr) == (
        2,
        "error: --keep goes with --port: a worker that dials its root ends with it.\n",
    )


@pytest.mark.parametrize(
    ("address", "token", "words"),
    [("10.1.2.3", "", "GPUPLAN_TOKEN"), ("8.8.8.8", "t", "public address"), ("here", "t", "is no address")],
    ids=["no token", "public", "no address"],
)
def test_no_listener_where_strangers_come(address: str, token: str, words: str):
    """Beyond loopback a worker listens with a token only, and on a public address never."""
    done = try_script("dllama-worker", "--port", "0", GPUPLAN_PRIVATE_IP=address, GPUPLAN_TOKEN=token)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stdout == ""


def test_a_root_without_a_token_waits_on_loopback_only(converted: Path, start: Processes):
    """No private address named and no token: whoever waits for workers waits for those of this host."""
    words = ["--port", str(free_port()), "--json", *files(converted, "base"), *PARIS]
    patch = "import dllama_glm.parallel.addresses as a; a.private_address = lambda: '127.0.0.2'"
    root = start.begin([*patched("dllama", patch), "inference", *words], GPUPLAN_PRIVATE_IP="")
    said = root.stderr.readline()
    assert said == "note: no GPUPLAN_TOKEN is set: only this host's workers can come\n"
    root.stderr.readline()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", int(words[1]))).close()


def test_whatever_is_lost_at_work_is_said_everywhere_within_30_s():
    """The times that ranks wait, as they are by default, add up to less than docs/dllama.md promises."""
    code = "from dllama_glm.parallel import channel, patience as p; print(p.SILENCE, p.STEP, p.BEAT, p.VERDICT)"
    words = [sys.executable, "-c", code]
    environment = {name: value for name, value in os.environ.items() if name != "DLLAMA_PATIENCE"}
    told = subprocess.run(words, cwd=PAYLOAD, env=environment, capture_output=True, text=True, timeout=60, check=True)
    silence, step, beat, verdict = map(float, told.stdout.split())
    assert beat * 3 < silence < step, "signs of life tell first which rank it is"
    assert max(silence, step) + beat + verdict < 30


def test_patience_that_is_no_number_is_refused():
    """$DLLAMA_PATIENCE that multiplies nothing is one error with exit code 2."""
    done = try_script("dllama-worker", "--port", "0", DLLAMA_PATIENCE="soon")
    assert done.returncode == 2
    assert done.stderr.startswith("error: DLLAMA_PATIENCE is 'soon'")
