"""The script as the plan calls it, what it prints, and where it keeps its compiled loops."""

import ctypes
import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from dllama_glm.convert.progress import Progress, State
from dllama_glm.convert.progress_file import ProgressFile
from dllama_glm.quantise import cache

from tests.payload.converter.converter_files import (
    GLM,
    GOLDEN,
    MODELS,
    PAYLOAD,
    command,
    glm_tensors,
    run_converter,
    write_checkpoint,
)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The payload laid over a clone, without compiled files."""
    shutil.copytree(PAYLOAD, tmp_path / "clone", ignore=shutil.ignore_patterns("__pycache__", "*.m", "*.t"))
    return tmp_path / "clone"


def test_the_output_lies_beside_the_script(clone: Path):
    """From converter/ and from the top of the clone alike, NAME.m ends in converter/, and the last line says so."""
    model = str(MODELS / "zai-org" / "GLM-4.5-Air-Base")
    for place, script in (("converter", "convert-hf.py"), (".", "converter/convert-hf.py")):
        words = [sys.executable, script, model, "q40", "glm4_5_air"]
        run = subprocess.run(words, cwd=clone / place, capture_output=True, text=True, check=True, timeout=60)
        assert run.stdout.splitlines()[-1] == "glm4_5_air.m created successfully"
        assert (clone / "converter" / "glm4_5_air.m").stat().st_size == 1448536
        assert [path.name for path in clone.rglob("*.m*") if "glm4_5_air" in path.name] == ["glm4_5_air.m"]
        (clone / "converter" / "glm4_5_air.m").unlink()


def test_a_folder_as_output_takes_the_name(tmp_path: Path):
    """--output FOLDER writes FOLDER/NAME.m."""
    assert run_converter(GOLDEN / "llama", "f16", tmp_path).returncode == 0
    assert (tmp_path / "name.m").exists()


def test_a_name_may_be_written_with_its_ending(tmp_path: Path):
    """NAME `x.m` is x.m too; the ending alone is no name."""
    words = command(GOLDEN / "llama", "f16", tmp_path)
    at = words.index("name")
    run = subprocess.run([*words[:at], "x.m", *words[at + 1 :]], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.splitlines()[-1] == "x.m created successfully"
    assert (tmp_path / "x.m").exists()
    refused = subprocess.run(
        [*words[:at], ".m", *words[at + 1 :]], capture_output=True, text=True, timeout=60, check=False
    )
    assert refused.returncode == 2
    assert "'.m', which is no file name" in refused.stderr


def test_neither_torch_nor_transformers_is_loaded(tmp_path: Path):
    """The converter needs numpy and numba only."""
    code = (
        "import sys; from dllama_glm.convert import main; "
        f"code = main({command(GOLDEN / 'llama', 'q40', tmp_path / 'x.m')[2:]!r}); "
        "print(sorted({'torch', 'transformers', 'safetensors'} & set(sys.modules)), code)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=PAYLOAD, capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.splitlines()[-1] == "[] 0"


def test_json_events_tell_start_and_end(tmp_path: Path):
    """Every line is JSON; the last has the result."""
    run = run_converter(GOLDEN / "llama", "q40", tmp_path / "x.m", "--json")
    events = [json.loads(line) for line in run.stdout.splitlines()]
    assert next(event for event in events if event["event"] == "start")["output_bytes"] == 467592
    assert events[-1]["event"] == "done"
    assert events[-1]["message"] == "x.m created successfully"
    assert events[-1]["bytes_written"] == 467592


def test_a_json_error_is_an_event(tmp_path: Path):
    """With --json a refusal is a line on stdout as well as an exit code."""
    run = run_converter(tmp_path, "q40", tmp_path / "out.m", "--json")
    assert run.returncode == 3
    event = json.loads(run.stdout.splitlines()[-1])
    assert (event["event"], event["code"]) == ("error", 3)


@pytest.mark.parametrize("sparing", [False, True], ids=["plain", "low memory"])
def test_metrics_are_appended(*, sparing: bool, tmp_path: Path):
    """GPUPLAN_METRICS names a file that gets the figures, each with its place, and which way was really taken."""
    metrics = tmp_path / "metrics"
    metrics.write_text('{"name": "before", "value": 1}\n')
    words = ["--low-memory"] if sparing else []
    run_converter(GOLDEN / "llama", "q40", tmp_path / "x.m", *words, env={"GPUPLAN_METRICS": str(metrics)})
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    found = {line["name"]: line["value"] for line in lines}
    names = {"bytes_read", "bytes_written", "seconds", "mb_per_s", "peak_memory_mib", "low_memory"}
    assert set(found) == {"before"} | names
    assert (found["bytes_written"], found["low_memory"]) == (467592, sparing)
    assert found["seconds"] > 0
    assert found["peak_memory_mib"] > 10
    assert {line["device"] for line in lines[1:]} == {"cpu"}
    assert all(line["measured_on"].startswith("CPU (") for line in lines[1:])


def _obey_permissions() -> None:
    """Give up root's right to write anywhere, so that read-only folders are that for root too."""
    drop_from_bounding_set, override = 24, 1
    ctypes.CDLL(None).prctl(drop_from_bounding_set, override, 0, 0, 0)


