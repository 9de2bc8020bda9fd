"""The code blocks of README and docs: each is run, read by the parser that would read it, or marked with the reason."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.unit.blocks import PROJECT, become, blocks, pages


def test_every_block_is_run_or_read_or_marked(capsys: pytest.CaptureFixture[str]):
    """None of any page is anything else; the three counts are printed."""
    found = [block for page in pages() for block in blocks(page)]
    counts, wrong = become(found)
    with capsys.disabled():
        sys.stdout.write(f"\ncode blocks: {counts['run']} run, {counts['read']} read, {counts['marked']} marked\n")
    assert wrong == []
    assert counts.total() == len(found)
    assert counts["run"] >= 3
    assert counts["read"] > counts["marked"]


def becomes(folder: Path, page: str) -> tuple[dict[str, int], list[str]]:
    """What becomes of a page's blocks."""
    (folder / "page.md").write_text(page.replace("'''", "```"))
    counts, wrong = become(blocks(folder / "page.md", folder))
    return dict(counts), wrong


STEP = "steps: [{name: a, run: 'true'}]"


@pytest.mark.parametrize(
    ("page", "as_what"),
    [
        ("'''sh\ngpuplan run all --dry-run --yes\n'''", "read"),
        ("'''sh\nmkdir a && cd a\ngpuplan init # here\ngpuplan validate\n'''", "run"),
        ("'''sh\ncd x\nexport A=1\nmake check N=3 # all of it\n'''", "read"),
        ("'''sh\n./dllama-worker --model M --port 9998\npython convert-hf.py hf://a/b q40 c\n'''", "read"),
        ("'''yaml\nbudget_usd: 5\n'''", "read"),
        ("'''yaml\nmachine: {gpu: [L4]}\n'''", "read"),
        ("'''yaml\n- {name: a, run: 'true', needs: [b]}\n'''", "read"),
        (f"'''yaml\n# phases/a.yaml\nname: a\n{STEP}\n'''", "read"),
        ("'''json\n{\"a\": 1}\n'''", "read"),
        ("'''python\nprint(1)\n'''", "read"),
        ("'''toml\na = 1\n'''", "read"),
        ("1. one:\n\n   '''sh\n   gpuplan ls\n   '''", "read"),
        ("<!-- not run: it needs an account -->\n'''sh\naws s3 ls\n'''", "marked"),
    ],
)
def test_what_a_block_becomes(tmp_path: Path, page: str, as_what: str):
    """Each kind of block goes to its reader."""
    assert becomes(tmp_path, page) == ({as_what: 1}, [])


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("'''sh\ngpuplan run all --dry-rum\n'''", "page.md:1: gpuplan run all --dry-rum: No such option"),
        ("'''sh\ngpuplan rum all\n'''", "No such command"),
        ("'''sh\ngpuplan logs | grep x\n'''", "nothing here reads the command grep"),
        ("'''sh\ngpuplan validate nowhere.yaml\n'''", "it ends with 2: gpuplan: nowhere.yaml"),
        ("'''sh\ngpuplan ls &&\n'''", "bash refuses it"),
        ("'''sh\n# nothing\n'''", "it has no command"),
        ("'''sh\nmake everything\n'''", "make refuses everything"),
        ("'''sh\n./dllama inference --modle M\n'''", "dllama"),
        ("'''sh\npython convert-hf.py a q41 c\n'''", "invalid choice: 'q41'"),
        ("'''sh\nmake check\ncurl -f x\n'''", "nothing here reads the command curl"),
        ("'''yaml\nbudget_usd: much\n'''", "gpuplan validate refuses it"),
        ("'''yaml\nbudgets: 5\n'''", "neither keys of a phase"),
        ("'''yaml\n- {name: a, runs: 'true'}\n'''", "unknown key runs"),
        ("'''yaml\nrun: curl -d '{\"a\": 1}'\n'''", "no YAML"),
        (f"'''yaml\n# phases/a.yaml\nname: a\n{STEP}\ntiemout: 3h\n'''", "unknown key tiemout"),
        (f"'''yaml\n# phases/a.yaml\nname: a\n{STEP}\n'''\n'''yaml\n# gpuplan.yaml\ncode_mb: 0\n'''", "at least 1"),
        (f"'''yaml\n# a.yaml\nname: a\n{STEP}\n'''", "nothing here reads a.yaml"),
        ("'''python\nprint(\n'''", "Python refuses it"),
        ("'''json\n{a: 1}\n'''", "no JSON"),
        ("'''toml\na\n'''", "no TOML"),
        ("'''text\nanything\n'''", "nothing here reads text"),
        ("'''\nanything\n'''", "a block of no kind"),
        ("<!-- not run: -->\n'''text\nanything\n'''", "nothing here reads text"),
        ("<!-- not run: because of that -->\n\n'''text\nanything\n'''", "nothing here reads text"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(tmp_path: Path, page: str, said: str):
    """A block that its reader refuses, that nothing reads, or whose mark gives no reason, with its place."""
    counts, wrong = becomes(tmp_path, page)
    assert not counts
    assert len(wrong) == 1
    assert said in wrong[0]


def test_a_block_without_an_end_is_said(tmp_path: Path):
    """It would swallow what comes after it."""
    (tmp_path / "page.md").write_text("```sh\ngpuplan ls\n")
    with pytest.raises(ValueError, match=r"page\.md:1: a block without an end"):
        list(blocks(tmp_path / "page.md", tmp_path))


def test_every_page_is_walked():
    """README, the pages beside it, and all below docs/."""
    names = {page.relative_to(PROJECT).as_posix() for page in pages()}
    assert {"README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/recipes.md", "docs/decisions/README.md"} <= names


def test_recipes_are_whole_plans():
    """Each recipe has its settings and its phases, and the program that a step runs where it names one."""
    found = [block for block in blocks(PROJECT / "docs" / "recipes.md") if block.file]
    for section in {block.section for block in found}:
        files = {block.file: block.text for block in found if block.section == section}
        phases = [text for name, text in files.items() if name.startswith("phases/")]
        assert "gpuplan.yaml" in files, section
        assert phases, section
        for name in ("train.py", "choose.py"):
            assert f"app/{name}" in files or not any(f"$GPUPLAN_CODE/{name}" in text for text in phases), section
