"""Takes a seeded sample of mutants and runs, for each, only the tests that cover the changed line.

`make mutants N=300 SEED=1`. A mutant is killed by a test that fails with it and passes without it; that the tests took
far longer than they do is a kill too, counted apart. Those that survive are printed, with what
tools/mutants-explained.yaml says of them (same file, same line's text, same change). Exit code 1: fewer than 85 % were
killed, or one that survived is not explained.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import coverage
import yaml
from mutant_runs import TREES, End, Try, ended, know_libraries, reports, trees
from mutating import ROOT, Mutant, lines_naming, mutants_of, sample

TARGETS = ("words/lifecycle.py", "cost.py", "plan", "engine")  # of orchestrator/
SHAPE = "tests/unit/test_structure.py"  # reads the sources, and so covers what is imported without running it
PARTS = (
    ("tests/unit/cost", "tests/unit/engine", "tests/unit/plan", "tests/unit/test_lifecycle.py", SHAPE),
    ("tests/unit/cli", "tests/unit/report", "tests/unit/world"),
)
APART = {"orchestrator/engine/durable.py": "tests/contracts/test_recorder.py"}  # tests that run it in other processes
APART_S = 400.0
EXPLAINED = Path(__file__).with_name("mutants-explained.yaml")
FLOOR = 0.85
NAMED, LIGHT, WIDE = 20, 15, 20  # tests that are tried on one mutant: see Covering.of
PATIENCE = 4  # times as long as the tests took while they were traced
LEAST_S = 30.0


@dataclass(frozen=True)
class Covering:
    """Which test runs which line, and how long it takes."""

    data: coverage.CoverageData
    seconds: dict[str, float]

    @classmethod
    def run(cls, places: list[Path]) -> Covering:
        """From a run of each part of the tests, kept until it or the sources change.

        RuntimeError: a test fails without any change.
        """
        data = coverage.CoverageData(no_disk=True)
        seconds: dict[str, float] = {}
        for number, part in enumerate(PARTS):
            file = TREES.with_name(f"mutants-{number}.coverage")
            times = file.with_suffix(".json")
            newest = max(f.stat().st_mtime for p in ("orchestrator", *part) for f in _files(ROOT / p))
            if not times.exists() or times.stat().st_mtime < newest:
                times.write_text(json.dumps(_traced(part, places, file)))
            found = coverage.CoverageData(str(file))
            found.read()
            data.update(found)
            seconds |= json.loads(times.read_text())
        return cls(data, seconds)

    @cached_property
    def _of(self) -> dict[str, dict[int, set[str]]]:
        """For each file of the project the tests of each line; a line that is imported alone has none."""
        found: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        for name in self.data.measured_files():
            inside = "orchestrator/" + name.rpartition("/orchestrator/")[2]
            for line, contexts in self.data.contexts_by_lineno(name).items():
                found[inside][line] |= {c.rpartition("|")[0] for c in contexts if c}
        return found

    @cached_property
    def _weight(self) -> Counter[str]:
        return Counter(test for lines in self._of.values() for tests in lines.values() for test in tests)

    def of(self, mutant: Mutant) -> tuple[str, ...]:
        """The tests that run the line; of what is only imported, those that run a line with a name that it binds.

        The most to the point first: those in a file that is called as the module or a function around, those that run
        the fewest lines, those that together run the most of the file.
        """
        ours = self._of[mutant.inside]
        names = mutant.bound
        if names:
            lines = [
                tests[line]
                for inside, tests in self._of.items()
                for line in lines_naming(ROOT / inside, names)
                if line in tests
            ]
            lines += [ours[line] for line in mutant.body if line in ours]
        elif mutant.line in ours:
            lines = [ours[mutant.line]]
        else:
            lines = [ours[line] for line in mutant.lines if line in ours]
        light = sorted(set[str]().union(*lines), key=lambda t: (self._weight[t], t))
        named = [t for t in light if Path(t.partition("::")[0]).stem.removeprefix("test_") in mutant.words][:NAMED]
        others = [t for t in light if t not in named]
        last = (*((SHAPE,) if names else ()), *((APART[mutant.inside],) if mutant.inside in APART else ()))
        return (*named, *others[:LIGHT], *_wide(others[LIGHT:], ours), *last)

    def limit_s(self, tests: tuple[str, ...]) -> float:
        """How long they may take."""
        apart = APART_S * sum(test in APART.values() for test in tests)
        return LEAST_S + apart + PATIENCE * sum(self.seconds.get(test, 0.0) for test in tests)


def _wide(tests: list[str], lines: dict[int, set[str]]) -> list[str]:
    """Those that run most of these lines, each what the ones before it do not."""
    left, found = dict(lines), list[str]()
    while len(found) < WIDE:
        counts = Counter(test for runs in left.values() for test in runs)
        best = max((t for t in tests if t not in found), key=lambda t: counts[t], default=None)
        if best is None or not counts[best]:
            break
        found.append(best)
        left = {line: runs for line, runs in left.items() if best not in runs}
    return found


def _traced(part: tuple[str, ...], places: list[Path], file: Path) -> Counter[str]:
    """Run a part of the tests, with what each covers in the file: the seconds that each took."""
    file.unlink(missing_ok=True)
    wanted = ",".join(f"*/orchestrator/{t}" if t.endswith(".py") else f"*/orchestrator/{t}/*" for t in TARGETS)
    settings = f"[run]\ndata_file = {file}\nparallel = true\ninclude = {wanted}\n"  # forked deaths write nothing
    (places[0] / ".coveragerc").write_text(settings)
    words = ("-m", "not slow", "-n", "2", "--cov", "--cov-context=test", "--cov-report=", "--cov-config=.coveragerc")
    ends: list[End] = []
    ended([Try((*part, *words), 3000.0)], places[:1], lambda _, end: ends.append(end))
    if not ends[0].passed:
        raise RuntimeError(f"the tests fail as they are: {places[0].with_suffix('.out').read_text()[-3000:]}")
    took: Counter[str] = Counter()
    for name, _, seconds in reports(places[0]):
        took[name] += seconds  # type: ignore[assignment]  # a Counter of seconds
    return took


def tried(
    sampled: list[Mutant], covering: Covering, places: list[Path], say: Callable[[Mutant, End], None]
) -> list[End]:
    """How each mutant ends, by tests that pass without it; `say` hears of it at once."""
    false: set[str] = set()  # what fails in these trees as they are
    ends = [End(passed=True)] * len(sampled)
    tests = [covering.of(mutant) for mutant in sampled]
    waiting = [number for number, found in enumerate(tests) if found]
    for number in sorted(set(range(len(sampled))) - set(waiting)):
        say(sampled[number], ends[number])
    while waiting:
        given = [tuple(t for t in tests[number] if t not in false) for number in waiting]

        def note(index: int, end: End, waiting: list[int] = waiting) -> None:
            ends[waiting[index]] = end
            say(sampled[waiting[index]], end)

        tries = [
            Try((*t, "-x", "-n", "0"), covering.limit_s(t), sampled[n]) for n, t in zip(waiting, given, strict=True)
        ]
        ended(tries, places, note)
        killers = {n: ends[n].failed or t for n, t in zip(waiting, given, strict=True) if not ends[n].passed}
        new = _failing(sorted({test for ones in killers.values() for test in ones} - false), places, covering)
        false |= new
        waiting = [number for number, ones in killers.items() if new & set(ones) and not ends[number].late]
    return ends


def _failing(tests: list[str], places: list[Path], covering: Covering) -> set[str]:
    """Which of these fail in a tree as it is."""
    found: set[str] = set()
    by_file: dict[str, list[str]] = defaultdict(list)
    for test in tests:
        by_file[test.partition("::")[0]].append(test)
    parts = [tuple(part) for part in by_file.values()]
    tries = [Try((*part, "-n", "0"), covering.limit_s(part)) for part in parts]
    ended(tries, places, lambda n, end: found.update(() if end.passed else end.failed or parts[n]))
    return found


def main() -> int:
    """Take the sample, print who survives, and how many were killed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("-n", type=int, default=300)
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    files = sorted({f for t in TARGETS for f in _files(ROOT / "orchestrator" / t)})
    everything = [m for f in files for m in mutants_of(f)]
    explained = {(e["file"], e["text"], e["change"]): e["why"] for e in yaml.safe_load(EXPLAINED.read_text()) or []}
    sampled = sample(everything, chosen.n, chosen.seed)
    unexplained: list[Mutant] = []

    def say(mutant: Mutant, end: End) -> None:
        why = explained.get((mutant.inside, mutant.text, mutant.change))
        if end.passed and not why:
            unexplained.append(mutant)
        if end.passed or end.late:
            print(
                "survived " if end.passed else "too late ",
                mutant,
                f"\n          explained: {why}" if why else "",
                flush=True,
            )

    know_libraries()
    begun = time.monotonic()
    with trees(os.cpu_count() or 1) as places:
        covering = Covering.run(places)
        print(f"which test covers which line: {_taken(begun)}", flush=True)
        ends = tried(sampled, covering, places, say)
    survived, late = sum(end.passed for end in ends), sum(end.late for end in ends)
    killed = 1 - survived / max(len(sampled), 1)
    print(
        f"{len(sampled)} mutants of {len(everything)}, seed {chosen.seed}: {len(sampled) - survived} killed ({late} by "
        f"the time they took), {survived} survived, {len(unexplained)} of them unexplained: {100 * killed:.1f} %; "
        f"{_taken(begun)}"
    )
    return int(killed < FLOOR or bool(unexplained))


def _taken(begun: float) -> str:
    return f"{time.monotonic() - begun:.0f} s, {sum(os.times()[:4]):.0f} s of CPU time"


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


if __name__ == "__main__":
    sys.exit(main())