def test_a_package_that_cannot_be_written_still_converts(clone: Path, tmp_path: Path):
    """With a read-only package and home the loops are cached in the system's folder for temporary files."""
    for path in [*clone.rglob("*"), clone]:
        path.chmod(path.stat().st_mode & ~stat.S_IWUSR)
    words = [sys.executable, str(clone / "converter/convert-hf.py"), str(GOLDEN / "llama"), "q40", "x"]
    env = {"PATH": os.environ["PATH"], "HOME": str(clone), "TMPDIR": str(tmp_path)}
    run = subprocess.run(
        [*words, "--output", str(tmp_path)],
        env=env, check=False, timeout=60, capture_output=True, text=True, preexec_fn=_obey_permissions,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert list(tmp_path.glob("dllama-glm-*/**/*.nbc"))
    for path in [clone, *clone.rglob("*")]:
        path.chmod(path.stat().st_mode | stat.S_IWUSR)


def _changed(change: str, *words: str) -> list[str]:
    """The converter's command line, run after a change of what Python says about its surroundings."""
    return [sys.executable, "-c", f"{change}; from dllama_glm.convert import main; sys.exit(main({list(words)!r}))"]


def test_a_user_without_a_home_still_converts(clone: Path, tmp_path: Path):
    """No HOME, no line in the list of users, a package that cannot be written: the loops are kept in /tmp's place."""
    for path in [*clone.rglob("*"), clone]:
        path.chmod(path.stat().st_mode & ~stat.S_IWUSR)
    nobody = "import pwd, sys, unittest.mock as m; pwd.getpwuid = m.Mock(side_effect=KeyError('uid not found'))"
    words = _changed(nobody, str(GOLDEN / "llama"), "q40", "x", "--output", str(tmp_path))
    env = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)}
    run = subprocess.run(
        words, cwd=clone, env=env, check=False, timeout=60, capture_output=True, text=True, preexec_fn=_obey_permissions
    )
    for path in [clone, *clone.rglob("*")]:
        path.chmod(path.stat().st_mode | stat.S_IWUSR)
    assert (run.returncode, run.stderr) == (0, "")
    assert list(tmp_path.glob("dllama-glm-*/**/*.nbc"))


