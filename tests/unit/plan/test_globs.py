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
    ],
)
def test_matches(glob: str, path: str, *, expected: bool):
    """`*` stays in a folder, `**` crosses folders, everything else is itself."""
    assert matches(path, glob) is expected
