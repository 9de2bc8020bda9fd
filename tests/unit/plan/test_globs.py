"""Globs over payload and artifact paths."""

from __future__ import annotations

import pytest

from orchestrator.plan.globs import matches


@pytest.mark.parametrize(
    ("glob", "path", "expected"),
    [
        ("**", "a/b/c", True),
        ("a/**", "a/b/c", True),
        ("a/**", "b/a/c", False),
        ("**/x", "x", True),
        ("**/x", "a/b/x", True),
        ("a/**/x", "a/x", True),
        ("*.m", "x.m", True),
        ("*.m", "a/x.m", False),
        ("a/*.m", "a/x.m", True),
        ("a/?.m", "a/xy.m", False),
        ("[ab].t", "b.t", True),
        ("[!ab].t", "b.t", False),
        ("converter", "converter/convert-hf.py", True),
        ("converter/", "converter/convert-hf.py", True),
        ("converter", "converter2/x", False),
        ("./dllama", "dllama", True),
        ("dllama", "dllama-worker", False),
        ("a.b", "axb", False),
        ("a+(b)", "a+(b)", True),
        ("out put/*.m", "out put/x y.m", True),
        ("[", "[", True),
        ("*", ".hidden", True),
        ("a/*", "a/b\nc", True),
        ("a/**", "a", False),
        ("**/a/**/b/**", "x/a/y/b/z", True),
        ("**/a/**/b/**", "x/a/y/b", False),
        ("z.m", "Z.M", False),
        ("a**", "a/b", False),
        ("[^a].t", "b.t", False),
        ("a\\*", "a\\b", True),
    ],
)
def test_matches(glob: str, path: str, *, expected: bool):
    """`*` stays in a folder, `**` crosses folders, everything else is itself."""
    assert matches(path, glob) is expected


def test_many_wildcards_do_not_hang():
    """A glob of hundreds of wildcards is answered as any other, on a long name and on a deep path."""
    assert not matches("a" * 200 + "b", "*a" * 200)
    assert not matches("/".join("a" * 200), "**/a/" * 90 + "b")
