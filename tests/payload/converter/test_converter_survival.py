"""Kills, full disks, crashes and rivals: the output is whole or not there, and work done is not done again."""

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dllama_glm.convert import main

from tests.payload.converter.converter_files import (
    GLM_MOE,
    Tensors,
    begin_converter,
    bf16,
    command,
    convert,
    glm_shapes,
    glm_tensors,
    run_converter,
    write_checkpoint,
)

CONFIG = GLM_MOE | {"hidden_size": 512, "moe_intermediate_size": 512, "intermediate_size": 512, "num_hidden_layers": 16}


def _large() -> Tensors:
    """About 130 MB in 400 tensors of the same noise."""
    noise = bf16(np.random.default_rng(0).standard_normal(1 << 20).astype(np.float32))
    return {name: np.resize(noise, shape) for name, shape in glm_shapes(CONFIG).items()}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that takes long enough to be killed in the middle of."""
    return write_checkpoint(tmp_path_factory.mktemp("large"), CONFIG, _large(), shards=4)


@pytest.fixture(scope="module")
def whole(large: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What an undisturbed conversion gives."""
    return convert(large, "q40", tmp_path_factory.mktemp("whole") / "x.m")


def _done(output: Path) -> int:
    """Finished tensors in the journal."""
    try:
        return output.with_name(output.name + ".partial.journal").read_text().count('"done"')
    except FileNotFoundError:
        return 0


def _kill_after(large: Path, output: Path, tensors: int) -> bool:
    """Kill a conversion once that many tensors are done; False if it was faster."""
    process = begin_converter(large, "q40", output)
    while process.poll() is None and _done(output) < tensors:
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def _leave_partial(folder: Path, output: Path, tensors: int = 60) -> None:
    """Kill conversions until one was caught in the middle: its partial file is there, and no output."""
    while not _kill_after(folder, output, tensors):
        output.unlink()


def _harmed(large: Path, room: Path, harm: Callable[[Path], None]) -> tuple[int, str]:
    """Convert a copy of the checkpoint that is harmed while it is read; exit code and what stderr said."""
    source, output = shutil.copytree(large, room / "source"), room / "x.m"
    process = begin_converter(source, "q40", output)
    while process.poll() is None and not _done(output):
        time.sleep(0.0005)
    harm(source)
    _, said = process.communicate()
    return process.wait(), said


@pytest.mark.parametrize("after", [1, pytest.param(40, marks=pytest.mark.faults), 150])
def test_a_killed_run_is_gone_on_with(after: int, large: Path, whole: bytes, tmp_path: Path):
    """Kill -9, the same command again: finished tensors are not read again; bytes and sum are those of one run."""
    output = tmp_path / "x.m"
    _leave_partial(large, output, after)
    assert not output.exists()
    done = _done(output)
    assert done >= after
    checksums = tmp_path / "checksums"
    run = run_converter(large, "q40", output, "--json", env={"GPUPLAN_CHECKSUMS": str(checksums)}, cwd=tmp_path)
    assert checksums.read_text() == f"{hashlib.sha256(whole).hexdigest()}  x.m\n"
    checksums.unlink()
    events = [json.loads(line) for line in run.stdout.splitlines()]
    assert events[-1]["resumed_tensors"] >= after
    assert events[-1]["bytes_read"] < next(event for event in events if event["event"] == "start")["bytes"]
    assert output.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["x.m"]


def test_kills_in_a_row_still_end_in_the_same_bytes(large: Path, whole: bytes, tmp_path: Path):
    """Three kills, each a little later, then a run to the end."""
    output = tmp_path / "x.m"
    landed = sum(_kill_after(large, output, after) for after in (5, 60, 120))
    assert landed
    assert convert(large, "q40", output) == whole


