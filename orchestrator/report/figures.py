"""Times and money in few characters."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from orchestrator.report.console import one_line

if TYPE_CHECKING:
    from orchestrator.transport.job_replies import Progress


def duration(seconds: float | Decimal) -> str:
    """`0.4s`, `12s`, `4m 12s`, `1h 03m`, `2d 04h`: two units at most."""
    if 0 < seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02d}h"


def spoken(state: str) -> str:
    """A state or an outcome as a person says it: `tearing down`."""
    return state.lower().replace("_", " ")


def money(usd: Decimal | None) -> str:
    """`$12.34`; below ten cents with more digits, since a rehearsal costs far less than a cent; `-` for None."""
    if usd is None:
        return "-"
    amount = abs(usd)
    digits = 2 if amount >= Decimal("0.1") or amount == round(amount, 2) else 5
    return f"{'-' if usd < 0 else ''}${amount:.{digits}f}"


def hours(value: Decimal | None) -> str:
    """`24.0h`, `0.03h`; `-` for None."""
    if value is None:
        return "-"
    return f"{value:.1f}h" if value == 0 or value >= Decimal("0.95") else f"{value:.2f}h"


def speed(rate: float) -> str:
    """`1.1 GB/s`, `640 MB/s`, `0.4 MB/s`, `12 kB/s`: of bytes a second."""
    if rate >= 1e9:
        return f"{rate / 1e9:.1f} GB/s"
    if rate < 1e5:
        return f"{rate / 1e3:.0f} kB/s" if rate >= 1e3 else f"{rate:.0f} bytes/s"
    return f"{rate / 1e6:.0f} MB/s" if rate >= 9.95e6 else f"{rate / 1e6:.1f} MB/s"


def size(count: float) -> str:
    """`62.3 GB`, `450 MB`, `2.9 MB`, `12 kB`, `7 bytes`: of bytes."""
    for unit, one in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            amount = count / one
            return f"{amount:.0f} {unit}" if amount >= 99.95 or unit == "kB" else f"{amount:.1f} {unit}"
    return "1 byte" if count == 1 else f"{count:.0f} bytes"


def how_far(progress: Progress) -> str:
    """`62 %, 1.1 GB/s, 3m 10s left, model.layers.3`; what is not known is left out, and 100 % is all of it.

    A rate has the unit that the step says: bytes as sizes, anything else as it is called (`12 steps/s`); none, no rate.
    """
    parts = [f"{int(100 * progress.done / progress.total)} %"]
    if progress.rate and progress.unit:
        parts.append(speed(progress.rate) if progress.unit == "B" else f"{_few(progress.rate)} {progress.unit}/s")
    if progress.left_s is not None:
        parts.append(f"{duration(progress.left_s)} left")
    return ", ".join([*parts, *filter(None, [one_line(progress.what)])])


def plain(value: float) -> str:
    """`3,476,832`, `71.4946`, `0.0486`: a measured figure as it is, six digits of it where there is a point."""
    return f"{value:,.0f}" if abs(value) >= 1e5 or value == round(value) else f"{value:,.6g}"


def _few(value: float) -> str:
    """Three digits at most where there is a point."""
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.3g}"


def elapsed(started: datetime | None, ended: datetime | None, now: datetime) -> str:
    """How long something took, or has taken so far; empty when it never began."""
    return duration(max(((ended or now) - started).total_seconds(), 0.0)) if started else ""
