"""Measure two ranks of one thread each, over gloo on this computer, beside one rank with two threads.

usage: python bench/ranks.py [--rounds N] [--megabytes N]
"""
# ruff: noqa: T201 - a script whose output is its interface

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from converter_checkpoints import make

PAYLOAD = Path(__file__).resolve().parents[1] / "remote" / "distributed-llama"
DLLAMA = [sys.executable, str(PAYLOAD / "dllama")]
ENOUGH_S = 900.0
WAYS = {"one rank, two threads": 1, "two ranks, one thread each": 2}


def main() -> None:
    """Measure both ways in turns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2, help="turns of each way, of three rounds each")
    parser.add_argument("--megabytes", type=int, default=1000, help="of the BF16 checkpoint, dense")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gpuplan-bench-") as folder:
        checkpoint = make(Path(folder), "dense", args.megabytes)
        model = Path(folder) / "dense.m"
        words = [str(PAYLOAD / "converter" / "convert-hf.py"), str(checkpoint.folder), "q40", "x", "--output"]
        subprocess.run([sys.executable, *words, str(model)], check=True, capture_output=True, timeout=ENOUGH_S)
        found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for _ in range(args.rounds):
            for way, ranks in WAYS.items():
                found[way].append(measure(model, ranks))
    print(report(found, checkpoint.parameters))


def measure(model: Path, ranks: int) -> dict[str, Any]:
    """What `dllama bench` says on so many ranks, two threads together."""
    threads = ["--nthreads", str(2 // ranks)]
    worker = None
    options = [str(model), "--json", "--max-seq-len", "1024", *threads]
    if ranks == 2:
        command = [*DLLAMA, "worker", "--model", str(model), "--port", "0", *threads]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        options += ["--workers", f"tcp://127.0.0.1:{worker.stdout.readline().split()[-1]}"]
    try:
        done = subprocess.run(
            [*DLLAMA, "bench", *options], check=True, stdout=subprocess.PIPE, text=True, timeout=ENOUGH_S
        )
    finally:
        if worker is not None:
            worker.kill()
            worker.communicate()
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["ranks"] == ranks
    return document


def report(found: dict[str, list[dict[str, Any]]], parameters: int) -> str:
    """A table: median and best of all rounds of each way."""
    first = next(iter(found.values()))[0]
    processor = f"{first['measured_on'].partition(',')[0]}, {os.cpu_count()} cores"
    loads = ", ".join(str(one["load"]) for turns in found.values() for one in turns)
    lines = [f"{parameters / 1e9:.2f}e9 weights, Q40; {processor}; load {loads}.", ""]
    lines += ["| way | decode tokens/s, median [best] | prefill |", "|---|---|---|"]
    for way, turns in found.items():
        speeds = [[speed for one in turns for speed in one[name]["rounds"]] for name in ("decode", "prefill")]
        cells = [f"{statistics.median(s):.1f} [{max(s):.1f}]" for s in speeds]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
