"""Measure the converter beside cp, llama.cpp and a block-by-block loop, and write the figures to docs/benchmarks.md.

usage: python bench/converter.py [--megabytes N] [--rounds N] [--room FOLDER] [--upstream FOLDER] [--print]
"""
# ruff: noqa: T201 - a script whose output is its interface

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import converter_peers as peers
from converter_checkpoints import Checkpoint, make

ROOT = Path(__file__).resolve().parents[1]
PAYLOAD = ROOT / "remote" / "distributed-llama"
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- converter: begin -->", "<!-- converter: end -->"
_VERIFY = "import sys; from dllama_glm.verify import main; sys.exit(main(sys.argv[1:]))"


@dataclass
class Times:
    """Seconds of each round, and peaks of anonymous memory in MB; a list stays empty where nothing was measured."""

    copy: list[float] = field(default_factory=list)
    copy_synced: list[float] = field(default_factory=list)
    convert: list[float] = field(default_factory=list)
    convert_synced: list[float] = field(default_factory=list)
    convert_summed: list[float] = field(default_factory=list)
    process: list[float] = field(default_factory=list)
    low_memory: list[float] = field(default_factory=list)
    verify: list[float] = field(default_factory=list)
    llama_one: list[float] = field(default_factory=list)
    llama_all: list[float] = field(default_factory=list)
    one_thread: list[float] = field(default_factory=list)
    loop: list[float] = field(default_factory=list)
    upstream: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    memory_low: list[float] = field(default_factory=list)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000, help="size of each checkpoint")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--room", type=Path, help="where checkpoints and outputs go (about four times the size)")
    parser.add_argument("--upstream", type=Path, help="a checkout of distributed-llama: its converter is run too, once")
    parser.add_argument("--print", action="store_true", help="do not write docs/benchmarks.md")
    args = parser.parse_args()
    load = os.getloadavg()[0]  # before it is of our own making
    with tempfile.TemporaryDirectory(dir=args.room) as room:
        results = []
        for name in ("dense", "mixture"):
            checkpoint = make(Path(room), name, args.megabytes)
            results.append((checkpoint, measure(checkpoint, Path(room), args.rounds, args.upstream)))
        page = report(results, _machine(Path(room), load))
    print(page)
    if not args.print:
        write_section(page)


def measure(checkpoint: Checkpoint, room: Path, rounds: int, upstream: Path | None) -> Times:
    """Alternate the competitors, so that each meets the same machine; the source is warm, outputs are new files."""
    times = Times()
    output = room / "out.m"
    checkpoint.shard.read_bytes()
    _run(checkpoint, output)
    for _ in range(rounds):
        copied, synced = peers.copy(checkpoint.shard, room / "copy")
        times.copy.append(copied)
        times.copy_synced.append(synced)
        for options, seconds, memory in (
            ((), times.convert, times.memory),
            (("--low-memory",), times.low_memory, times.memory_low),
        ):
            done, whole, peak = _run(checkpoint, output, *options)
            seconds.append(done["seconds"] - done["sync_seconds"])
            memory.append(peak)
            if not options:
                times.convert_synced.append(done["seconds"])
                times.process.append(whole)
        done, _, _ = _run(checkpoint, output, checksums=room / "checksums")
        times.convert_summed.append(done["seconds"])
        done, _, _ = _run(checkpoint, output, cores=1)
        times.one_thread.append(done["seconds"] - done["sync_seconds"])
        times.verify.append(_verify(checkpoint, output))
    times.loop.append(peers.block_loop(checkpoint, room / "loop"))
    if upstream and (once := peers.upstream(checkpoint, upstream, room)):
        times.upstream.append(once)
    if peers.has_llama_cpp():
        times.llama_one += peers.llama_cpp(checkpoint, room, 1, rounds)
        times.llama_all += peers.llama_cpp(checkpoint, room, os.cpu_count() or 1, rounds)
        (room / f"{checkpoint.name}.gguf").unlink()
    return times


