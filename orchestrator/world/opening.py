"""What one process keeps open for a run: its context with the connections to its machines, in the run's world."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.engine.context import Context
from orchestrator.engine.control import Control
from orchestrator.ledger import Ledger
from orchestrator.transport.payload import Payload
from orchestrator.words import files
from orchestrator.words.retry import retrying
from orchestrator.words.secret import Secret
from orchestrator.words.spec import RunSpec
from orchestrator.world.connections import Connections
from orchestrator.world.world import Observer, World

TOKEN = "GPUPLAN_TOKEN"  # noqa: S105  the name of the variable by which ranks of one run know each other
HUB_TOKEN = "HF_TOKEN"  # noqa: S105  likewise: the hub's own


@dataclass(frozen=True, slots=True)
class OpenRun:
    """Everything open for one run in this process."""

    context: Context
    connections: Connections

    def close(self) -> None:
        """Close the connections; world and ledger stay."""
        self.connections.close()


class HubListing:
    """Implements engine.context.Hub; what a commit holds is asked once."""

    def __init__(self, url: str, token: Secret | None) -> None:
        self._url, self._token = url, token
        self._seen: dict[tuple[str, str], list[tuple[str, int, str | None]]] = {}

    def commit(self, repo: str, revision: str) -> str:
        """See engine.context.Hub: asked anew each time."""
        from orchestrator.world.model_hub import Hub

        return retrying(lambda: Hub(self._url, self._token).commit(repo, revision), within_s=300)

    def listing(self, repo: str, commit: str) -> list[tuple[str, int, str | None]]:
        """Path, bytes, sha256 of each file."""
        from orchestrator.world.model_hub import Hub

        if (repo, commit) not in self._seen:
            found = retrying(lambda: Hub(self._url, self._token).files(repo, commit), within_s=300)
            self._seen[repo, commit] = [(f.path, f.bytes, f.sha256) for f in found]
        return self._seen[repo, commit]


def open_run(world: World, spec: RunSpec, watching: Observer | None = None, ledger: Ledger | None = None) -> OpenRun:
    """Open what the run needs. `watching`: whoever looks on, beside the world itself; its `announce` is the world's.

    `ledger`: one with another patience than the world's.
    """
    settings, folder = spec.plan.settings, world.home.run_folder(spec.run)
    observer = replace(watching or Observer(), announce=world.observer.announce)
    ledger = ledger or world.ledger
    provider, control = world.provider(spec.world.provider), Control(world.clock)
    stop_after_s = spec.deadman_minutes * 60 if spec.deadman_minutes else None
    deadman_s = stop_after_s or settings.deadman_minutes * 60
    connections = Connections(ledger, provider, world.key_file, spec.run, deadman_s, stop_after_s, control)
    known = _secrets(world, spec, folder)
    context = Context(
        spec=spec,
        folder=folder,
        ledger=ledger,
        provider=provider,
        clock=world.clock,
        agents=connections,
        payload=Payload.load(files.remote(), settings.payload).freeze(folder / "payload"),
        hub=HubListing(world.hub_url or settings.hub_url, known.get(HUB_TOKEN)),
        stores=[world.store(url) for url in spec.stores],
        public_key=world.public_key,
        secrets=known,
        world_env=world.step_env,
        log=observer.log,
        progress=observer.progress,
        announce=observer.announce,
        control=control,
    )
    return OpenRun(context, connections)


def _secrets(world: World, spec: RunSpec, folder: Path) -> dict[str, Secret]:
    """What the plan's `secrets` name, as far as it is set, and the run's own token."""
    names = sorted({name for phase in spec.plan.phases for name in phase.secrets})
    found = {name: world.secret(name) for name in names}
    return {TOKEN: _run_token(folder)} | {name: secret for name, secret in found.items() if secret}


def _run_token(folder: Path) -> Secret:
    file = folder / "token"
    if not file.exists():
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as out:
            out.write(secrets.token_hex(16))
    return Secret(file.read_text())
