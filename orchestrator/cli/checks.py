"""What doctor looks at: each question is one function that says what it found. Nothing is created at any provider."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.report.figures import money
from orchestrator.words.errors import AccountRefused, GpuplanError, UsageError
from orchestrator.words.provider import Capability
from orchestrator.words.store_url import read_place

if TYPE_CHECKING:
    import httpx

    from orchestrator.words.model import Plan
    from orchestrator.words.provider import Provider
    from orchestrator.world.world import World

NOBODY = "0" * 32  # an id that no machine and no volume has: to end it shows the right to end, and ends nothing
SKEW_S = 60.0  # beyond which signatures are refused and logs mislead
LEAST_FREE = 2 * 10**9  # bytes for logs, the ledger and a rehearsal
SAMPLE_BYTES, SAMPLE_S = 8 << 20, 5.0  # of a download, to see how fast the line is
LEAST_CREDIT = Decimal(1)  # RunPod wants an hour's worth before it rents anything
WORDS = {True: "ok", False: "wrong", None: "-"}


@dataclass(frozen=True)
class Finding:
    """One line. `ok` None: it does not apply here, or cannot be seen."""

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Patient:
    """What is looked at."""

    world: World
    plan: Plan
    stores: tuple[str, ...]
    withheld: tuple[str, ...] = ()  # stores that a foreign plan brings the address of: nothing is signed for them


Check = Callable[[Patient], Iterator[Finding]]


def examine(patient: Patient) -> Iterator[Finding]:
    """Every finding, in order; what a check itself fails at is a finding too."""
    for name, check in CHECKS.items():
        try:
            yield from check(patient)
        except GpuplanError as error:
            yield Finding(name, False, error.message, error.remedy)


# -- this computer -----------------------------------------------------------------------------------------------------


def _key(patient: Patient) -> Iterator[Finding]:
    from orchestrator.transport.keys import require_private

    file = patient.world.key_file
    require_private(file)
    if file.stat().st_mode & 0o077:
        yield Finding("SSH key", False, f"{file} may be read by others", f"chmod 600 {file}")
    elif shutil.which("ssh") is None:
        yield Finding("SSH key", None, f"{file}; there is no ssh on this computer, which `gpuplan ssh` needs")
    else:
        yield Finding("SSH key", True, str(file))


def _disk(patient: Patient) -> Iterator[Finding]:
    home = patient.world.home.path
    free = shutil.disk_usage(home).free
    yield _room("disk", home, free, LEAST_FREE, "the ledger and logs")
    wanted = {p.pull_to: p.artifacts_gb for p in patient.plan.phases if p.pull_to}
    if wanted:
        here = Path.cwd()
        needed = int(sum(wanted.values()) * 10**9)
        yield _room("disk for results", here, shutil.disk_usage(here).free, needed, "what the plan brings home")


def _room(name: str, folder: Path, free: int, needed: int, what: str) -> Finding:
    said = f"{free / 1e9:,.1f} GB free at {folder}; {needed / 1e9:,.1f} GB are wanted for {what}"
    return Finding(name, free >= needed, said, "" if free >= needed else "make room there, or work elsewhere")


def _clock(patient: Patient) -> Iterator[Finding]:
    """Against the hub's: every answer says its time."""
    from email.utils import parsedate_to_datetime

    import httpx

    url = _hub_url(patient)
    asked = datetime.now(UTC)
    try:
        with _client(url) as client:
            stamp = client.head(url).headers.get("Date", "")
        theirs = parsedate_to_datetime(stamp)
    except (httpx.HTTPError, ValueError, TypeError) as error:
        yield Finding("clock", None, f"{url} does not say the time: {error}")
        return
    off = (theirs - asked).total_seconds()
    good = abs(off) < SKEW_S
    way = "behind" if off > 0 else "ahead of"
    said = f"within a minute of {url}'s" if good else f"{abs(off):,.0f} s {way} {url}'s"
    yield Finding("clock", good, said, "" if good else "set it: signed URLs and deadlines go by it")


# -- accounts ----------------------------------------------------------------------------------------------------------


def _accounts(patient: Patient) -> Iterator[Finding]:
    """Keys, what they may do, credit, and prices of each provider of the plan."""
    missing: list[Finding] = []
    found = False
    for name in patient.plan.settings.providers:
        try:
            provider = patient.world.provider(name)
        except UsageError as error:
            missing.append(Finding(f"{name} key", None, error.message, error.remedy))
            continue
        found = True
        yield from _account(provider)
    for one in missing:
        yield one if found else replace(one, ok=False)


