"""The Markdown of a report: what a pull request shows of a run."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from orchestrator.report.page import markdown
from orchestrator.report.page.account import Account
from orchestrator.report.page.text import markdown as one_line
from orchestrator.testing.machine import Script
from tests.unit.report.written import HOSTILE, Written


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Account:
    return Written(tmp_path_factory.mktemp("report"), measure=Script(seconds=60, output="London\n")).account()


def test_what_does_not_hold_stands_open(account: Account):
    """What failed is in a table of its own, with its evidence; what holds is folded away below it."""
    text = markdown.page(account)
    assert text.startswith("## toy `1102-tes1`: failed\n")
    open_part, folded = text.split("<summary>Deliverables that hold (1)</summary>")
    assert "| FAILED | train | answers |" in open_part
    assert "| ok | prepare | data there |" in folded
    assert "\n1h 12m, $0.81 of $20.00; the plan said $9.90; 1 holds, 2 do not hold.\n" in open_part


def test_every_row_has_the_cells_of_its_head(account: Account):
    """Whatever is in them: a bar, a line end, HTML, a mention, a link."""
    hostile = tuple(replace(v, name=HOSTILE, detail=f"{HOSTILE}\n| a | b |") for v in account.verdicts)
    text = markdown.page(replace(account, verdicts=hostile, reason=HOSTILE, outcome=HOSTILE))
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(cells) == 1, table
    assert not set(re.findall(r"</?(\w+)", text)) - {"details", "summary"}
    assert not re.search(r"http://|@team|#12|\x1b|\u202e", text)


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("tokens_per_second = 5 (100 %)", "tokens_per_second = 5 (100 %)"),
        ("_a_ *b* `c` [d](e) ~~f~~", r"\_a\_ \*b\* \`c\` \[d\](e) \~\~f\~\~"),
        ("<b>&amp;", "&#60;b&#62;&#38;amp;"),
        ("see www.evil.test or https://x", "see &#119;&#119;&#119;.evil.test or https&#58;&#47;&#47;x"),
        ("two\nlines\t here", "two lines here"),
    ],
)
def test_a_text_means_nothing_but_itself(said: str, written: str):
    """What reads well stays as it is; what has a meaning is escaped."""
    assert one_line(said) == written
