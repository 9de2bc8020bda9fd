"""What a rehearsal imports beside the core, looked for before anything is begun."""

from __future__ import annotations

from importlib.util import find_spec

from orchestrator.words.errors import UsageError

MODULES = ("aiohttp", "asyncssh", "flask", "flask_cors", "graphql", "jsonschema", "moto")


def require_installed() -> None:
    """UsageError: modules of the extra [rehearsal] are not there. None is imported."""
    if missing := [name for name in MODULES if find_spec(name) is None]:
        raise UsageError(
            f"a rehearsal runs emulated clouds on this computer, and {', '.join(missing)} is not installed",
            remedy="the extra [rehearsal] has it, in a checkout: pipx install --force '.[rehearsal]'; "
            "gpuplan plan and validate need nothing",
        )
