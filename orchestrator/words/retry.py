"""The one retry policy: for reads, ends and transfers that may be repeated. A create is never sent through here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import stamina
import stamina.instrumentation

from orchestrator.words.errors import ProviderUnavailable

T = TypeVar("T")

stamina.instrumentation.set_on_retry_hooks([])  # a retry is nobody's business: what comes of all of them is said

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 15.0
LEAST_REAL_S = 5.0  # a fast rehearsal shortens waits, not what a busy computer needs to answer at all


def retrying(
    call: Callable[[], T],
    *,
    within_s: float = 120.0,
    time_scale: float = 1.0,
    on: tuple[type[Exception], ...] = (ProviderUnavailable,),
) -> T:
    """Call until it answers; the errors named in `on` are tried again, all others pass at once.

    `within_s` bounds waits and calls together, in the cloud's time; the last error is raised when it is used up.
    An error's own `retry_after` is honoured where it fits in: a longer one is raised at once instead of waited for.
    """
    budget = max(within_s * time_scale, LEAST_REAL_S)

    def decide(error: Exception) -> bool | float:
        if not isinstance(error, on):
            return False
        wait: float | None = getattr(error, "retry_after", None)
        if wait is None:
            return True
        return wait * time_scale if wait <= within_s else False

    attempts = stamina.retry_context(
        on=decide,
        attempts=None,
        timeout=budget,
        wait_initial=FIRST_WAIT_S * time_scale,
        wait_max=LONGEST_WAIT_S * time_scale,
        wait_jitter=FIRST_WAIT_S * time_scale,
    )
    for attempt in attempts:
        with attempt:
            return call()
    raise AssertionError("unreachable: the last attempt raises")
