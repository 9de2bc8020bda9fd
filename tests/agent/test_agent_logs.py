"""Logs: what is kept, what is masked, and how they are followed."""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.agent.conftest import AGENT, Machine

sys.path.insert(0, str(AGENT))
from gpuplan_agent import logs

SECRET = "abcabd-secret"


def feed(pieces: list[bytes], *, secrets: tuple[str, ...] = (), step_s: float = 0.0) -> bytes:
    taken = logs.Filter(list(secrets))
    out = b"".join(taken.feed(piece, 100.0 + at * step_s) for at, piece in enumerate(pieces))
    return out + taken.finish()


@given(st.binary(), st.lists(st.integers(0, 200)))
@settings(max_examples=300, deadline=None)
def test_plain_output_is_kept_as_it_is(data: bytes, cuts: list[int]):
    """Output without carriage returns is logged byte for byte, however it was cut on its way."""
    data = data.replace(b"\r", b"")
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[a:b] for a, b in itertools.pairwise(places)]
    assert feed(pieces) == data


@given(
    st.lists(st.sampled_from(["abc", "abd", "-secret", SECRET, "x", "\n", "\r", SECRET[:5]]), max_size=30), st.data()
)
@settings(max_examples=300, deadline=None)
def test_a_secret_is_masked_wherever_it_is_cut(words: list[str], data: st.DataObject):
    """A secret never passes the filter, in whatever pieces it comes."""
    text = "".join(words).encode()
    cut = data.draw(st.integers(0, len(text)))
    other = data.draw(st.integers(cut, len(text)))
    out = feed([text[:cut], text[cut:other], text[other:]], secrets=(SECRET,))
    assert SECRET.encode() not in out
    if b"\r" not in text:
        assert out == text.replace(SECRET.encode(), b"***")


def test_every_line_of_a_secret_is_masked():
    """Of a secret of several lines each line is masked by itself; texts under four characters are not."""
    key = "-----BEGIN KEY-----\nAAAA1111\n-----END KEY-----"
    assert feed([b"AAAA1111 and abc"], secrets=(key, "abc")) == b"*** and abc"


def test_redrawn_lines_keep_their_last_state():
    """Of a line that redraws itself its last state is logged, ended by what ended it."""
    assert feed([b"10%\r20%\r100%\ndone\n"]) == b"100%\ndone\n"
    assert feed([b"windows\r\nlines\r\n"]) == b"windows\nlines\n"
    assert feed([b"10%\r", b"20%\r", b"30%\r"]) == b"10%\r30%\r"
    assert feed([b"\r10%", b"\r20%", b"\rdone\n"], step_s=1.0) == b"10%\r20%\rdone\n"


def test_a_prompt_is_shown_without_waiting_for_its_end():
    """The beginning of a line that is not ended yet is passed on, and its end follows."""
    taken = logs.Filter([])
    assert taken.feed(b"Password: ", 1.0) == b"Password: "
    assert taken.feed(b"ok\n", 1.1) == b"ok\n"


@given(st.lists(st.binary(max_size=60), max_size=40), st.integers(1, 50))
@settings(max_examples=200, deadline=None)
def test_reading_from_any_offset_finds_what_is_kept(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], step: int
):
    """The head and the newest segments are there; reading on says how much between them is gone."""
    folder = str(tmp_path_factory.mktemp("log"))
    writer = logs.Writer(folder, head=64, segment=32)
    for piece in pieces:
        writer.write(piece)
    writer.close()
    whole = b"".join(pieces)
    assert writer.offset == len(whole)
    offset, kept = 0, 0
    while True:
        data, dropped, following = logs.read(folder, offset, step, head=64)
        if not data:
            break
        assert following == offset + dropped + len(data)
        assert data == whole[offset + dropped : following]
        assert not dropped or offset == 64, "only what lies between head and tail is ever dropped"
        offset, kept = following, kept + len(data)
    assert offset == len(whole)
    assert kept >= min(len(whole), 64 + 32)
    assert sum(path.stat().st_size for path in Path(folder).iterdir()) <= 64 + len(logs.NOTE) + 3 * 32


def test_fifty_megabytes_of_progress(machine: Machine):
    """50 MB of carriage returns and no newline: the job lives, its log stays small, and what it says last is found."""
    script = (
        "import sys; [sys.stdout.write(f'{i:07} of 5000000 ' + 'x' * 80 + '\\r') for i in range(500000)]; print('done')"
    )
    log, end = machine.run("job", f'python3 -c "{script}"')
    assert end["exit"] == 0
    assert log.endswith("done\n")
    assert end["log_bytes"] < 50_000
    seconds = end["ended"] - end["started"]
    assert log.count("\r") <= seconds / logs.STATE_EVERY_S + 2


def test_a_long_log_keeps_head_and_tail(machine: Machine):
    """Of 40 MB of lines the first and the last are there, the disk holds a bounded part, and the gap is named."""
    log, end = machine.run("job", "seq 1 5500000")
    assert end["exit"] == 0
    assert end["log_bytes"] > 40_000_000
    watched, _ = machine.watch("job")
    lines = watched.splitlines()
    assert lines[0] == "1"
    assert lines[-1] == "5500000"
    assert any("bytes of the log were dropped" in line for line in lines)
    on_disk = sum(path.stat().st_size for path in machine.job("job").glob("log*"))
    assert on_disk <= logs.HEAD + len(logs.NOTE) + (logs.KEPT + 1) * logs.SEGMENT
    assert log.splitlines()[-1] == "5500000"


def test_following_goes_on_from_the_offset(machine: Machine):
    """Whoever was cut off goes on from the last offset and has every character once, also those of several bytes."""
    machine.start("job", "for i in $(seq 300); do echo grüße-$i-\U0001f600; done")
    whole, _ = machine.watch("job")
    assert len(whole.splitlines()) == 300
    lines = [line for line in machine.lines("watch", job="job", offset=0) if "log" in line]
    for cut in (1, 7, 8, 9, 100):
        text, _ = machine.watch("job", len(whole.encode()[:cut].decode(errors="ignore").encode()))
        assert whole.endswith(text)
        assert len(text.encode()) == len(whole.encode()) - len(whole.encode()[:cut].decode(errors="ignore").encode())
    assert lines[-1]["offset"] == len(whole.encode())


def test_bytes_that_are_no_text_arrive_as_they_are(machine: Machine):
    """Output that is not UTF-8, a character's half at its end too, is handed over such that no byte of it is lost."""
    log, _ = machine.run("job", r"printf 'a\xff\xfeb\xc3\xbc\xed\xa0\x80\n\xc3'")
    assert log.encode("utf-8", "surrogateescape") == b"a\xff\xfeb\xc3\xbc\xed\xa0\x80\n\xc3"
    assert "b\xfc" in log
    assert (machine.job("job") / "log").read_bytes() == b"a\xff\xfeb\xc3\xbc\xed\xa0\x80\n\xc3"


def test_a_silent_job_is_heard_of(machine: Machine):
    """While a job says nothing, its watcher hears an empty line at least every five seconds."""
    machine.start("job", "sleep 5.5")
    process = machine.begin("watch", job="job", offset=0)
    assert process.stdout is not None
    times = [time.monotonic()]
    with process:
        times.extend(time.monotonic() for _ in process.stdout)
    assert max(b - a for a, b in itertools.pairwise(times)) < 5.0