def _account(provider: Provider) -> Iterator[Finding]:
    name = provider.name
    try:
        provider.machines()
    except AccountRefused as error:
        yield Finding(f"{name} key", False, error.message, error.remedy)
        return
    except GpuplanError as error:
        yield Finding(f"{name} key", None, f"it does not answer now: {error.message}", "ask again later")
        return
    rights: dict[str, Callable[[], object]] = {"end machines": lambda: provider.destroy(NOBODY)}
    if Capability.VOLUMES in provider.capabilities:
        rights |= {"list volumes": provider.volumes, "delete volumes": lambda: provider.destroy_volume(NOBODY)}
    yield from _rights(name, rights)
    credit = provider.credit()
    if credit is None:
        yield Finding(f"{name} credit", None, "nothing is paid ahead there, or it does not say")
    else:
        good = credit >= LEAST_CREDIT
        yield Finding(f"{name} credit", good, money(credit), "" if good else "add credit: nothing is rented without")
    yield _prices(provider)


def _rights(name: str, rights: Mapping[str, Callable[[], object]]) -> Iterator[Finding]:
    """What a key may do is seen by asking for something that there is not."""
    barred: dict[str, str] = {}
    for right, ask in rights.items():
        try:
            ask()
        except AccountRefused as error:
            barred[right] = error.message
        except GpuplanError:
            continue  # it was let in, and something else is wrong
    if barred:
        said = "; ".join(f"may not {right}: {words}" for right, words in barred.items())
        yield Finding(f"{name} key", False, said, "give the key read and write access to machines and volumes")
    else:
        yield Finding(f"{name} key", True, f"may list machines, {', '.join(rights)}; renting was not tried")


def _prices(provider: Provider) -> Finding:
    from orchestrator.config.prices import load_prices

    try:
        offers = provider.offers(gpus=1, spot=False)
    except GpuplanError as error:
        return Finding(f"{provider.name} prices", None, f"it does not say now: {error.message}")
    now = {offer.gpu: offer.price_hour for offer in reversed(offers) if offer.available}
    if not now:
        return Finding(f"{provider.name} prices", None, "no machine with one GPU is for sale just now")
    said = f"{len(now)} types with one GPU, {money(min(now.values()))} to {money(max(now.values()))} an hour"
    listed = load_prices()
    if listed.provider == provider.name:
        both = [gpu for gpu in now if gpu in listed.gpus]
        off = {gpu: (now[gpu] / listed.gpus[gpu] - 1) * 100 for gpu in both if now[gpu] != listed.gpus[gpu]}
        far = max(off, key=lambda gpu: abs(off[gpu]), default="")
        said += f"; {far} is {off[far]:+.0f} % against" if far else "; as in"
        said += f" the list of {listed.read_on}"
    return Finding(f"{provider.name} prices", True, said)


# -- what the plan needs -----------------------------------------------------------------------------------------------


def _stores(patient: Patient) -> Iterator[Finding]:
    """A small object goes the whole way of an artifact, and is removed."""
    if not patient.stores:
        yield Finding("store", None, "none is configured: results come home from the machine, which is paid for then")
    for url in patient.stores:
        name = f"store {read_place(url).shown}"
        if url in patient.withheld:
            why = "not looked at: this plan brings its address, where requests are signed with your credentials"
            yield Finding(name, None, why, f"gpuplan run asks about it; --store '{url}' looks at it now")
            continue
        try:
            patient.world.store(url).check()
        except GpuplanError as error:
            yield Finding(name, False, error.message, error.remedy)
        else:
            yield Finding(name, True, "written, signed, listed, read and removed")


def _secrets(patient: Patient) -> Iterator[Finding]:
    plan = patient.plan
    names = {name for p in plan.phases for name in (*p.secrets, *(n for s in p.steps for n in s.secrets))}
    for name in sorted(names):
        good = patient.world.secret(name) is not None
        yield Finding(f"secret {name}", good, "set" if good else "not set", "" if good else f"export {name}=…")