def test_a_crash_of_the_machine_trusts_only_what_was_synced(large: Path, whole: bytes, tmp_path: Path):
    """After another boot, tensors that were never brought to the disk are converted again, whatever the file holds."""
    output = tmp_path / "x.m"
    _leave_partial(large, output)
    journal, partial = output.with_name("x.m.partial.journal"), output.with_name("x.m.partial")
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    records[0]["boot"] = "another"
    journal.write_text("".join(json.dumps(record) + "\n" for record in records))
    partial.write_bytes(bytes(partial.stat().st_size))
    assert convert(large, "q40", output) == whole


def test_a_torn_journal_is_used_up_to_the_tear(large: Path, whole: bytes, tmp_path: Path):
    """A half-written last line is not believed; the lines before it are."""
    output = tmp_path / "x.m"
    _leave_partial(large, output)
    journal = output.with_name("x.m.partial.journal")
    journal.write_text(journal.read_text()[:-3])
    run = run_converter(large, "q40", output)
    assert "going on with" in run.stdout
    assert output.read_bytes() == whole


def test_force_starts_over(large: Path, whole: bytes, tmp_path: Path):
    """--force reads everything again."""
    output = tmp_path / "x.m"
    _leave_partial(large, output)
    run = run_converter(large, "q40", output, "--force", "--json")
    assert json.loads(run.stdout.splitlines()[-1])["resumed_tensors"] == 0
    assert output.read_bytes() == whole


def test_a_partial_of_another_type_is_not_gone_on_with(large: Path, tmp_path: Path):
    """Another type begins anew."""
    output = tmp_path / "x.m"
    _leave_partial(large, output)
    fresh = convert(large, "q80", tmp_path / "fresh.m")
    run = run_converter(large, "q80", output, "--json")
    assert json.loads(run.stdout.splitlines()[-1])["resumed_tensors"] == 0
    assert output.read_bytes() == fresh


def _times_alike(folder: Path) -> None:
    """As an archive leaves files: all of one time."""
    for path in folder.iterdir():
        os.utime(path, ns=(0, 0))


def test_another_model_of_the_same_shapes_and_times_is_not_gone_on_with(large: Path, tmp_path: Path):
    """Two checkpoints that differ in nothing but their weights: the second is converted from its beginning."""
    output = tmp_path / "x.m"
    first = shutil.copytree(large, tmp_path / "first")
    other = write_checkpoint(
        tmp_path / "other", CONFIG, {n: (v + 1).astype(v.dtype) for n, v in _large().items()}, shards=4
    )
    for folder in (first, other):
        _times_alike(folder)
    _leave_partial(first, output)
    fresh = convert(other, "q40", tmp_path / "fresh.m")
    assert convert(other, "q40", output) == fresh


def test_a_partial_that_was_damaged_is_mended(large: Path, whole: bytes, tmp_path: Path):
    """The journal says that tensors are done and the file holds zeros: they are converted again, and that is said."""
    output = tmp_path / "x.m"
    _leave_partial(large, output)
    partial = output.with_name("x.m.partial")
    partial.write_bytes(bytes(partial.stat().st_size))
    run = run_converter(large, "q40", output)
    assert "are not what the source says: they are converted again" in run.stdout
    assert output.read_bytes() == whole


def test_a_source_that_changes_meanwhile_gives_no_model(large: Path, tmp_path: Path):
    """Shards overwritten while they are read: exit code 3 names one, no file, and nothing to go on with."""

    def overwrite(source: Path) -> None:
        with max(source.glob("*.safetensors")).open("r+b") as file:
            file.seek(-2, os.SEEK_END)
            file.write(b"\0\0")

    code, said = _harmed(large, tmp_path, overwrite)
    last = max(large.glob("*.safetensors")).name
    assert (code, f"{last} changed while it was converted" in said) == (3, True), said
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_source_that_shrinks_meanwhile_is_an_error_with_its_name(large: Path, tmp_path: Path):
    """Shards cut short while they are read: one sentence and exit code 3, not a signal."""

    def cut_short(source: Path) -> None:
        for shard in source.glob("*.safetensors"):
            os.truncate(shard, 1000)

    code, said = _harmed(large, tmp_path, cut_short)
    assert (code, "shorter than it was" in said) == (3, True), said
    assert not (tmp_path / "x.m").exists()


