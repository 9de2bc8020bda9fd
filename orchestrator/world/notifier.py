"""Tells people of a run through apprise: mail, Slack, Discord, Telegram, ntfy, a desktop, and many more.

It never ends a run: it sends in a thread of its own, says once what does not work, and goes on trying.
"""

from __future__ import annotations

import logging
import os
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from orchestrator.report.notices import Notice
from orchestrator.words import web
from orchestrator.words.errors import UsageError
from orchestrator.words.secret import Secret, hide
from orchestrator.words.waiting import Clock

GAP_S = 30.0  # real seconds between two messages: what comes sooner goes together into the next one
LAST_S = 20.0  # how long the end of a run waits for the last message
MOST = 200  # messages of one run, after which only the last one is sent
HERE = frozenset({"json", "xml", "form"})  # schemes whose host is this computer, where it says so
EXTRA = "pipx inject gpuplan apprise, or in a checkout: pip install '.[notify]'"

Send = Callable[[Secret, str, str], bool]  # address, title, text -> whether it was taken


def addresses(notify: Sequence[str], *, rehearsed: bool, environ: Mapping[str, str] = os.environ) -> list[Secret]:
    """The addresses themselves; of a rehearsal those alone that are on this computer: it sends nothing outside.

    UsageError: a variable is not set, or an address is none that apprise knows; or apprise is not installed.
    """
    found = []
    for number, one in enumerate(notify, 1):
        text = one if "://" in one else environ.get(one, "").strip()
        if not text:
            raise UsageError(
                f"notify: the variable {one} is not set", remedy=f"export {one}=… or take it out of notify"
            )
        secret = Secret(text)  # from here on it is masked wherever it would be shown
        if not rehearsed or is_here(text):
            _require(secret, one if "://" not in one else f"address {number}")
            found.append(secret)
    return found


def is_here(address: str) -> bool:
    """Whether a message to that address stays on this computer."""
    scheme, _, rest = address.partition("://")
    return scheme in HERE and web.is_loopback(f"http://{rest}")


def _require(address: Secret, called: str) -> None:
    try:
        import apprise
    except ImportError as error:
        raise UsageError("notify: tells through apprise, which is not installed", remedy=EXTRA) from error
    _silence()
    if apprise.Apprise.instantiate(address.reveal(), suppress_exceptions=True) is None:
        scheme, there, _ = address.reveal().partition("://")
        shown = f" ({scheme}://…)" if there and re.fullmatch(r"[a-z][a-z0-9+.-]{0,19}", scheme) else ""
        raise UsageError(
            f"notify: {called}{shown} is no address that apprise knows",
            remedy="apprise's documentation has a page for each service: its scheme, and what stands behind it",
        )


def by_apprise(address: Secret, title: str, text: str) -> bool:
    """Send one message. It may take as long as the service takes; an error is a False."""
    import apprise

    _silence()
    try:
        return bool(
            apprise.Apprise(address.reveal()).notify(
                title=title, body=text or title, body_format=apprise.NotifyFormat.TEXT, interpret_escapes=False
            )
        )
    except Exception:  # noqa: BLE001  whatever a service's adapter does: it is said that it failed
        return False


def _silence() -> None:
    """Apprise's own log has addresses in it."""
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)


class Notifier:
    """A queue of notices and the thread that sends them."""

    def __init__(
        self, to: Sequence[Secret], clock: Clock, complain: Callable[[str], None], send: Send = by_apprise
    ) -> None:
        """`complain` is told, once for each address, that it does not take what is sent."""
        self._to, self._clock, self._complain, self._send = tuple(to), clock, complain, send
        self._waiting: deque[Notice] = deque()
        self._broken: set[int] = set()
        self._ended, self._sent = False, 0
        self._changed = clock.signal()
        self._task = clock.spawn("notify", self._go_on)

    def tell(self, notice: Notice) -> None:
        """Have it sent soon. It returns at once."""
        self._waiting.append(notice)
        self._changed.notify()

    def end(self) -> None:
        """Send what waits, all in one, and wait for it, though not for long."""
        self._ended = True
        self._changed.notify()
        self._task.join(LAST_S)

    def _go_on(self) -> None:
        while True:
            self._changed.wait(lambda: bool(self._waiting) or self._ended)
            if self._sent < MOST or self._ended:
                taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
                if taken:
                    self._post(taken)
            if self._ended and not self._waiting:
                return
            self._changed.wait(lambda: self._ended, GAP_S)

    def _post(self, notices: Sequence[Notice]) -> None:
        self._sent += 1
        first, *more = notices
        title = f"{first.title} (and {len(more)} more)" if more else first.title
        text = first.text if not more else "\n\n".join(f"{one.title}\n{one.text}".strip() for one in notices)
        for number, address in enumerate(self._to):
            if self._send(address, hide(title), hide(text)):
                self._broken.discard(number)
            elif number not in self._broken:
                self._broken.add(number)
                scheme = address.reveal().partition("://")[0]
                self._complain(f"notify: {scheme}://… did not take a message; the run goes on")
