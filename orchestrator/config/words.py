"""What names, paths and globs of a plan may look like: they become file names, machine names and shell words."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath

SHORT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,19}")
STEP_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9 ._+-]{0,58}[A-Za-z0-9._+-])?")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PORT = re.compile(r"([1-9][0-9]{0,4})/(tcp|http)")
LOADER = re.compile(r"(LD|DYLD)_.*")  # what a plan may set for its own programs, and not take from the user's
CREDENTIAL = re.compile(
    r"(RUNPOD|LAMBDA|AWS|AMAZON|GOOGLE|GCLOUD|GCP|CLOUDSDK|BOTO|AZURE|ARM|SSH|GPG|DBUS|KUBE|DOCKER|VAST|SKYPILOT)_.*"
    rf"|{LOADER.pattern}|KUBECONFIG|NETRC|PGPASSWORD|XAUTHORITY",
    re.IGNORECASE,
)
RESERVED_ENV = re.compile(r"GPUPLAN_.*|WORKSPACE|PATH|HOME")

SOURCES = ("s3", "gs", "https")  # of inputs: stores that sign requests for what they hold, and what needs none
LONGEST_COMMAND = 100_000  # Linux takes 128 KiB in one argument, with what we put around it

_SHORT = "up to 20 letters, digits, `.`, `_` and `-`"


def phase_name(text: str) -> str:
    """Return what is wrong with a phase's name; "" when nothing is."""
    return "" if text != "all" and _short_name(text) else f"{text!r} cannot be a phase's name: {_SHORT}, and not `all`"


def volume_name(text: str) -> str:
    """Return what is wrong with a volume's name; "" when nothing is."""
    return "" if _short_name(text) else f"{text!r} cannot be a volume's name: {_SHORT}"


def _short_name(text: str) -> bool:
    return bool(SHORT_NAME.fullmatch(text)) and not text.endswith(".")


def step_name(text: str) -> str:
    """Return what is wrong with a step's name; "" when nothing is."""
    if STEP_NAME.fullmatch(text) and not text.endswith("."):
        return ""
    return f"{text!r} cannot be a step's name: up to 60 letters, digits, spaces, `.`, `_`, `+` and `-`"


def env_name(text: str) -> str:
    """Return what is wrong with an environment variable's name; "" when nothing is."""
    if not ENV_NAME.fullmatch(text):
        return f"{text!r} cannot be the name of an environment variable"
    return f"{text} is set by gpuplan itself" if RESERVED_ENV.fullmatch(text) else ""


def secret_name(text: str) -> str:
    """Return what is wrong with the name of a secret; "" when nothing is: a plan may not ask for an account's key."""
    if CREDENTIAL.fullmatch(text):
        return f"{text} is a credential of your own account or computer: no plan gets it"
    return env_name(text)


def set_name(text: str) -> str:
    """Return what is wrong with the name of a variable that a plan sets; "" when nothing is."""
    return env_name(text) or (secret_name(text) if not LOADER.fullmatch(text) else "")


def port(text: str) -> str:
    """Return what is wrong with a published port; "" when nothing is."""
    match = PORT.fullmatch(text)
    if match and int(match[1]) <= 65535:
        return ""
    return f"{text!r} is no port: write 22/tcp or 8888/http"


def expression(text: str) -> str:
    """Return what is wrong with a regular expression; "" when nothing is."""
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        return f"{text!r} is no regular expression: {error}"
    return ""


def below(text: str) -> str:
    """Return what is wrong with a path or glob that must stay below its folder; "" when nothing is."""
    if not text or "\0" in text or "\n" in text:
        return f"{text!r} is no path"
    if text.startswith(("/", "~")):
        return f"{text} is absolute: write it from its folder on"
    if ".." in PurePosixPath(text).parts:
        return f"{text} leaves its folder"
    return ""


Check = Callable[[str], str]
