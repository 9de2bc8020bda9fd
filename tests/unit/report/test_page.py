"""The HTML of a report: whole without a network, safe whatever is in it, and current in docs/."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.report.page import html
from orchestrator.report.page.account import Account, Benchmark
from orchestrator.report.snapshot import StepLine
from orchestrator.testing.machine import Script
from orchestrator.words.lifecycle import StepState
from orchestrator.words.secret import Secret
from tests.browser import open_browser
from tests.unit.report.written import HOSTILE, Elements, Written

EXAMPLE = Path(__file__).parents[3] / "docs/report-example.html"
ADDRESSES = {"src", "href", "xlink:href", "action", "data", "poster", "srcset", "background", "formaction"}


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Account:
    return Written(tmp_path_factory.mktemp("report")).account()


def refuse_outside(page: str) -> None:
    """Nothing in it is fetched, or runs."""
    elements = Elements(page)
    assert elements.tags.isdisjoint({"script", "link", "iframe", "object", "embed", "base", "img", "form", "use"})
    for tag, attributes in elements.found:
        assert not ADDRESSES & attributes.keys(), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
    assert not re.search(r"@import|url\(", page)
    policy = next(a["content"] for t, a in elements.found if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in str(policy)


def test_a_page_refers_to_nothing_outside(account: Account):
    """No script, no address, no frame; the browser is told to fetch nothing, too."""
    refuse_outside(html.page(account))


def test_everything_is_in_the_page(account: Account):
    """Each machine, step, deliverable with its evidence, figure with its place, peak, and artifact with its sha256."""
    text = Elements(html.page(account)).text
    for said in (
        *(m.name for m in account.seen.machines),
        *(s.name for p in account.seen.phases for s in p.steps),
        *(v.name for v in account.verdicts),
        "The capital of France is Paris.",
        "tokens_per_second",
        "NVIDIA GeForce RTX 4090",
        "17.1 GiB",
        "72 %",
        account.saved[0].sha256,
        "memory://store0",
        "$0.80",
        "3 of 3 hold",
        "1h 12m",
    ):
        assert said in text, said


def test_the_plan_and_the_budget_are_drawn_where_they_are_near(account: Account):
    """A line that would leave nothing of the cost to be seen is said instead."""
    page = html.page(account)
    assert "Budget: $20.00, far above what is drawn (4 % of it is spent)." in page
    near = replace(account, seen=replace(account.seen, budget_usd=account.curve[-1][1] * 2))
    assert "Budget: " not in html.page(near)
    assert ">budget</span>" in html.page(near)


def test_what_others_wrote_is_text(tmp_path: Path):
    """A script's end, an image, control characters, a text that turns around, a template: in a name, log or verdict."""
    made = Written(tmp_path, measure=Script(output=f"{HOSTILE} Paris\n", exit=1))
    account = made.account()
    seen = account.seen
    phases = tuple(
        replace(p, name=f"{p.name}{HOSTILE}", steps=tuple(replace(s, name=HOSTILE, detail=HOSTILE) for s in p.steps))
        for p in seen.phases
    )
    machines = tuple(replace(m, name=HOSTILE, what=HOSTILE, detail=HOSTILE) for m in seen.machines)
    stretches = tuple(replace(s, machine=HOSTILE) for s in account.stretches)
    verdicts = tuple(replace(v, phase=HOSTILE, name=HOSTILE, detail=HOSTILE) for v in account.verdicts)
    page = html.page(
        replace(
            account,
            seen=replace(seen, plan=HOSTILE, phases=phases, machines=machines),
            stretches=stretches,
            verdicts=verdicts,
            called=HOSTILE,
            reason=HOSTILE,
            events=tuple((at, HOSTILE) for at, _ in account.events),
            measures=tuple(replace(m, measured_on=HOSTILE) for m in account.measures),
            saved=tuple(replace(s, name=HOSTILE) for s in account.saved),
        )
    )
    refuse_outside(page)
    assert "49" not in re.findall(r"@team #12 (\S+)", page)
    assert not set(page) & {"\x1b", "\x07", "\u202e"}
    assert page.count("&lt;/script&gt;&lt;img") > 20
    assert [line for one in account.failures for line in one.lines if "</script>" in line]


