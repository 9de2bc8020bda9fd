"""REST v2's billing history: time buckets a pod or a volume, which add up to the invoice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from orchestrator.rehearsal.clouds.billing import cost_between
from orchestrator.rehearsal.clouds.clock import stamp
from orchestrator.rehearsal.clouds.placement import ProblemError
from orchestrator.rehearsal.clouds.records import Billed, Pod, Volume

_SIZES = ("hour", "day", "week", "month", "year")
_DEFAULT_PERIOD = timedelta(days=30)


def pod_billing(pods: Iterable[Pod], query: Mapping[str, str], now: datetime) -> dict[str, Any]:
    """ListPodBillingResponse; ended pods are in it too."""
    return _listing(pods, query, now, "podId", "uniquePodCount", _pod_amounts)


def volume_billing(volumes: Iterable[Volume], query: Mapping[str, str], now: datetime) -> dict[str, Any]:
    """ListNetworkVolumeBillingResponse."""
    return _listing(volumes, query, now, "networkVolumeId", "uniqueNetworkVolumeCount", _volume_amounts)


def _pod_amounts(pod: Billed | None, usd: Decimal, disk: Decimal) -> dict[str, float]:
    is_cpu = isinstance(pod, Pod) and pod.cpu_id is not None
    return {
        "totalAmount": float(usd),
        "gpuAmount": 0.0 if is_cpu else float(usd - disk),
        "cpuAmount": float(usd - disk) if is_cpu else 0.0,
        "diskAmount": float(disk),
    }


def _volume_amounts(volume: Billed | None, usd: Decimal, _disk: Decimal) -> dict[str, float]:
    high = isinstance(volume, Volume) and volume.type == "HIGH_PERFORMANCE"
    return {
        "totalAmount": float(usd),
        "standardAmount": 0.0 if high else float(usd),
        "highPerformanceAmount": float(usd) if high else 0.0,
    }


def _listing(
    things: Iterable[Billed], query: Mapping[str, str], now: datetime, key: str, counter: str, amounts: Any
) -> dict[str, Any]:
    start, end, size = _window(query, now)
    wanted = query.get(key)
    records: list[dict[str, Any]] = []
    for thing in things:
        if wanted and thing.id != wanted:
            continue
        for begin, finish in _buckets(*_touched(thing, start, end, size, now), size):
            usd = cost_between(thing.spans, begin, finish, now)
            disk = cost_between([span for span in thing.spans if span.disk], begin, finish, now)
            if usd > 0:
                bucket = {"startTime": stamp(begin), "endTime": stamp(finish)}
                records.append({**bucket, key: thing.id, **amounts(thing, usd, disk)})
    names = amounts(None, Decimal(0), Decimal(0))
    totals = {name: sum(record[name] for record in records) for name in names}
    echo = {"startTime": stamp(start), "endTime": stamp(end), "bucketSize": size, key: wanted}
    metadata = {"query": echo, "recordCount": len(records), counter: len({r[key] for r in records}), "totals": totals}
    return {"records": records, "metadata": metadata}


def _window(query: Mapping[str, str], now: datetime) -> tuple[datetime, datetime, str]:
    size = query.get("bucketSize", "day")
    if size not in _SIZES:
        raise ProblemError(422, "Request validation failed.", [f"query.bucketSize: {size!r} is not one of {_SIZES}"])
    if "lastN" in query:
        if "startTime" in query or "endTime" in query:
            raise ProblemError(400, "lastN is mutually exclusive with startTime and endTime")
        if not query["lastN"].isdigit() or int(query["lastN"]) < 1:
            raise ProblemError(422, "Request validation failed.", ["query.lastN: must be an integer of 1 or more"])
        start = _floor(now, size)
        for _ in range(int(query["lastN"]) - 1):
            start = _floor(start - timedelta(seconds=1), size)
        return start, _next(_floor(now, size), size), size
    start = _floor(_moment(query, "startTime", now - _DEFAULT_PERIOD), size)
    end = _moment(query, "endTime", now)
    if end <= start:
        raise ProblemError(400, "endTime must be after startTime")
    last = _floor(end, size)
    return start, end if last == end else _next(last, size), size


def _moment(query: Mapping[str, str], name: str, default: datetime) -> datetime:
    if name not in query:
        return default
    try:
        moment = datetime.fromisoformat(query[name])
    except ValueError:
        raise ProblemError(422, "Request validation failed.", [f"query.{name}: not an RFC 3339 time"]) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _floor(moment: datetime, size: str) -> datetime:
    hour = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    day = hour.replace(hour=0)
    return {
        "hour": hour,
        "day": day,
        "week": day - timedelta(days=day.weekday()),
        "month": day.replace(day=1),
        "year": day.replace(month=1, day=1),
    }[size]


def _next(start: datetime, size: str) -> datetime:
    longest = {"hour": 1, "day": 24, "week": 7 * 24, "month": 31 * 24, "year": 366 * 24}[size]
    return _floor(start + timedelta(hours=longest), size)


def _touched(thing: Billed, start: datetime, end: datetime, size: str, now: datetime) -> tuple[datetime, datetime]:
    """The part of the window that begins with the first bucket, and ends by the last one, in which it is billed."""
    begun = min((span.start for span in thing.spans), default=end)
    ended = max((span.end or now for span in thing.spans), default=end)
    return max(start, _floor(begun, size)), min(end, ended)


def _buckets(start: datetime, end: datetime, size: str) -> Iterable[tuple[datetime, datetime]]:
    while start < end:
        finish = _next(start, size)
        yield start, finish
        start = finish
