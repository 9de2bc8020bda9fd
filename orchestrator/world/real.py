"""The real world: vendors' own addresses, and what the user's environment holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from orchestrator.ledger import Ledger
from orchestrator.providers import access_from_env, open_provider
from orchestrator.storage import open_source, open_store
from orchestrator.transport.keys import ensure_key_pair, key_file
from orchestrator.words.access import ProviderAccess
from orchestrator.words.credentials import secret_from_env
from orchestrator.words.provider import Provider
from orchestrator.words.spec import WorldSpec
from orchestrator.world.clock import SystemClock
from orchestrator.world.home import Home
from orchestrator.world.world import Amend, World, unchanged


def real(home: Home, ledger: Ledger, spec: WorldSpec, amend: Amend = unchanged, *, owner: str = "") -> World:
    """Nothing of it is asked before it is needed. `owner`: whose machines they are; "": this home's."""
    public_key = ensure_key_pair(home.path)

    def provider(name: str) -> Provider:
        if spec.ssh_host:
            return open_provider(name, ProviderAccess(base_url=spec.ssh_host, owner=owner or home.owner()))
        access = access_from_env(name)
        pace = home.path / f"pace-{name}"
        access = replace(access, public_key=public_key, owner=owner or home.owner(), pace_file=pace)
        return open_provider(name, amend(access))

    return World(
        home=home,
        ledger=ledger,
        clock=SystemClock(timeline=home.timeline),
        provider=provider,
        store=open_store,
        source=lambda one: open_source(one.source, sha256=one.sha256),
        secret=secret_from_env,
        public_key=public_key,
        key_file=Path(spec.ssh_key) if spec.ssh_key else key_file(home.path),
    )
