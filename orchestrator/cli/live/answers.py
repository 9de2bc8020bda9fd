"""Each question of `doctor --live`, with what was seen and what it means for a plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.engine.peers import ADDRESS_S
from orchestrator.report.figures import money
from orchestrator.words.observed import Observed
from orchestrator.words.provider import Provider

UNSEEN = "not seen"
LEAST_TORCH = (2, 6)


@dataclass(frozen=True)
class Answer:
    """One line."""

    question: str
    answer: str
    means: str


def answers(seen: Observed, provider: Provider, boot_s: float) -> Iterator[Answer]:
    """All of them, in one order. `boot_s`: what the plan's estimate takes for a machine to come up."""
    yield _bids(seen)
    yield _disk(seen)
    yield _firewall(seen)
    yield _private(seen)
    yield _torch(seen)
    yield _tier(seen)
    yield _quotas(seen)
    lag = provider.list_lag_s
    for question, found in (
        ("until the list has a new machine", seen.listed_s),
        ("until GET knows a new machine", seen.known_s),
        ("until the list has an ended one no more", seen.unlisted_s),
        ("until GET knows an ended one no more", seen.unknown_s),
    ):
        good = found is None or found <= lag
        means = (
            f"within the {lag:g} s that gpuplan allows" if good else f"longer than the {lag:g} s that gpuplan allows"
        )
        yield Answer(question, _seconds(found), "" if found is None else means)
    for question, found in (("until it has an address", seen.address_s), ("until SSH answers", seen.ssh_s)):
        slow = found is not None and found > boot_s
        means = f"boot_seconds: {found:.0f} would be nearer to it" if slow else f"within boot_seconds ({boot_s:g})"
        yield Answer(question, _seconds(found), "" if found is None else means)


def _bids(seen: Observed) -> Answer:
    question = "does minimumBidPrice still answer"
    if seen.bids is None:
        return Answer(question, "it has none", "--spot finds nothing there")
    if not seen.bids:
        return Answer(question, "no: no type has one", "--spot finds nothing there")
    cheapest = min(seen.bids, key=lambda kind: seen.bids[kind] if seen.bids else 0)
    said = f"yes: {len(seen.bids)} types, from {money(seen.bids[cheapest])} ({cheapest})"
    return Answer(question, said, "--spot can be previewed; a create may be refused all the same")


def _disk(seen: Observed) -> Answer:
    question = "what df shows of a network volume"
    if seen.shows_quota is None:
        return Answer(question, UNSEEN, "")
    said = f"{seen.disk_gb:,.1f} GB of a volume of {seen.volume_gb} GB"
    if seen.shows_quota:
        return Answer(question, f"{said}: its own size", "a step's own look at free space can be believed")
    return Answer(question, f"{said}: the pool behind it", "free space there means nothing; gpuplan counts the bytes")


def _firewall(seen: Observed) -> Answer:
    question = "the private network's firewall"
    if seen.firewall is None:
        return Answer(question, "its API names none", "")
    open_to_all = any(rule.partition(" from ")[0] in {"all", "tcp", "tcp 1-65535"} for rule in seen.firewall)
    closed = "where these rules hold between nodes, a worker's port needs one of its own"
    means = "nodes reach each other's ports" if open_to_all else f"{closed}; one machine cannot show whether they do"
    return Answer(question, "; ".join(seen.firewall) or "no rule: nothing comes in", means)


def _private(seen: Observed) -> Answer:
    question = "until it has a private address"
    if seen.private_never:
        return Answer(question, "it never had one", "phases with several nodes will not come up there")
    if seen.private_s is None:
        return Answer(question, UNSEEN, "")
    good = seen.private_s - (seen.ssh_s or 0.0) <= ADDRESS_S
    means = f"within the {ADDRESS_S:g} s" if good else f"longer than the {ADDRESS_S:g} s"
    return Answer(question, _seconds(seen.private_s), f"{means} after SSH that nodes of a phase are waited for")


def _torch(seen: Observed) -> Answer:
    question = f"the torch of {seen.image or 'the image'}"
    if not seen.torch:
        return Answer(question, UNSEEN, "")
    parts = tuple(int(part) for part in seen.torch.split("+")[0].split(".")[:2] if part.isdigit())
    least = ".".join(map(str, LEAST_TORCH))
    good = parts >= LEAST_TORCH
    means = (
        f"{least} or newer, as the shipped plan needs" if good else f"older than {least}: another is installed beside"
    )
    return Answer(question, seen.torch, means)


def _tier(seen: Observed) -> Answer:
    question = "the kind of volume where none is asked for"
    means = "gpuplan asks for STANDARD, and reads it back" if seen.volume_tier else ""
    return Answer(question, seen.volume_tier or UNSEEN, means)


def _quotas(seen: Observed) -> Answer:
    question = "requests that the API allows"
    if not seen.quotas:
        return Answer(question, "it does not say", "")
    said = ", ".join(f"{count:,} a {window}" for window, count in seen.quotas.items())
    minute = seen.quotas.get("minute")
    means = f"about {minute // 12} machines can come up at the same time" if minute else ""
    return Answer(question, said, means)


def _seconds(found: float | None) -> str:
    return UNSEEN if found is None else f"{found:,.0f} s"