def _run(
    checkpoint: Checkpoint, output: Path, *options: str, cores: int = 0, checksums: Path | None = None
) -> tuple[dict[str, float], float, float]:
    """One conversion: its own figures, seconds of the whole process, and its peak of anonymous memory in MB.

    `checksums`: where the output's sha256 is published; it has to be.
    """
    output.unlink(missing_ok=True)
    words = [sys.executable, str(PAYLOAD / "converter" / "convert-hf.py"), str(checkpoint.folder), "q40", "x"]
    began = time.perf_counter()
    env = os.environ | ({"GPUPLAN_CHECKSUMS": str(checksums)} if checksums else {})
    words += ["--output", str(output), "--json", *options]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=env)
    if cores:
        os.sched_setaffinity(process.pid, set(list(os.sched_getaffinity(0))[:cores]))
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, _anonymous(process.pid))
        time.sleep(0.005)
    whole = time.perf_counter() - began
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"the converter failed with {process.returncode}:\n{said}")
    if checksums:
        checksums.unlink()
    return json.loads(said.splitlines()[-1]), whole, peak


def _anonymous(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    found = re.search(r"^RssAnon:\s+(\d+)", status, re.MULTILINE)
    return int(found[1]) / 1000 if found else 0.0


def _verify(checkpoint: Checkpoint, output: Path) -> float:
    words = [sys.executable, "-c", _VERIFY, str(output), str(checkpoint.folder), "--json"]
    run = subprocess.run(words, cwd=PAYLOAD, capture_output=True, text=True, check=True)
    seconds: float = json.loads(run.stdout)["seconds"]
    return seconds


def report(results: list[tuple[Checkpoint, Times]], machine: str) -> str:
    """The page's section: the machine, and one table a checkpoint."""
    lines = ["## Converter", "", machine, ""]
    lines += [
        "BF16 to Q40, source in the page cache, output a new file, best of the rounds (median in brackets). The",
        "converter's seconds run from the first byte read to the rename; *without sync* leaves out the final fsync.",
        "",
    ]
    for checkpoint, times in results:
        size = checkpoint.shard.stat().st_size
        lines += [f"**{checkpoint.name}**, {size / 1e9:.2f} GB, {len(checkpoint.shapes):,} tensors", ""]
        lines += ["| what | seconds | source MB/s | against it |", "|---|---|---|---|"]
        lines += _rows(times, size)
        lines += [
            "",
            (
                f"Anonymous memory at its peak, interpreter included: {max(times.memory):.0f} MB; "
                f"with --low-memory {max(times.memory_low):.0f} MB."
            ),
            "",
        ]
    return "\n".join(lines)


def _rows(times: Times, size: int) -> list[str]:
    free, synced = min(times.convert), min(times.convert_synced)
    rows = [
        ("**converter**, without sync", times.convert, None),
        ("**converter**, with fsync", times.convert_synced, None),
        ("converter, with fsync and the output's sha256", times.convert_summed, None),
        ("converter, whole process with start-up", times.process, None),
        ("converter, --low-memory, without sync", times.low_memory, None),
        ("converter on one core, without sync", times.one_thread, None),
        ("verify, every block", times.verify, None),
        ("cp", times.copy, free),
        ("cp, with fsync", times.copy_synced, synced),
        ("llama.cpp, pure Q4_0, 1 thread", times.llama_one, min(times.one_thread)),
        ("llama.cpp, pure Q4_0, all threads", times.llama_all, free),
        ("one block at a time (scaled up)", times.loop, free),
        ("upstream's converter, whole process", times.upstream, free),
    ]
    return [_row(what, seconds, ours, size) for what, seconds, ours in rows if seconds]


def _row(what: str, seconds: list[float], ours: float | None, size: int) -> str:
    best = min(seconds)
    against = "" if ours is None else f"converter {best / ours:.2f}x as fast"
    return f"| {what} | {best:.2f} ({statistics.median(seconds):.2f}) | {size / 1e6 / best:,.0f} | {against} |"


def _machine(room: Path, load: float) -> str:
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(room)], capture_output=True, text=True, check=True)
    busy = " Other work ran beside: the figures, most of all those of two threads, are low." if load > 1 else ""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("numpy", "numba"))
    return (
        f"Measured on {cpu[1] if cpu else platform.processor()}, {os.cpu_count()} cores, {memory:.0f} GB, "
        f"{platform.system()} {platform.release().split('-')[0]}, {kind.stdout.strip()}; Python "
        f"{platform.python_version()}, {libraries}; load average {load:.1f} before.{busy}"
    )


def write_section(section: str) -> None:
    """Put the section into docs/benchmarks.md, in place of the last one."""
    text = PAGE.read_text() if PAGE.exists() else "# Benchmarks\n"
    body = f"{BEGIN}\n{section}\n{END}\n"
    if BEGIN in text:
        text = text[: text.index(BEGIN)] + body + text[text.index(END) + len(END) + 1 :]
    else:
        text = text.rstrip("\n") + "\n\n" + body
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
