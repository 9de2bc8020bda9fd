"""Measure the runtime beside llama.cpp, in one run whose programs take turns, and write docs/benchmarks.md.

usage: python bench/runtime.py [--rounds N] [--room FOLDER] [--upstream FOLDER] [--print]

Rates are tokens a second: with one thread per second of the processor's time, which other work disturbs least; with
all threads per second of the wall. A ratio is the median over the rounds of both programs' rates in the same round.
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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import runtime_peer as peer
import runtime_upstream as upstream
from runtime_load import QUIET, busy_seconds, load_cell
from runtime_models import BenchModel, make

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
_FILL = 512
_KINDS = ("ours", "mapped", "llama")
_NAMES = {"ours": "resident", "mapped": "mapped", "llama": "llama.cpp"}


@dataclass(frozen=True)
class Task:
    """One thing to measure: "pass" reads tokens at once, "decode" makes them one by one; behind `position` others."""

    do: str
    position: int
    tokens: int
    threads: int

    @property
    def words(self) -> str:
        """How the table calls it."""
        return f"prefill {self.tokens}" if self.do == "pass" else f"decode at {self.position}"


@dataclass
class Found:
    """What was measured for one task: rates by program and round, and the load of other work in each round."""

    rates: dict[str, list[float]] = field(default_factory=dict)
    loads: list[float] = field(default_factory=list)


class Worker:
    """A program under measurement."""

    def __init__(self, kind: str, model: BenchModel, threads: int, folder: Path) -> None:
        path = model.gguf if kind == "llama" else model.m
        script = Path(__file__).with_name("runtime_worker.py")
        words = [sys.executable, str(script), kind, str(path), str(threads), str(folder)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about: dict[str, Any] = json.loads(self._answer()["about"])

    def ask(self, task: Task) -> dict[str, float]:
        """Do it once; return its seconds."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(task.__dict__) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a program under measurement ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def tasks(threads: int) -> list[Task]:
    """All that is measured, so ordered that what a task reads at its position is there."""
    found = []
    for count in dict.fromkeys((1, threads)):
        found += [Task("decode", 0, 32, count), Task("pass", 0, 128, count), Task("pass", 0, _FILL, count)]
        found.append(Task("decode", _FILL, 32, count))
    return found


def measure(model: BenchModel, threads: int, rounds: int, folder: Path) -> tuple[dict[Task, Found], dict[str, Any]]:
    """Let the programs take turns at each task; the first round, with its page faults, does not count."""
    found = {task: Found() for task in tasks(threads)}
    with _workers(model, threads, folder) as workers:
        for number in range(rounds + 1):
            for task, result in found.items():
                _turn(workers, task, result if number else None)
        far = Task("decode", 4096, 32, 1)
        found[far] = Found()
        for worker in workers.values():
            for start in range(0, far.position, _FILL):
                worker.ask(Task("pass", start, _FILL, threads))
        for number in range(rounds + 1):
            _turn(workers, far, found[far] if number else None)
        about = {kind: worker.about for kind, worker in workers.items()}
    return found, about


@contextmanager
def _workers(model: BenchModel, threads: int, folder: Path) -> Iterator[dict[str, Worker]]:
    workers = {kind: Worker(kind, model, threads, folder) for kind in _KINDS}
    try:
        yield workers
    finally:
        for worker in workers.values():
            worker.close()


def _turn(workers: dict[str, Worker], task: Task, result: Found | None) -> None:
    busy, wall, own = busy_seconds(), 0.0, 0.0
    for kind, worker in workers.items():
        seconds = worker.ask(task)
        wall, own = wall + seconds["wall"], own + seconds["cpu"]
        if result is not None:
            rate = task.tokens / seconds["cpu" if task.threads == 1 else "wall"]
            result.rates.setdefault(kind, []).append(rate)
    if result is not None:
        result.loads.append(max(0.0, (busy_seconds() - busy - own) / wall))


def rows(found: dict[Task, Found]) -> list[str]:
    """The table's rows."""
    lines = []
    for task, result in found.items():
        load = statistics.median(result.loads)
        cells = [f"{task.words} | {task.threads}"]
        for kind in _KINDS:
            rates = result.rates[kind]
            cell = f"{statistics.median(rates):.1f} [{max(rates):.1f}]"
            if kind != "llama":
                pairs = zip(rates, result.rates["llama"], strict=True)
                cell += f" **{statistics.median(one / other for one, other in pairs):.2f}x**"
            cells.append(cell)
        lines.append(f"| {' | '.join(cells)} | {load_cell(load)} |")
    return lines


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--room", type=Path, help="where the models go (2 GB)")
    parser.add_argument("--upstream", type=Path, help="a checkout of distributed-llama, built: its dllama is run too")
    parser.add_argument("--print", action="store_true", help="do not write docs/benchmarks.md")
    args = parser.parse_args()
    folder = peer.build()
    sys.path.append(str(folder))
    threads = len(os.sched_getaffinity(0))
    sections: list[str] = []
    about: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=args.room) as room:
        for mixture in (False, True):
            model = make(Path(room), mixture=mixture)
            found, about = measure(model, threads, args.rounds, folder)
            head = ["| task | threads | resident | mapped | llama.cpp | load |", "|---|---|---|---|---|---|"]
            sections += [f"**{model.name}**, Q40", "", *head, *rows(found), ""]
            sections += _upstream_lines(args.upstream, model, Path(room), threads)
            model.m.unlink()
            model.gguf.unlink()
    page = "\n".join(["## Runtime", "", _machine(about, args.rounds), "", *sections])
    print(page)
    if not args.print:
        write_section("runtime", page)


def _upstream_lines(checkout: Path | None, model: BenchModel, room: Path, threads: int) -> list[str]:
    if checkout is None:
        return []
    tokenizer = room / "bench.t"
    upstream.write_tokenizer(tokenizer)
    lines = []
    for count in dict.fromkeys((1, threads)):
        found = upstream.tokens_per_second(checkout, model, tokenizer, count)
        said = (
            "does not run it" if found is None else f"prompt {found[0]:.1f}, decode {found[1]:.1f} tokens/s of the wall"
        )
        lines.append(f"Upstream's C++, {count} thread(s): {said}.")
    return [*lines, ""]


def _machine(about: dict[str, Any], rounds: int) -> str:
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    ours, other = about["ours"], about["llama"]
    return (
        f"Measured on {cpu[1] if cpu else platform.processor()}, {os.cpu_count()} cores; Python "
        f"{platform.python_version()}, numba {version('numba')}, {ours['simd']}, threads by {ours['threading']}; "
        f"llama-cpp-python {peer.VERSION} compiled with GGML_NATIVE, weights "
        f"{'repacked' if other['repacked'] else 'not repacked'} ({other['system']}).\n\n"
        f"Medians of {rounds} rounds in which the programs take turns [best], in tokens/s: with one thread per second "
        "of the processor's time, with more per second of the wall; the ratio to llama.cpp is the median of the "
        "rounds'. The same blocks for both; `decode at N` makes 32 tokens behind N others. Load is what other work "
        f"took, in processors; above {QUIET} a row is marked."
    )


def write_section(name: str, section: str) -> None:
    """Put a section into docs/benchmarks.md, in place of the last one of this name."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else "# Benchmarks\n"
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    body = f"{begin}\n{section}\n{end}\n"
    if begin in text:
        text = text[: text.index(begin)] + body + text[text.index(end) + len(end) + 1 :]
    else:
        text = text.rstrip("\n") + "\n\n" + body
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