def test_a_full_disk_is_said_and_survived(large: Path, whole: bytes, tmp_path: Path):
    """Writing fails in the middle: one clear sentence, no file under the final name, and the next run goes on."""
    output = tmp_path / "x.m"
    limit = len(whole) // 2

    def smaller() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    run = subprocess.run(
        command(large, "q40", output), capture_output=True, text=True, check=False, timeout=120, preexec_fn=smaller
    )
    assert run.returncode == 3
    assert "file too large for this disk or for ulimit -f" in run.stderr
    assert "the same command again" in run.stderr
    assert "Traceback" not in run.stderr
    assert not output.exists()
    again = run_converter(large, "q40", output, "--json")
    assert json.loads(again.stdout.splitlines()[-1])["resumed_tensors"] > 0
    assert output.read_bytes() == whole


def test_the_old_output_stays_until_the_new_one_is_whole(large: Path, whole: bytes, tmp_path: Path):
    """A rebuild replaces the file at once; a killed rebuild leaves the old one."""
    output = tmp_path / "x.m"
    output.write_bytes(b"old")
    while not _kill_after(large, output, 30):
        output.write_bytes(b"old")
    assert output.read_bytes() == b"old"
    assert convert(large, "q40", output) == whole


def test_two_converters_on_one_output_do_not_mix(large: Path, whole: bytes, tmp_path: Path):
    """While one runs, a second on the same output refuses and harms nothing."""
    output = tmp_path / "x.m"
    first = begin_converter(large, "q40", output)
    try:
        while _done(output) < 5:
            time.sleep(0.0005)
        first.send_signal(signal.SIGSTOP)
        second = run_converter(large, "q40", output)
    finally:
        first.send_signal(signal.SIGCONT)
    assert first.wait() == 0
    assert second.returncode == 3
    assert "is being written by another converter" in second.stderr
    assert output.read_bytes() == whole


def test_an_interrupt_is_said_and_survived(large: Path, whole: bytes, tmp_path: Path):
    """Ctrl-C ends with 130 and a sentence; the same command goes on."""
    output = tmp_path / "x.m"
    process = begin_converter(large, "q40", output)
    while _done(output) < 5 and process.poll() is None:
        time.sleep(0.0005)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
    assert process.returncode == 130
    assert "goes on from here" in error
    assert "Traceback" not in error
    assert convert(large, "q40", output) == whole


def test_low_memory_gives_the_same_bytes(large: Path, whole: bytes, tmp_path: Path):
    """--low-memory changes how, not what."""
    assert convert(large, "q40", tmp_path / "x.m", "--low-memory") == whole


@pytest.mark.parametrize(("options", "limit_mb"), [((), 300), (("--low-memory",), 200)])
def test_anonymous_memory_stays_bounded(options: tuple[str, ...], limit_mb: int, large: Path, tmp_path: Path):
    """Anonymous memory at its peak, interpreter and compiler included, is within the promise."""
    process = subprocess.Popen(command(large, "f32", tmp_path / "x.m", *options), stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, _anonymous_kb(process.pid))
        time.sleep(0.001)
    assert process.returncode == 0
    assert 0 < peak < limit_mb * 1000


def _anonymous_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def test_out_of_memory_is_exit_code_75(tmp_path: Path):
    """A MemoryError, wherever it comes from, ends in the code that tells the controller to rent a larger machine."""
    folder = write_checkpoint(tmp_path / "model", GLM_MOE, glm_tensors(GLM_MOE))
    from dllama_glm.convert import job

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "convert", fail)
        assert main([str(folder), "q40", "x", "--output", str(tmp_path / "x.m")]) == 75
