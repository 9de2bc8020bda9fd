"""Opens the adapters that a frozen run names: the same ones for a rehearsal, only at other addresses."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from orchestrator.engine.context import Context
from orchestrator.engine.control import Control
from orchestrator.ledger import open_ledger
from orchestrator.providers import ProviderAccess, access_from_env, open_provider, require_known
from orchestrator.storage import StoreAccess, open_store
from orchestrator.transport.replies import Progress
from orchestrator.words import files
from orchestrator.words.credentials import secret_from_env
from orchestrator.words.errors import UsageError
from orchestrator.words.ports import ArtifactStore, Provider
from orchestrator.words.retry import retrying
from orchestrator.words.secret import Secret
from orchestrator.words.spec import RunSpec
from orchestrator.world.clock import SystemClock
from orchestrator.world.connections import Connections
from orchestrator.world.home import Home

if TYPE_CHECKING:
    from orchestrator.rehearsal.client import Rehearsal

TOKEN = "GPUPLAN_TOKEN"  # noqa: S105  the name of the variable by which ranks of one run know each other


@dataclass
class Session:
    """Everything open for one run in this process."""

    context: Context
    connections: Connections
    rehearsal: Rehearsal | None

    def close(self) -> None:
        """Close the connections and the ledger; the rehearsed cloud lives on."""
        self.connections.close()
        self.context.ledger.close()


class HubListing:
    """Implements engine.context.Hub; asked once for each repository."""

    def __init__(self, url: str, token: Secret | None) -> None:
        self._url, self._token = url, token
        self._seen: dict[tuple[str, str], list[tuple[str, int, str | None]]] = {}

    def listing(self, repo: str, revision: str) -> list[tuple[str, int, str | None]]:
        """Path, bytes, sha256 of each file."""
        from orchestrator.world.hub import Hub

        if (repo, revision) not in self._seen:
            found = retrying(lambda: Hub(self._url, self._token).files(repo, revision), within_s=300)
            self._seen[repo, revision] = [(f.path, f.bytes, f.sha256) for f in found]
        return self._seen[repo, revision]


def open_session(
    home: Home,
    spec: RunSpec,
    log: Callable[[str, str], None],
    progress: Callable[[str, Progress], None] = lambda _step, _progress: None,
) -> Session:
    """Open what the run needs; a rehearsal's cloud is started, or found again where it is still alive."""
    from orchestrator.transport.keys import ensure_key_pair, key_file
    from orchestrator.transport.payload import Payload

    folder = home.run_folder(spec.run)
    ledger = open_ledger(home.path, home.database_url, home.timeline)
    rehearsal = open_rehearsal(spec) if spec.world.dry_run else None
    facts = rehearsal.facts if rehearsal else {}
    public_key = ensure_key_pair(home.path)
    provider = provider_for(home, spec.world.provider, spec.owner, facts, spec.world.ssh_host)
    settings = spec.plan.settings
    key = Path(spec.world.ssh_key) if spec.world.ssh_key else key_file(home.path)
    clock = SystemClock(facts.get("time_scale", 1.0), home.timeline)
    control = Control(clock)
    stop_after_s = spec.deadman_minutes * 60 if spec.deadman_minutes else None
    deadman_s = stop_after_s or settings.deadman_minutes * 60
    connections = Connections(ledger, provider, key, spec.run, deadman_s, stop_after_s, control)
    known = run_secrets(spec, folder, facts)
    context = Context(
        spec=spec,
        folder=folder,
        ledger=ledger,
        provider=provider,
        clock=clock,
        agents=connections,
        payload=Payload.load(files.remote(), settings.payload).freeze(folder / "payload"),
        hub=HubListing(facts["hub"]["endpoint"] if facts else settings.hub_url, known.get("HF_TOKEN")),
        stores=[store_for(url, facts) for url in spec.stores],
        public_key=public_key,
        secrets=known,
        world_env=facts["machine_env"] if facts and spec.world.ssh_host else {},
        log=log,
        progress=progress,
        announce=_announcer(rehearsal),
        control=control,
    )
    return Session(context, connections, rehearsal)


def open_rehearsal(spec: RunSpec) -> Rehearsal:
    """The run's cloud: somebody else's (GPUPLAN_REHEARSAL), the one still alive in its folder, or a new one there."""
    from orchestrator.rehearsal import client

    for name in ("NO_PROXY", "no_proxy"):  # whatever proxy the user has: nothing of a rehearsal leaves this computer
        os.environ[name] = ",".join(filter(None, [os.environ.get(name, ""), "127.0.0.1", "localhost"]))
    if spec.world.rehearsal:
        return client.attach(Path(spec.world.rehearsal))
    try:
        rehearsal = client.start(Path(spec.cloud), faults=list(spec.world.faults))
        _users(spec).mkdir(exist_ok=True)
        (_users(spec) / spec.run).touch()
    except OSError as error:
        message = f"the rehearsed cloud cannot be kept in {spec.cloud}: {error.strerror or error}"
        raise UsageError(message, remedy="name another folder") from error
    return rehearsal


