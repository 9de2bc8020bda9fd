"""What one process keeps open for a run: its context with the connections to its machines, in the run's world."""

from __future__ import annotations

import hmac
import os
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.engine.context import Context
from orchestrator.engine.control import Control
from orchestrator.ledger import Ledger
from orchestrator.plan.resolve import all_steps
from orchestrator.transport import code_folder
from orchestrator.transport.code import Code
from orchestrator.transport.code_folder import CodeFile
from orchestrator.words import files
from orchestrator.words.errors import UsageError
from orchestrator.words.model import Plan
from orchestrator.words.retry import retrying
from orchestrator.words.secret import Secret
from orchestrator.words.spec import RunSpec
from orchestrator.world import sharing
from orchestrator.world.connections import Connections
from orchestrator.world.home import Home
from orchestrator.world.world import Observer, World

TOKEN = "GPUPLAN_TOKEN"  # noqa: S105  the name of the variable by which ranks of one run know each other
CODE = "code"  # folder of a run: what `code` of its plan was when it began
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
    connections = Connections(ledger, provider, world.key_file, spec, deadman_s, stop_after_s, control)
    known = _secrets(world, spec, folder, ledger)
    context = Context(
        spec=spec,
        folder=folder,
        ledger=ledger,
        provider=provider,
        clock=world.clock,
        agents=connections,
        code=Code(folder / CODE),
        hub=HubListing(world.hub_url or settings.hub_url, known.get(HUB_TOKEN)),
        stores=[world.store(url) for url in spec.stores],
        public_key=world.public_key,
        secrets=known,
        source=world.source,
        world_env=world.step_env,
        log=observer.log,
        progress=observer.progress,
        announce=observer.announce,
        keep=sharing.keeper(ledger, folder),
        control=control,
    )
    return OpenRun(context, connections)


def freeze_code(home: Home, spec: RunSpec) -> Code:
    """What the run sends to its machines, copied into its folder: its predecessor's, or what lies there now.

    UsageError: see find_code; or a file of `requirements` is not among it.
    """
    into = home.run_folder(spec.run) / CODE
    if spec.previous:
        before = Code(home.run_folder(spec.previous) / CODE)
        return Code.freeze(before.content, into)
    code = Code.freeze(find_code(home, spec.plan, Path(spec.pull_root)), into)
    code.require((*spec.plan.settings.requirements, *spec.plan.settings.requirements_gpu))
    return code


def find_code(home: Home, plan: Plan, pull_root: Path) -> list[CodeFile]:
    """The files of the plan's code: none of what is fetched home below `pull_root`, or of gpuplan's own state.

    UsageError: the folder is not there, or cannot be sent (transport.code_folder).
    """
    if not plan.settings.code:
        return []
    fetched = [Path(pull_root, phase.pull_to).resolve() for phase in plan.phases if phase.pull_to]
    return code_folder.find(code_source(plan), most_mb=plan.settings.code_mb, leave_out=[*fetched, home.path])


def code_source(plan: Plan) -> Path:
    """The folder that `code` names. UsageError: it is not there, or not below the plan's."""
    top = Path(plan.folder) if plan.folder else files.shipped()
    folder = top / plan.settings.code
    if not folder.is_dir():
        raise UsageError(f"code: there is no folder {folder}", remedy="name a folder below the plan's; . is all of it")
    if not folder.resolve().is_relative_to(top.resolve()):
        raise UsageError(f"code: {folder} is a link that leads out of {top}", remedy="name a folder below the plan's")
    return folder


def _secrets(world: World, spec: RunSpec, folder: Path, ledger: Ledger) -> dict[str, Secret]:
    """What the plan's `secrets` name, as far as it is set, and the run's own token."""
    names = sorted({name for step in all_steps(spec.plan).values() for name in step.secrets})
    found = {name: world.secret(name) for name in names}
    token = _shared_token(world.key_file, spec.run) if ledger.is_shared else _run_token(folder)
    return {TOKEN: token} | {name: secret for name, secret in found.items() if secret}


def _shared_token(key: Path, run: str) -> Secret:
    """The run's token where another computer may go on with it: whoever has the key has the same."""
    return Secret(hmac.new(key.read_bytes(), f"gpuplan token {run}".encode(), "sha256").hexdigest()[:32])


def _run_token(folder: Path) -> Secret:
    file = folder / "token"
    if not file.exists():
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as out:
            out.write(secrets.token_hex(16))
    return Secret(file.read_text())