def test_a_secret_is_masked(account: Account):
    """Wherever one that this process holds stands in a text."""
    secret = Secret("hf_abcdefgh")
    page = html.page(replace(account, reason="token hf_abcdefgh was refused"))
    assert secret.reveal() not in page
    assert "token *** was refused" in page


def test_hundreds_of_steps_are_drawn_as_far_as_anybody_can_see_them(account: Account):
    """The longest rows are in the picture, all are in the table, and the page says so."""
    (prepare, train) = account.seen.phases
    begin, end = train.started, train.ended
    many = tuple(StepLine(f"train/s{n}", f"s{n}", StepState.DONE, begin, end) for n in range(400))
    page = html.page(replace(account, seen=replace(account.seen, phases=(prepare, replace(train, steps=many)))))
    assert "more rows, the shortest ones, are not drawn" in page
    assert page.count('<td data-label="step">s') == 400


def test_a_run_that_has_not_begun_has_a_page(account: Account):
    """Nothing drawn, nothing measured, and it says so."""
    seen = replace(account.seen, phases=(), machines=(), started=None, ended=None)
    empty = replace(account, seen=seen, curve=(), stretches=(), uses=(), measures=(), saved=(), events=(), verdicts=(),
                    benchmarks=(), planned_at=(), bill=replace(account.bill, phases=()))  # fmt: skip
    page = html.page(empty)
    refuse_outside(page)
    for said in ("Nothing has begun.", "Nothing was measured.", "None was saved.", "The plan names none."):
        assert said in page


def test_a_browser_opens_it_with_the_network_closed(account: Account, tmp_path: Path):
    """Nothing is asked for, nothing is wrong with it, it is no wider than the window, in either of the colours."""
    file = tmp_path / "report.html"
    file.write_text(html.page(account))
    papers = {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}
    with open_browser() as browser:
        page = browser.new_context(offline=True).new_page()
        page.set_default_timeout(90_000)
        asked, wrong = list[str](), list[str]()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: wrong.append(message.text))
        page.goto(file.as_uri())
        for width, scheme in itertools.product((400, 1200), ("light", "dark")):
            page.set_viewport_size({"width": width, "height": 800})
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of its literals
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == papers[scheme]
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == papers["light"], "paper is white"
        drawn = page.locator("svg .series path.line").first.bounding_box()
        assert drawn
        assert drawn["width"] > 10
        assert page.get_by_role("img", name="Cost over time").is_visible()
        assert (asked, wrong) == ([file.as_uri()], [])


def outline(page: str) -> list[str]:
    """What a page is made of: its style, its headings of every report, and the heads of its tables."""
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style
    heads = {re.sub(r"<[^>]+>", "|", head) for head in re.findall(r"<thead>(.*?)</thead>", page)}
    return [style[1], *re.findall(r"<h2[^>]*>.*?</h2>", page), *sorted(heads)]


def test_the_example_in_the_documentation_is_current(account: Account):
    """docs/report-example.html has the style, the sections and the tables of a page made now, and nothing of a machine.

    CONTRIBUTING.md says how it is made anew.
    """
    example = EXAMPLE.read_text()
    refuse_outside(example)
    now = set(outline(html.page(replace(account, benchmarks=(Benchmark("a", "b", "c", "d", "e"),)))))
    with_gpus_only = {line for line in now if "cards at work" in line}
    assert now - set(outline(example)) <= with_gpus_only
    assert not re.search(r"(?<![\w./-])/[a-z]+/|file://", example), "it names a place of the computer that made it"