def close_rehearsal(spec: RunSpec, rehearsal: Rehearsal | None) -> None:
    """The rehearsed cloud ends with the last run that uses it, unless somebody else keeps it."""
    if rehearsal is None or spec.world.rehearsal:
        return
    (_users(spec) / spec.run).unlink(missing_ok=True)
    if not any(_users(spec).glob("*")):
        rehearsal.stop()


def _users(spec: RunSpec) -> Path:
    """A folder with a file for each run that uses the cloud."""
    return Path(spec.cloud) / "users"


def provider_for(home: Home, name: str, owner: str, facts: Mapping[str, Any], ssh_host: str = "") -> Provider:
    """The adapter of that name, at the vendor's address or at the rehearsal's."""
    from orchestrator.transport.keys import ensure_key_pair

    if name == "ssh-host":
        return open_provider(name, ProviderAccess(base_url=ssh_host, owner=owner, **_stand_ins(facts)))
    require_known(name)
    public_key = ensure_key_pair(home.path)
    if not facts:
        from dataclasses import replace

        pace = home.path / f"pace-{name}"
        return open_provider(name, replace(access_from_env(name), public_key=public_key, owner=owner, pace_file=pace))
    part = facts[name]
    return open_provider(
        name,
        ProviderAccess(
            api_key=Secret(part["api_key"]),
            base_url=part.get("rest") or part.get("url"),
            graphql_url=part.get("graphql"),
            time_scale=facts["time_scale"],
            public_key=public_key,
            owner=owner,
            ssh_port=part.get("ssh_port", 22),
            **_stand_ins(facts),
        ),
    )


class _StandIns(TypedDict, total=False):
    shows_gpu: bool
    disk_share: float


def _stand_ins(facts: Mapping[str, Any]) -> _StandIns:
    """What a rehearsed machine is not: it computes on this computer's CPU, with models a ten-thousandth in size."""
    return {"shows_gpu": False, "disk_share": 1e-4} if facts else {}


def store_for(url: str, facts: Mapping[str, Any]) -> ArtifactStore:
    """The store at that URL, or its stand-in in the rehearsal."""
    if not facts or url.startswith("file:"):
        return open_store(url)
    if url.startswith("gs:"):
        return open_store(url, StoreAccess(endpoint=facts["gcs"]["endpoint"], project="rehearsal"))
    part = facts["s3"]
    return open_store(
        url,
        StoreAccess(
            endpoint=part["endpoint"],
            access_key=part["access_key"],
            secret_key=Secret(part["secret_key"]),
            region=part["region"],
        ),
    )


def run_secrets(spec: RunSpec, folder: Path, facts: Mapping[str, Any]) -> dict[str, Secret]:
    """What the plan's `secrets` name, from the environment (a rehearsal has stand-ins), and the run's own token."""
    known = {TOKEN: _run_token(folder)}
    for name in sorted({name for phase in spec.plan.phases for name in phase.secrets}):
        if facts and name == "HF_TOKEN":
            known[name] = Secret(facts["hub"]["token"])
        elif found := secret_from_env(name):
            known[name] = found
        elif spec.world.dry_run:
            known[name] = Secret(f"rehearsed-{name}")
    return known


def require_secrets(spec: RunSpec, wanted: set[str]) -> None:
    """UsageError unless every secret that a step of this run needs is set, and can be one."""
    missing = sorted(n for n in wanted if secret_from_env(n) is None)
    if missing and not spec.world.dry_run:  # a rehearsal needs no account: what is not set gets a stand-in
        raise UsageError(f"the secret {missing[0]} is not set", remedy=f"export {missing[0]}=… and run again")


def _run_token(folder: Path) -> Secret:
    file = folder / "token"
    if not file.exists():
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as out:
            out.write(secrets.token_hex(16))
    return Secret(file.read_text())


def _announcer(rehearsal: Rehearsal | None) -> Callable[[str, str, str], None]:
    """Tells the rehearsal which step begins where, so that a disaster can be timed by it. Silent otherwise."""
    if rehearsal is None:
        return lambda _step, _state, _machine: None
    living = rehearsal

    def tell(step: str, state: str, machine: str) -> None:
        (living.step_started if state == "started" else living.step_ended)(step, machine)

    return tell
