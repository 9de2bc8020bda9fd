"""Secrets from the environment: stripped, and checked where they are read."""

from __future__ import annotations

import os

from orchestrator.words.errors import UsageError
from orchestrator.words.secret import Secret


def secret_from_env(name: str) -> Secret | None:
    """The secret in that variable, without spaces and line ends around it; None: it is not set, or empty.

    UsageError, naming the variable alone, when it holds anything but printable ASCII: no header could carry it.
    """
    text = os.environ.get(name, "").strip()
    if not (text.isascii() and text.isprintable()):
        raise UsageError(
            f"the secret in {name} holds what is not printable ASCII: a line end, an accent, an invisible character",
            remedy=f"export {name} again without it",
        )
    return Secret(text) if text else None
