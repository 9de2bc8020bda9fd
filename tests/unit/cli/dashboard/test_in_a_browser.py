"""The dashboard in a real browser: live, by keyboard, on a telephone's width, with names for who does not see it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from orchestrator.words.lifecycle import RunState
from tests.browser import open_browser
from tests.unit.cli.dashboard.served import Served, serving
from tests.unit.cli.dashboard.test_served import make_another_versions, under_way
from tests.unit.report.written import Written

if TYPE_CHECKING:
    from playwright.sync_api import Page

RUN, DONE = "1107-seen", "1108-done"
WIDER = "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1).length"
NAMELESS = """[...document.querySelectorAll('a[href], button, input, select, table, progress, pre[tabindex]')].filter(
    e => !(e.innerText || e.getAttribute('aria-label') || (e.labels && e.labels.length)).toString().trim()).length"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return Written(tmp_path_factory.mktemp("desk"))


@pytest.fixture(scope="module")
def served(written: Written) -> Iterator[Served]:
    ledger = written.desk.home.open_ledger(2)
    under_way(written, ledger, RUN)
    under_way(written, ledger, DONE, RunState.DONE)
    make_another_versions(written, DONE)  # then it cannot be resumed
    with serving(written.desk.home, ledger) as found:
        yield found


def go(page: Page, name: str) -> None:
    """Tab to the link or button of that name, and press Enter."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if name in str(page.evaluate("document.activeElement.innerText")):
            page.keyboard.press("Enter")
            return
    raise AssertionError(f"no key leads to {name}")


def test_a_run_is_watched_searched_and_ended_by_keyboard(served: Served, written: Written):
    """In 400 and 1200 pixels, light and dark, without an error; what is printed meanwhile appears by itself."""
    log = written.desk.home.run_folder(RUN) / "logs/train/train.log"
    with open_browser() as browser:
        page = browser.new_context(viewport={"width": 400, "height": 800}).new_page()
        page.set_default_timeout(90_000)
        wrong = list[str]()
        page.on("console", lambda message: wrong.append(message.text))
        page.goto(served.link)
        assert "token" not in page.url
        for width, scheme in itertools.product((400, 1200), ("light", "dark")):
            page.set_viewport_size({"width": width, "height": 800})
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of its literals
            assert page.evaluate(WIDER) == 0
        assert page.evaluate(NAMELESS) == 0

        go(page, RUN)
        page.get_by_role("status").get_by_text("live").wait_for()
        log.write_text("epoch 1\nepoch 77 <script>document.title = 'mine'</script>\n")
        page.get_by_text("epoch 77 <script>").wait_for()
        assert page.title() == f"toy {RUN}"
        page.set_viewport_size({"width": 400, "height": 800})
        assert (page.evaluate(WIDER), page.evaluate(NAMELESS)) == (0, 0)

        go(page, "Logs")
        page.get_by_label("lines with").focus()
        page.keyboard.type("epoch 77")
        page.keyboard.press("Enter")
        page.get_by_text("1 of 2 lines have").wait_for()
        assert (page.evaluate(WIDER), page.evaluate(NAMELESS)) == (0, 0)

        page.goto(f"{served.url}/runs/{RUN}")
        go(page, "End it")
        page.get_by_role("heading", name=f"End {RUN}?").wait_for()
        go(page, "No, leave it")
        page.get_by_role("heading", name=f"toy {RUN}").wait_for()

        page.goto(f"{served.url}/runs/{DONE}")
        go(page, "Go on with it")
        page.get_by_role("heading", name=f"Go on with {DONE}?").wait_for()
        go(page, "Yes, go on")
        page.get_by_role("status").get_by_text(f"gpuplan resume {DONE} ended with exit code 2.").wait_for(
            timeout=90_000
        )
        assert wrong == []
