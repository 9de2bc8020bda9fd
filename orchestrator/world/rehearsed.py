"""The rehearsed world: the same adapters at the emulators' addresses, on this computer."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from orchestrator.ledger import Ledger
from orchestrator.providers import open_provider, require_known
from orchestrator.rehearsal import client
from orchestrator.rehearsal.client import Conditions, Facts, Rehearsal
from orchestrator.rehearsal.faults import parse
from orchestrator.storage import StoreAccess, open_source, open_store
from orchestrator.transport.keys import ensure_key_pair, key_file
from orchestrator.words.access import ProviderAccess
from orchestrator.words.errors import GpuplanError, UsageError
from orchestrator.words.model import Input
from orchestrator.words.observed import load
from orchestrator.words.provider import Provider
from orchestrator.words.secret import Secret
from orchestrator.words.source import Source
from orchestrator.words.spec import WorldSpec
from orchestrator.words.store import ArtifactStore
from orchestrator.world import samples
from orchestrator.world.clock import SystemClock
from orchestrator.world.home import Home
from orchestrator.world.world import Amend, Announce, Observer, World, unchanged

# What a secret may hold: a step that does not quote it breaks here, and not on a rented machine.
ODD = " '\"$x`\\%/+&!"
SHARE = 1e-4  # the size of what is downloaded and written, of what it stands for


def rehearsed(
    home: Home, ledger: Ledger, spec: WorldSpec, run: str, amend: Amend = unchanged, *, owner: str = ""
) -> World:
    """The cloud that the spec names: found alive, or started. `run` uses it until it leaves; "": nobody is to wait.

    `owner`: whose machines they are; "": this home's.
    """
    _stay_on_this_computer()
    living = _attached(spec) if spec.rehearsal else _ours(spec, run, home.fixtures)
    try:
        facts, public_key = living.facts, ensure_key_pair(home.path)
        _arm_once(home.run_folder(run), living, spec)
    except BaseException:  # Ctrl-C too: there is no world yet that anybody could leave
        if not spec.rehearsal:
            _leave(spec, living, run)
        raise

    def provider(name: str) -> Provider:
        if spec.ssh_host:
            return open_provider(
                name,
                ProviderAccess(base_url=spec.ssh_host, owner=owner or home.owner(), shows_gpu=False, disk_share=SHARE),
            )
        return _provider(name, facts, public_key, owner or home.owner(), amend)

    return World(
        home=home,
        ledger=ledger,
        clock=SystemClock(facts.time_scale, home.timeline),
        provider=provider,
        store=lambda url: _store(url, facts),
        source=cache(lambda one: _source(one, facts)),  # laid once
        secret=lambda name: _secret(name, facts),
        public_key=public_key,
        key_file=Path(spec.ssh_key) if spec.ssh_key else key_file(home.path),
        hub_url=facts.hub,
        step_env=facts.machine_env if spec.ssh_host else {},  # emulated machines bring it themselves
        observer=Observer(announce=_announcer(living)),
        unfired=lambda: _unfired(living, spec),
        leave=lambda left: None if spec.rehearsal else _leave(spec, living, left),
    )


def _stay_on_this_computer() -> None:
    """Whatever proxy the user has: nothing of a rehearsal goes through it."""
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name, ""), "127.0.0.1", "localhost"]))


def _attached(spec: WorldSpec) -> Rehearsal:
    """The cloud that somebody else began and ends."""
    found = client.attach(Path(spec.rehearsal))
    _require(found.facts.conditions, _asked(spec))
    return found


def _ours(spec: WorldSpec, run: str, fixtures: Path) -> Rehearsal:
    """The cloud in the spec's folder. UsageError: it cannot be kept there, or what it is to behave like not be read."""
    if fixtures.is_dir():
        load(fixtures)
    try:
        found = client.start(
            Path(spec.cloud),
            conditions=_asked(spec),
            fixtures=fixtures if fixtures.is_dir() else None,
        )
        _require(found.facts.conditions, _asked(spec))
        _users(spec).mkdir(exist_ok=True)
        (_users(spec) / run).touch()
    except OSError as error:
        message = f"the rehearsed cloud cannot be kept in {spec.cloud}: {error.strerror or error}"
        raise UsageError(message, remedy="name another folder") from error
    return found