def test_without_any_folder_for_the_loops_it_still_converts(clone: Path, tmp_path: Path):
    """Where nothing can be kept the loops are compiled in the run, one note says so, and the bytes are the same."""
    nowhere = "import sys, dllama_glm.quantise.cache as c; c._base = lambda: None"
    words = _changed(nowhere, str(GOLDEN / "llama"), "q40", "x", "--output", str(tmp_path))
    run = subprocess.run(words, cwd=clone, check=False, timeout=60, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("no folder for the compiled loops can be written") == 1
    assert not list(tmp_path.rglob("*.nbc"))
    expected = json.loads((GOLDEN / "llama" / "expected.json").read_text())["m"]["q40"]
    assert hashlib.sha256((tmp_path / "x.m").read_bytes()).hexdigest() == expected["sha256"]


def test_a_shared_folder_that_others_can_write_is_not_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A folder in /tmp that belongs to somebody else, or that others may write, is never used: a new one is made."""
    monkeypatch.setattr(cache, "_can_be_written", lambda _: False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    usual = tmp_path / f"dllama-glm-{os.getuid()}"
    assert cache._base() == usual
    usual.chmod(0o777)
    assert cache._base() not in {None, usual}
    usual.rmdir()
    usual.symlink_to(tmp_path)
    assert cache._base() not in {None, usual}


def test_the_cache_folder_of_the_environment_is_used(clone: Path, tmp_path: Path):
    """NUMBA_CACHE_DIR decides where loops go, nothing is left beside the source, and a warm run compiles nothing."""
    words = [sys.executable, str(clone / "converter/convert-hf.py"), str(GOLDEN / "llama"), "q40", "x"]
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    kept = []
    for _ in range(2):
        subprocess.run([*words, "--output", str(tmp_path)], env=env, check=True, timeout=60, capture_output=True)
        kept.append({path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.nb?")})
    assert [path for path in kept[0] if path.suffix == ".nbc"]
    assert kept[1] == kept[0]
    assert not list(clone.rglob("*.nbc"))


def test_changed_vector_operations_are_compiled_again(clone: Path, tmp_path: Path):
    """A loop whose operations stand in another file is not taken from the cache once that file has changed."""
    words = [sys.executable, str(clone / "converter/convert-hf.py"), str(GOLDEN / "llama"), "q40", "x"]
    vectors = clone / "dllama_glm" / "quantise" / "vectors.py"
    text = vectors.read_text()
    assert "splat(8.5, _FLOAT)" in text
    subprocess.run([*words, "--output", str(tmp_path / "one.m")], check=True, timeout=60, capture_output=True)
    vectors.write_text(text.replace("splat(8.5, _FLOAT)", "splat(7.5, _FLOAT)"))
    subprocess.run([*words, "--output", str(tmp_path / "two.m")], check=True, timeout=60, capture_output=True)
    assert (tmp_path / "one.m").read_bytes() != (tmp_path / "two.m").read_bytes()


def _states(count: int) -> list[State]:
    return [State(number * 10_000_000, 0, 1_000_000_000, f"tensor {number}") for number in range(count)]


def test_a_terminal_shows_a_bar_that_is_taken_away():
    """Bytes, speed, time left and the tensor's name on one line, cleared before the next text."""
    stream, now = Terminal(), iter(range(100))
    progress = Progress(as_json=False, stream=stream, clock=lambda: next(now))
    for state in _states(3):
        progress.update(state)
    progress.note("done")
    lines = stream.getvalue().split("\r")
    assert "2.0 %  20 of 1,000 MB, 7 MB/s, 2:27 left  tensor 2" in lines[-2]
    assert lines[-1] == "\x1b[Kdone\n"


def test_elsewhere_one_line_a_minute_is_written():
    """Two hundred updates, one a second, are three lines."""
    stream, now = io.StringIO(), iter(range(1000))
    progress = Progress(as_json=False, stream=stream, clock=lambda: next(now))
    for state in _states(200):
        progress.update(state)
    assert len(stream.getvalue().splitlines()) == 3


def test_json_progress_has_what_an_estimate_needs():
    """Bytes done and in all, speed and seconds left, at most one a second."""
    stream, now = io.StringIO(), iter(number / 4 for number in range(1000))
    progress = Progress(as_json=True, stream=stream, clock=lambda: next(now))
    for state in _states(9):
        progress.update(state)
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(events) == 2
    assert events[0].keys() == {"event", "bytes", "total_bytes", "mb_per_s", "seconds_left", "tensor"}
    assert events[1]["bytes"] == 70_000_000


def test_the_controllers_file_is_replaced_twice_a_second(tmp_path: Path):
    """Ten updates a second replace the file every half second, and what is complete is written at once."""
    path, now = tmp_path / "progress", iter(number / 10 for number in range(1000))
    progress = Progress(as_json=False, stream=io.StringIO(), clock=lambda: next(now), file=ProgressFile(path))
    seen = set()
    for state in _states(15):
        progress.update(state)
        seen.add(path.read_text())
    found = sorted((json.loads(text) for text in seen), key=lambda facts: facts["done"])
    assert [facts["done"] for facts in found] == [0, 50_000_000, 100_000_000]
    assert found[0] == {"done": 0, "total": 1_000_000_000, "unit": "B", "rate": 0, "left_s": None, "what": "tensor 0"}
    assert found[2]["rate"] == pytest.approx(100e6 / 1.1)
    assert found[2]["left_s"] == pytest.approx(900e6 / found[2]["rate"])
    progress.update(State(1_000_000_000, 0, 1_000_000_000, "last"))
    assert json.loads(path.read_text())["what"] == "last"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("program", ["convert-hf.py", "dllama verify"])
def test_a_controller_is_told_how_far_it_is(program: str, tmp_path: Path):
    """GPUPLAN_PROGRESS names a file that in the end says: all bytes, no time left, the last tensor."""
    assert run_converter(GOLDEN / "llama", "q40", tmp_path / "x.m").returncode == 0
    told = {"GPUPLAN_PROGRESS": str(tmp_path / "progress")}
    if program == "convert-hf.py":
        run = run_converter(GOLDEN / "llama", "q40", tmp_path / "y.m", env=told)
    else:
        words = [sys.executable, str(PAYLOAD / "dllama"), "verify", str(tmp_path / "x.m"), str(GOLDEN / "llama")]
        env = {**os.environ, **told}
        run = subprocess.run(words, capture_output=True, text=True, env=env, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads((tmp_path / "progress").read_text())
    assert found["done"] == found["total"] > 0
    assert (found["rate"] > 0, found["left_s"]) == (True, 0)
    assert found["what"]


@pytest.mark.parametrize("place", ["nowhere/progress", ""])
def test_a_progress_file_that_cannot_be_written_is_no_failure(place: str, tmp_path: Path):
    """A missing folder, or a folder where the file should be: it converts all the same, without a word."""
    told = {"GPUPLAN_PROGRESS": str(tmp_path / place)}
    run = run_converter(GOLDEN / "llama", "q40", tmp_path / "x.m", env=told)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("words", [(), ("--json",)])
@pytest.mark.parametrize("closed", ["a pipe without a reader", "from the start"])
def test_a_progress_that_nobody_reads_is_no_failure(closed: str, words: tuple[str, ...], tmp_path: Path):
    """With stdout closed it converts all the same, to the same bytes, and ends with 0 and without a word."""
    assert run_converter(GOLDEN / "llama", "q40", tmp_path / "x.m").returncode == 0
    reader, writer = os.pipe()
    os.close(reader)
    try:
        run = subprocess.run(
            command(GOLDEN / "llama", "q40", tmp_path / "y.m", *words),
            stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
            preexec_fn=(lambda: os.close(1)) if closed == "from the start" else None,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert (run.returncode, run.stderr) == (0, "")
    assert (tmp_path / "y.m").read_bytes() == (tmp_path / "x.m").read_bytes()


def test_linked_shards_are_followed(tmp_path: Path):
    """A checkpoint whose shard is a link, as the hub's cache has them, converts like a file."""
    folder = write_checkpoint(tmp_path / "blobs", GLM, glm_tensors(GLM))
    linked = tmp_path / "snapshot"
    linked.mkdir()
    for file in folder.iterdir():
        (linked / file.name).symlink_to(file)
    assert run_converter(linked, "q40", tmp_path / "x.m").returncode == 0
