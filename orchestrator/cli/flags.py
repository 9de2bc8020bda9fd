"""The flags of `run` that shape it, and which of them go together."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from orchestrator.words.errors import UsageError

HOST_KEY = re.compile(r"SHA256:[A-Za-z0-9+/]{43}|[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,2}")
TAG = re.compile(r"[\w.-]{1,40}")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The flags of `run` that shape it."""

    dry_run: bool
    spot: bool
    spot_or_demand: bool
    provider: str | None
    ssh_host: str
    ssh_key: Path | None
    host_key: str
    stores: tuple[str, ...]
    force: tuple[str, ...]
    only: bool
    cloud: Path | None
    faults: tuple[str, ...]
    deadman_minutes: float | None
    tags: tuple[str, ...] = ()
    wait_s: float = 0.0
    hold_s: float = 0.0
    move: str = ""
    network: str = ""
    clock_skew_s: float = 0.0


def check_flags(options: RunOptions) -> None:
    """UsageError: two of them exclude each other, or one means nothing here."""
    if wrong := [tag for tag in options.tags if not TAG.fullmatch(tag)]:
        raise UsageError(f"--tag {wrong[0]}: a tag is a word of letters, digits, dots and dashes")
    if options.faults and not options.dry_run:
        raise UsageError("--fault rehearses a disaster", remedy="it needs --dry-run")
    _check_conditions(options)
    if options.cloud and not options.dry_run:
        raise UsageError("--cloud is the folder of a rehearsed cloud", remedy="it needs --dry-run")
    if options.spot and options.spot_or_demand:
        raise UsageError("--spot and --spot-or-demand exclude each other")
    if options.ssh_host and (options.provider or options.spot or options.spot_or_demand or options.move):
        raise UsageError("--ssh-host rents nothing", remedy="leave --provider, --spot and --move out")
    if options.ssh_key and not (options.ssh_host and options.ssh_key.is_file()):
        raise UsageError(f"--ssh-key {options.ssh_key}: no such file, or no --ssh-host to use it for")
    if options.host_key and not (options.ssh_host and HOST_KEY.fullmatch(options.host_key)):
        raise UsageError(
            "--host-key is SHA256:... or `ssh-ed25519 AAAA...` of --ssh-host",
            remedy="ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub on that machine prints it",
        )
    if options.ssh_key:
        from orchestrator.transport.keys import require_private

        require_private(options.ssh_key)
    host = options.ssh_host.rpartition("@")[2].partition(":")[0]
    if options.hold_s and options.ssh_host:
        raise UsageError("--hold keeps a rented machine", remedy="that of --ssh-host stays anyway: leave --hold out")
    if options.dry_run and host and not (host == "localhost" or host.startswith("127.")):
        raise UsageError(
            f"a rehearsal's hub and stores are on this computer: {host} cannot reach them",
            remedy="rehearse on localhost, or leave --dry-run out",
        )


def _check_conditions(options: RunOptions) -> None:
    """UsageError: what only a rehearsal's emulated machines have, asked of others; or no such network."""
    given = ["--network"] * bool(options.network) + ["--clock-skew"] * bool(options.clock_skew_s)
    if given and not options.dry_run:
        raise UsageError(f"{given[0]} is a rehearsal's", remedy="it needs --dry-run")
    if given and options.ssh_host:
        raise UsageError(f"{given[0]} is of emulated machines", remedy="leave --ssh-host or it out")
    if options.network:
        from orchestrator.rehearsal.network import Network

        try:
            Network.parse(options.network)
        except ValueError as error:
            raise UsageError(f"--network {error}", remedy="say RATE,DELAY: 100mbit,50ms") from error


def skew(text: str | None) -> float:
    """What --clock-skew says, in seconds; below zero where the machines' clocks are to be behind."""
    if text and text.startswith("-"):
        return -seconds("--clock-skew", text[1:])
    return seconds("--clock-skew", text)


def seconds(flag: str, text: str | None) -> float:
    """What a flag says as 90s, 30m, 1h30m or 2d, in seconds; 0: it was not given. UsageError: it is no such time."""
    from orchestrator.config.document import Scalar
    from orchestrator.config.problems import Place
    from orchestrator.config.scalars import NotA, read_duration

    if text is None:
        return 0.0
    try:
        return read_duration(Scalar(Place(flag, 1, 1), text))
    except NotA as error:
        raise UsageError(f"{flag}: {error}") from error