def _asked(spec: WorldSpec) -> Conditions:
    return Conditions(spec.network, spec.clock_skew_s)


def _require(there: Conditions, asked: Conditions) -> None:
    """UsageError: the run asks for other conditions than those of the cloud that was found alive."""
    if asked not in (there, Conditions()):
        raise UsageError(
            f"the rehearsed cloud is alive with other conditions ({there}) than the run asks for ({asked})",
            remedy="wait until it has ended (10 idle minutes), or give --cloud another folder",
        )


def _arm_once(folder: Path, living: Rehearsal, spec: WorldSpec) -> None:
    """Arm the run's disasters in the cloud, found alive or new, the first time that the run opens it."""
    armed = folder / "armed"
    if not spec.faults or not folder.is_dir() or armed.exists():
        return
    armed.write_text("\n".join(spec.faults))
    for fault in spec.faults:
        living.arm(fault)


def _unfired(living: Rehearsal, spec: WorldSpec) -> tuple[str, ...]:
    """Those of the run's disasters that never happened. A cloud that answers no more cannot say: none."""
    try:
        came = {(one["name"], one["arg"] or "") for one in living.faults() if one["fired"]}
    except GpuplanError:
        return ()
    return tuple(fault for fault in spec.faults if parse(fault)[:2] not in came)


def _leave(spec: WorldSpec, living: Rehearsal, run: str) -> None:
    """The cloud ends with the last run that uses it."""
    (_users(spec) / run).unlink(missing_ok=True)
    if not any(_users(spec).glob("*")):
        living.stop()


def _users(spec: WorldSpec) -> Path:
    """A folder with a file for each run that uses the cloud."""
    return Path(spec.cloud) / "users"


def _provider(name: str, facts: Facts, public_key: str, owner: str, amend: Amend) -> Provider:
    """What it rents computes on this computer's CPU, with models a ten-thousandth in size."""
    require_known(name)
    cloud = facts.clouds[name]
    access = ProviderAccess(
        api_key=Secret(cloud.api_key),
        base_url=cloud.url,
        graphql_url=cloud.graphql,
        time_scale=facts.time_scale,
        public_key=public_key,
        owner=owner,
        ssh_port=cloud.ssh_port,
        shows_gpu=False,
        disk_share=SHARE,
    )
    return open_provider(name, amend(access))


def _store(url: str, facts: Facts) -> ArtifactStore:
    """The stand-in of the store at that URL; a folder is itself."""
    if url.startswith("file:"):
        return open_store(url)
    return open_store(url, _access(url.partition(":")[0], facts))


def _access(scheme: str, facts: Facts) -> StoreAccess:
    if scheme == "gs":
        return StoreAccess(endpoint=facts.gcs, project="rehearsal")
    s3 = facts.s3
    return StoreAccess(
        endpoint=s3.endpoint, access_key=s3.access_key, secret_key=Secret(s3.secret_key), region=s3.region
    )


def _source(one: Input, facts: Facts) -> Source:
    """The stand-in of what the plan names, laid when it is asked for first."""
    address = samples.lay(one, lambda url: _store(url, facts))
    return open_source(address, _access(address.partition(":")[0], facts))


def _secret(name: str, facts: Facts) -> Secret:
    """A rehearsal needs no account and gets nothing of one: a stand-in always; the hub's is the emulated hub's."""
    return Secret(facts.hub_token if name == "HF_TOKEN" else f"rehearsed-{name}{ODD}")


def _announcer(living: Rehearsal) -> Announce:
    """Tells the rehearsal which step begins where, so that a disaster can be timed by it."""

    def tell(step: str, state: str, machine: str) -> None:
        (living.step_started if state == "started" else living.step_ended)(step, machine)

    return tell
