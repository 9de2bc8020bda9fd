"""What a run needs from outside. `real` and `rehearsed` build one; nothing behind them asks which of them it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.ledger import Ledger
from orchestrator.transport.job_replies import Progress
from orchestrator.words.access import ProviderAccess
from orchestrator.words.errors import UsageError
from orchestrator.words.model import Input
from orchestrator.words.provider import Provider
from orchestrator.words.secret import Secret
from orchestrator.words.source import Source
from orchestrator.words.store import ArtifactStore
from orchestrator.world.clock import SystemClock
from orchestrator.world.home import Home

Amend = Callable[[ProviderAccess], ProviderAccess]  # what becomes of it before an adapter is opened
Announce = Callable[[str, str, str], None]  # step, started or ended, machine


def unchanged(access: ProviderAccess) -> ProviderAccess:
    """What `Amend` is unless somebody wants more."""
    return access


@dataclass(frozen=True, slots=True)
class Observer:
    """Whoever looks on while steps run; by itself nobody. All of it may be called from any thread."""

    log: Callable[[str, str], None] = lambda _step, _text: None
    progress: Callable[[str, Progress], None] = lambda _step, _progress: None
    announce: Announce = lambda _step, _state, _machine: None


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One world, with the home and the ledger that gpuplan keeps its books of it in."""

    home: Home
    ledger: Ledger
    clock: SystemClock
    provider: Callable[[str], Provider]  # the adapter of that name; UsageError: unknown, or its key is not set
    store: Callable[[str], ArtifactStore]  # the store at that URL
    source: Callable[[Input], Source]  # what machines fetch, as a plan names it
    secret: Callable[[str], Secret | None]  # what a plan's `secrets` name; None: it is not set
    public_key: str  # of gpuplan's own pair, for the machines
    key_file: Path  # the private key that opens them
    hub_url: str = ""  # of the model hub; "": what the settings say
    step_env: Mapping[str, str] = field(default_factory=dict)  # what it adds to every step's environment
    observer: Observer = Observer()  # what of it looks on by itself
    leave: Callable[[str], None] = lambda _run: None  # that run has ended, or was never begun
    unfired: Callable[[], tuple[str, ...]] = tuple  # disasters that were asked for and have not come

    def providers(self, names: Sequence[str]) -> tuple[list[Provider], dict[str, str]]:
        """Their adapters, in order, and why others cannot be asked. UsageError, the first one's: none can be."""
        found: list[Provider] = []
        missing: dict[str, UsageError] = {}
        for name in names:
            try:
                found.append(self.provider(name))
            except UsageError as error:
                missing[name] = error
        if missing and not found:
            raise next(iter(missing.values()))
        return found, {name: error.message for name, error in missing.items()}

    def require_secrets(self, wanted: set[str]) -> None:
        """UsageError unless every one of these secrets is set, and can be one."""
        for name in sorted(wanted):
            if self.secret(name) is None:
                raise UsageError(f"the secret {name} is not set", remedy=f"export {name}=… and run again")
