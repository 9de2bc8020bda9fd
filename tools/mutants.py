"""Takes a seeded sample of mutants and runs, for each, only the tests that cover the changed line.

`make mutants N=300 SEED=1`. A mutant that no test notices survives, and is printed; those that are explained in
tools/mutants-explained.yaml (same file, same line's text, same change) count as the explanation says: equivalent ones
are left out. Exit code 1: fewer than 85 % were killed.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import coverage
import yaml

ROOT = Path(__file__).resolve().parents[1]
TARGETS = ("words/lifecycle.py", "cost.py", "plan", "engine")  # of orchestrator/
TESTS = ("tests/unit",)
TREES = ROOT / "build" / "mutants"
EXPLAINED = Path(__file__).with_name("mutants-explained.yaml")
FLOOR = 0.85
MOST_TESTS = 25  # that are tried on one mutant: those that cover the fewest lines first, they are the most to the point
TIME_OUT_S = 120

COMPARE = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}


@dataclass(frozen=True)
class Mutant:
    """One change of one line."""

    file: Path
    line: int
    change: str
    node: int  # which one of the file's syntax tree, in the order of ast.walk

    @property
    def source(self) -> str:
        """The whole file, changed."""
        tree = ast.parse(self.file.read_text())
        _change(list(ast.walk(tree))[self.node])
        return ast.unparse(tree)

    @property
    def text(self) -> str:
        """The line as it was."""
        return self.file.read_text().splitlines()[self.line - 1].strip()

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}: {self.change}   | {self.text}"


def mutants_of(file: Path) -> list[Mutant]:
    """Every mutant of a file."""
    found = []
    for index, node in enumerate(ast.walk(ast.parse(file.read_text()))):
        if change := _change(copy.copy(node)):
            found.append(Mutant(file, node.lineno, change, index))  # type: ignore[attr-defined]  # those that change have one
    return found


def _change(node: ast.AST) -> str:
    """Change the node in place and say how; "": nothing of it is changed."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARE:
        new = COMPARE[type(node.ops[0])]()
        change = f"{type(node.ops[0]).__name__} -> {type(new).__name__}"
        node.ops = [new, *node.ops[1:]]
        return change
    if isinstance(node, ast.BoolOp):
        old, node.op = node.op, ast.Or() if isinstance(node.op, ast.And) else ast.And()
        return f"{type(old).__name__} -> {type(node.op).__name__}"
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        sign, node.op = node.op, ARITHMETIC[type(node.op)]()
        return f"{type(sign).__name__} -> {type(node.op).__name__}"
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        old_value, node.value = node.value, (not node.value) if isinstance(node.value, bool) else node.value + 1
        return f"{old_value} -> {node.value}"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = copy.deepcopy(node.operand)
        node.op, node.operand = ast.Not(), ast.UnaryOp(ast.Not(), inner)
        return "not removed"
    if isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Constant):
        node.value = ast.Constant(None)
        return "returns None"
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        node.value = ast.Constant(None)
        return "call removed"
    return ""


def covering() -> coverage.CoverageData:
    """Which test runs which line: from a run of the unit tests, kept until the sources change.

    RuntimeError: a test fails without any change; it would kill every mutant that it covers.
    """
    data = Path(tempfile.gettempdir()) / f"gpuplan-mutants-{os.getuid()}.coverage"
    newest = max(f.stat().st_mtime for part in ("orchestrator", "tests/unit") for f in (ROOT / part).rglob("*.py"))
    if not data.exists() or data.stat().st_mtime < newest:
        with _tree() as place:
            (place / ".coveragerc").write_text("[run]\nparallel = true\n")  # forked deaths run no lines of their own
            done = _pytest(
                place, *TESTS, "-n", "2", "--cov=orchestrator", "--cov-context=test", "--cov-report=",
                "--cov-config=.coveragerc", time_out_s=1800, COVERAGE_FILE=str(data),
            )  # fmt: skip
        if done.returncode:
            data.unlink(missing_ok=True)
            raise RuntimeError(f"the tests fail as they are: {done.stdout.decode()[-2000:]}")
    found = coverage.CoverageData(str(data))
    found.read()
    return found


def tests_of(data: coverage.CoverageData, mutant: Mutant, weight: dict[str, int]) -> list[str]:
    """The tests that run the line, the most to the point first."""
    inside = str(mutant.file.relative_to(ROOT))
    measured = next((name for name in data.measured_files() if name.endswith(f"/{inside}")), inside)
    contexts = data.contexts_by_lineno(measured).get(mutant.line, [])
    names = {c.partition("|")[0] for c in contexts if c}
    return sorted(names, key=lambda n: weight.get(n, 0))[:MOST_TESTS]


def survives(mutant: Mutant, tests: list[str]) -> bool:
    """Whether the tests pass though the line is another one."""
    if not tests:
        return True
    with _tree() as place:
        changed = place / mutant.file.relative_to(ROOT)
        changed.unlink()  # the file is ROOT's own: another one is put in its place
        changed.write_text(mutant.source)
        try:
            return _pytest(place, *tests, "-x", "-n", "0", time_out_s=TIME_OUT_S).returncode == 0
        except subprocess.TimeoutExpired:
            return False


@contextmanager
def _tree() -> Iterator[Path]:
    """The project's files once more, each the same file by another name."""
    TREES.mkdir(parents=True, exist_ok=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    with tempfile.TemporaryDirectory(dir=TREES) as place:
        for name in filter(None, listed.decode().split("\0")):
            (Path(place) / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(ROOT / name, Path(place) / name)
        yield Path(place)


def _pytest(place: Path, *arguments: str, time_out_s: float, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=place, env=os.environ | {"PYTHONPATH": str(place), **environment},
        capture_output=True, timeout=time_out_s, check=False,
    )  # fmt: skip


def main() -> int:
    """Take the sample, print who survives, and how many were killed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("-n", type=int, default=300)
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    files = sorted({f for t in TARGETS for f in _files(ROOT / "orchestrator" / t)})
    everything = [m for f in files for m in mutants_of(f)]
    explained = {(e["file"], e["text"], e["change"]) for e in yaml.safe_load(EXPLAINED.read_text()) or []}
    sample = random.Random(chosen.seed).sample(everything, min(chosen.n, len(everything)))  # noqa: S311  no secret
    sample = [m for m in sample if (str(m.file.relative_to(ROOT)), m.text, m.change) not in explained]
    data = covering()
    weight: dict[str, int] = {}
    for file in data.measured_files():
        for contexts in data.contexts_by_lineno(file).values():
            for name in contexts:
                weight[name.partition("|")[0]] = weight.get(name.partition("|")[0], 0) + 1
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ends = list(pool.map(lambda m: survives(m, tests_of(data, m, weight)), sample))
    for mutant, survived in zip(sample, ends, strict=True):
        if survived:
            print(f"survived  {mutant}")
    killed = 1 - sum(ends) / max(len(sample), 1)
    print(f"{len(sample)} mutants of {len(everything)}, seed {chosen.seed}: {100 * killed:.1f} % killed")
    return int(killed < FLOOR)


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


if __name__ == "__main__":
    sys.exit(main())
