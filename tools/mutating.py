"""What a mutant is: one change of one expression or statement, made in the text of a file and nowhere else in it."""

from __future__ import annotations

import ast
import copy
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
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
    same: int  # how many mutants before it in the file have the same text and change

    @property
    def inside(self) -> str:
        """The file, as the project names it."""
        return str(self.file.relative_to(ROOT)) if self.file.is_relative_to(ROOT) else self.file.name

    @property
    def source(self) -> str:
        """The whole file, changed."""
        tree, parents = tree_of(self.file)
        node = list(ast.walk(tree))[self.node]
        around = next((p for p in _up(node, parents) if isinstance(p, ast.JoinedStr)), node)  # positions in it are none
        new = copy.deepcopy(around)
        _change(next(n for n, old in zip(ast.walk(new), ast.walk(around), strict=True) if old is node))
        lines = self.file.read_bytes().splitlines(keepends=True)
        assert isinstance(around, ast.expr | ast.stmt)
        assert around.end_lineno is not None
        assert around.end_col_offset is not None
        start = sum(map(len, lines[: around.lineno - 1])) + around.col_offset
        end = sum(map(len, lines[: around.end_lineno - 1])) + around.end_col_offset
        text = ast.unparse(new)
        text = f"({text})" if isinstance(around, ast.Compare | ast.BoolOp | ast.BinOp | ast.UnaryOp) else text
        whole = b"".join(lines)
        return (whole[:start] + text.encode() + whole[end:]).decode()

    @property
    def text(self) -> str:
        """The line as it was."""
        return self.file.read_text().splitlines()[self.line - 1].strip()

    @property
    def lines(self) -> range:
        """The lines of its statement that it reaches into; of a block's, those of the block's head."""
        tree, parents = tree_of(self.file)
        node = list(ast.walk(tree))[self.node]
        statement = next(p for p in _up(node, parents) if isinstance(p, ast.stmt))
        body = getattr(statement, "body", None)
        return range(statement.lineno, body[0].lineno if body else (statement.end_lineno or 0) + 1)

    @property
    def body(self) -> range:
        """Of a default, or an annotation: the lines of its function's body; of anything else none."""
        tree, parents = tree_of(self.file)
        node = list(ast.walk(tree))[self.node]
        statement = next(p for p in _up(node, parents) if isinstance(p, ast.stmt))
        if not isinstance(statement, ast.FunctionDef):
            return range(0)
        return range(statement.body[0].lineno, (statement.end_lineno or 0) + 1)

    @property
    def bound(self) -> frozenset[str]:
        """The names that its line gives a meaning as the module is imported; none: it is in a function's body."""
        tree, parents = tree_of(self.file)
        names: set[str] = set()
        below: ast.AST = list(ast.walk(tree))[self.node]
        for node in _up(below, parents):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and below in node.body:
                return frozenset()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
            below = node
        return frozenset(names)

    @property
    def words(self) -> frozenset[str]:
        """What the module and the functions around it are called."""
        tree, parents = tree_of(self.file)
        around = _up(list(ast.walk(tree))[self.node], parents)
        words = {self.file.stem, *(n.name.strip("_") for n in around if isinstance(n, ast.FunctionDef))}
        return frozenset(
            words | {f"{word[:-1]}ies" for word in words if word.endswith("y")}
        )  # a story's tests: stories

    def __str__(self) -> str:
        return f"{self.inside}:{self.line}: {self.change}   | {self.text}"


def mutants_of(file: Path) -> list[Mutant]:
    """Every mutant of a file."""
    found = []
    seen: Counter[tuple[str, str]] = Counter()
    texts = file.read_text().splitlines()
    for index, node in enumerate(ast.walk(tree_of(file)[0])):
        if (change := _change(copy.copy(node))) and isinstance(node, ast.expr | ast.stmt):
            like = (texts[node.lineno - 1].strip(), change)
            found.append(Mutant(file, node.lineno, change, index, seen[like]))
            seen[like] += 1
    return found


def sample(everything: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """So many of them. Each has its own lot, by what it changes: a line more elsewhere leaves the rest as it was."""

    def lot(one: Mutant) -> str:
        return hashlib.sha256(f"{seed} {one.inside} {one.text} {one.change} {one.same}".encode()).hexdigest()

    return sorted(everything, key=lot)[:count]


def lines_naming(file: Path, names: frozenset[str]) -> Iterator[int]:
    """The lines of a file that have one of these names."""
    for node in ast.walk(tree_of(file)[0]):
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        if name in names and isinstance(node, ast.expr):
            yield node.lineno


@cache
def tree_of(file: Path) -> tuple[ast.Module, dict[ast.AST, ast.AST]]:
    """A file's syntax tree, and of each node what it is in."""
    tree = ast.parse(file.read_text())
    return tree, {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def _up(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> Iterator[ast.AST]:
    """The node, and what it is in, from the inside out."""
    one: ast.AST | None = node
    while one is not None:
        yield one
        one = parents.get(one)


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
