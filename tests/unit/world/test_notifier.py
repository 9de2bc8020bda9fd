"""Messages through apprise to a real server on this computer: how many, what is in them, and what fails."""

from __future__ import annotations

import pytest

from orchestrator.report.notices import Notice
from orchestrator.testing.clock import ManualClock
from orchestrator.words.errors import UsageError
from orchestrator.words.secret import Secret, hide
from orchestrator.world import notifier
from orchestrator.world.clock import SystemClock
from tests.unit.receiver import Receiver

ONE = Notice("started", "toy r1: has started", "train; $0.00 of $5.00 spent")


def test_a_message_arrives_as_it_was_written(receiver: Receiver):
    """Title and text; the end of a run waits for it."""
    complaints = list[str]()
    made = notifier.Notifier([receiver.address], SystemClock(), complaints.append)
    made.tell(ONE)
    made.end()
    (got,) = receiver.got
    assert (got["title"], got["message"]) == (ONE.title, ONE.text)
    assert complaints == []


def test_a_service_that_refuses_is_said_once(receiver: Receiver, caplog: pytest.LogCaptureFixture):
    """In a line without its address, and again only after it has worked; nothing else is said anywhere."""
    receiver.status = 500
    complaints = list[str]()
    made = notifier.Notifier([receiver.address], SystemClock(), complaints.append)
    made.tell(ONE)
    made.end()
    assert complaints == ["notify: json://… did not take a message; the run goes on"]
    assert caplog.text == ""


def sent(count: int, gaps: float, *, taken: bool = True) -> tuple[list[tuple[str, str]], list[str]]:
    """What is sent of so many notices that come so many seconds after one another."""
    clock, found, complaints = ManualClock(), list[tuple[str, str]](), list[str]()

    def send(_address: Secret, title: str, text: str) -> bool:
        found.append((title, text))
        return taken

    def run() -> None:
        made = notifier.Notifier([Secret("json://x")], clock, complaints.append, send)
        for number in range(count):
            made.tell(Notice("budget", f"n{number}", f"text {number}"))
            clock.pause(gaps)
        made.end()

    clock.spawn("test", run).join()
    return found, complaints


def test_what_comes_at_once_goes_together():
    """The first is sent at once; what comes within half a minute is one message, each with its title."""
    found, _ = sent(20, 5)
    assert found[0] == ("n0", "text 0")
    assert found[1] == (
        "n1 (and 4 more)", "\n\n".join(f"n{number}\ntext {number}" for number in range(1, 6))
    )  # fmt: skip
    assert len(found) <= 5
    assert "n19" in found[-1][1] + found[-1][0]


def test_a_run_sends_no_more_than_so_many(monkeypatch: pytest.MonkeyPatch):
    """Whatever happens; the last message has what was held back."""
    monkeypatch.setattr(notifier, "MOST", 3)
    found, _ = sent(8, 100)
    assert [title for title, _ in found] == ["n0", "n1", "n2", "n3 (and 4 more)"]


def test_a_broken_service_is_said_once():
    """However often it is tried."""
    found, complaints = sent(5, 100, taken=False)
    assert (len(found), len(complaints)) == (5, 1)


def test_addresses_are_secrets(receiver: Receiver):
    """One in a variable, one as it is: both are masked wherever they would be shown."""
    text = receiver.address.reveal()
    found = notifier.addresses(["HOOK", "json://127.0.0.1/a-token"], rehearsed=False, environ={"HOOK": text})
    assert [one.reveal() for one in found] == [text, "json://127.0.0.1/a-token"]
    assert hide(f"to {text} and json://127.0.0.1/a-token") == "to *** and ***"


def test_a_rehearsal_tells_nobody_outside():
    """Only what stays on this computer is told."""
    to = [
        "json://127.0.0.1:9/x",
        "json://example.test/x",
        "slack://127.0.0.1/b/c",
        "ntfy://topic",
        "jsons://localhost/",
    ]
    assert [one.reveal() for one in notifier.addresses(to, rehearsed=True)] == ["json://127.0.0.1:9/x"]


@pytest.mark.parametrize(
    ("one", "said"),
    [
        ("NO_SUCH_VARIABLE", "the variable NO_SUCH_VARIABLE is not set"),
        ("nonsense://secret-token", r"address 1 \(nonsense://…\) is no address that apprise knows"),
        ("KEY", "notify: KEY is no address that apprise knows"),
        ("HOOK", r"HOOK \(postgres://…\) is no address that apprise knows"),
    ],
)
def test_what_cannot_be_told_is_said_before(one: str, said: str):
    """Which one, and nothing of what may be a token in it."""
    with pytest.raises(UsageError, match=said) as caught:
        notifier.addresses(
            [one], rehearsed=False, environ={"HOOK": "postgres://user:secret-token@db/x", "KEY": "secret-token"}
        )
    assert "secret-token" not in str(caught.value)