def _hub(patient: Patient) -> Iterator[Finding]:
    """The repositories that the plan downloads, with the token that it would use; then how fast the line is."""
    from orchestrator.world.model_hub import TOKEN, Hub

    hub = Hub(_hub_url(patient), patient.world.secret(TOKEN))
    wanted = {s.hub.repo: s.hub.revision for p in patient.plan.phases for s in p.steps if s.hub}
    largest = ("", "", "", 0)
    for repo, revision in wanted.items():
        try:
            commit = hub.commit(repo, revision)
            files = hub.files(repo, commit)
        except GpuplanError as error:
            yield Finding(f"hub {repo}", False, error.message, error.remedy)
            continue
        size = sum(file.bytes for file in files)
        yield Finding(f"hub {repo}", True, f"may be read: {len(files)} files, {size / 1e9:,.1f} GB, {commit[:12]}")
        top = max(files, key=lambda file: file.bytes)
        largest = max(largest, (repo, commit, top.path, top.bytes), key=lambda one: one[3])
    if largest[0]:
        yield _line(patient, *largest[:3])
    elif not wanted:
        yield Finding("hub", None, "the plan downloads nothing from it")


def _line(patient: Patient, repo: str, commit: str, path: str) -> Finding:
    """What a few seconds of a download bring home."""
    import httpx

    from orchestrator.world.model_hub import TOKEN

    token = patient.world.secret(TOKEN)
    headers = {"Range": f"bytes=0-{SAMPLE_BYTES - 1}"} | (
        {"Authorization": f"Bearer {token.reveal()}"} if token else {}
    )
    url, got, began = f"{_hub_url(patient)}/{repo}/resolve/{commit}/{path}", 0, time.monotonic()
    try:
        with _client(url) as client, client.stream("GET", url, headers=headers) as reply:
            for block in reply.iter_bytes():
                got += len(block)
                if got >= SAMPLE_BYTES or time.monotonic() - began > SAMPLE_S:
                    break
    except httpx.HTTPError as error:
        return Finding("line", None, f"could not be measured: {error or type(error).__name__}")
    rate = got / 1e6 / max(time.monotonic() - began, 1e-3)
    gigabytes = sum((p.artifacts_gb for p in patient.plan.phases if p.pull_to), Decimal(0))
    said = f"{rate:,.0f} MB/s from the hub to this computer ({got / 1e6:,.1f} MB); rates.home is "
    said += f"{patient.plan.settings.rates.home} MB/s"
    if gigabytes and rate > 0:
        said += f"; {gigabytes} GB come home in {float(gigabytes) * 1000 / rate / 3600:,.1f} h"
    return Finding("line", True, said)


# -- what is left ------------------------------------------------------------------------------------------------------


def _left(patient: Patient) -> Iterator[Finding]:
    """Everything under our names, wherever it is: what is late, or of no run that goes on, is wrong."""
    from orchestrator.cli.reaping import words
    from orchestrator.engine import reaper
    from orchestrator.words.lifecycle import RunState

    home, ledger = patient.world.home, patient.world.ledger
    driven = {row.id for row in ledger.runs.all() if row.state != RunState.DONE and home.is_driven(row.id)}
    mine = {row.name for row in ledger.machines.all() if row.run in driven}
    now, seen = datetime.now(UTC), False
    for name in patient.plan.settings.providers:
        with contextlib.suppress(GpuplanError):  # its key's own line says why
            for one in reaper.survey(patient.world.provider(name)):
                seen = True
                late = one.deadline is not None and one.deadline < now
                if one.owner != home.owner():
                    yield Finding("left", None, f"{words(one)}: another owner's")
                elif one.kind == "volume":
                    yield Finding(
                        "left", not late, words(one), "gpuplan reap deletes it, after a question" if late else ""
                    )
                else:
                    good = one.name in mine and not late
                    remedy = "" if good else "gpuplan resume or gpuplan down of its run; gpuplan down --all"
                    yield Finding("left", good, words(one), remedy)
    if not seen:
        yield Finding("left", True, "nothing under gpuplan's names anywhere that could be asked")


def _hub_url(patient: Patient) -> str:
    return (patient.world.hub_url or patient.plan.settings.hub_url).rstrip("/")


def _client(url: str) -> httpx.Client:
    from orchestrator.words import web

    return web.client(url, headers={"User-Agent": "gpuplan"}, timeout=10.0, follow_redirects=True)


CHECKS: Mapping[str, Check] = {
    "SSH key": _key,
    "disk": _disk,
    "clock": _clock,
    "accounts": _accounts,
    "stores": _stores,
    "secrets": _secrets,
    "hub": _hub,
    "left": _left,
}
