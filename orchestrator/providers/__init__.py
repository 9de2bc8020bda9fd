"""The clouds by name. Each adapter is one file, loaded only when its cloud is used."""

from __future__ import annotations

import importlib
import os

from orchestrator.words.access import ProviderAccess
from orchestrator.words.credentials import secret_from_env
from orchestrator.words.errors import UsageError
from orchestrator.words.provider import Provider

__all__ = ["CONSOLES", "PROVIDERS", "ProviderAccess", "access_from_env", "open_provider", "require_known"]

PROVIDERS: dict[str, str] = {
    "runpod": "orchestrator.providers.runpod:RunPod",
    "lambda": "orchestrator.providers.lambdalabs:Lambda",
    "ssh-host": "orchestrator.providers.existing_host:ExistingHost",
}

# provider -> (environment variable, page where the key is made); a provider that is not here needs none
CREDENTIALS: dict[str, tuple[str, str]] = {
    "runpod": ("RUNPOD_API_KEY", "https://console.runpod.io/user/settings (API Keys, with write access to Pods)"),
    "lambda": ("LAMBDA_API_KEY", "https://cloud.lambda.ai/api-keys/cloud-api"),
}

# provider -> where its console shows a machine; one that is not here has none
CONSOLES: dict[str, str] = {
    "runpod": "https://console.runpod.io/pods?id={id}",
    "lambda": "https://cloud.lambda.ai/instances",
}

VENDOR_DEADLINE = "GPUPLAN_RUNPOD_DEADLINE"  # 1: a second fence behind our own clean-up, reaper and dead-man's switch


def access_from_env(name: str) -> ProviderAccess:
    """Read a provider's key from the environment. UsageError: which variable is missing or wrong."""
    require_known(name)
    if name not in CREDENTIALS:
        return ProviderAccess()
    variable, page = CREDENTIALS[name]
    key = secret_from_env(variable)
    if key is None:
        raise UsageError(
            f"{name}: no API key: {variable} is not set", remedy=f"make one at {page} and export {variable}"
        )
    return ProviderAccess(api_key=key, vendor_deadline=os.environ.get(VENDOR_DEADLINE) == "1")


def open_provider(name: str, access: ProviderAccess) -> Provider:
    """Load and build the adapter of that name. UsageError: there is none, with the names that there are."""
    module, _, cls = require_known(name).partition(":")
    provider: Provider = getattr(importlib.import_module(module), cls)(access)
    return provider


def require_known(name: str) -> str:
    """Where the adapter of that name is. UsageError: there is none, with the names that there are."""
    if name not in PROVIDERS:
        raise UsageError(f"unknown provider {name!r}", remedy=f"it is one of: {', '.join(sorted(PROVIDERS))}")
    return PROVIDERS[name]
