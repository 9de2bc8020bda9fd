"""Which host key a machine may show: what the user, known_hosts, its own log and the first contact say of it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

from orchestrator.ledger import Ledger
from orchestrator.ledger.rows import HostKeyRow, MachineRow
from orchestrator.words.errors import HostKeyChanged

KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts")
PREFERRED = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa")  # of several that are known


def pinned_under(row: MachineRow, *, rented: bool) -> str:
    """What a pin is known by: a rented machine's name (its address may be another's tomorrow), a host's address."""
    return row.name if rented else f"{row.host}:{row.port}"


class HostKeys:
    """The keys of one machine (implements transport.link.HostKeyStore). `expected`: of --host-key, "": not given.

    `shows`: what the machine's provider says of a fingerprint (Provider.shows_host_key).
    """

    def __init__(
        self,
        ledger: Ledger,
        row: MachineRow,
        *,
        expected: str,
        rented: bool,
        shows: Callable[[str], bool | None] = lambda _fingerprint: None,
    ) -> None:
        self._ledger, self._row, self._expected, self._shows = ledger, row, expected, shows
        self._rented, self._place = rented, pinned_under(row, rented=rented)

    def get(self, host_port: str) -> str | None:
        """The one key that is accepted; None: none is known, and `put` decides."""
        if " " in self._expected:
            return self._expected
        row = self._ledger.host_keys.maybe(address=self._place)
        if row or self._rented or self._expected:
            return row.key if row else None
        known = _known_to_ssh(host_port)
        if known:
            self._pin(known, "known_hosts has it")
        return known

    def put(self, _host_port: str, key: str) -> None:
        """Pin what is seen at first contact, which is said. HostKeyChanged: it is not what was expected."""
        if self._expected and fingerprint(key) != self._expected:
            raise HostKeyChanged(
                f"{self._place} shows the host key {fingerprint(key)}, not {self._expected}",
                remedy="nothing was sent to it: see whose machine that is",
            )
        shown = None if self._expected else self._shows(fingerprint(key))
        if shown is False:
            raise HostKeyChanged(
                f"{self._place} shows the host key {fingerprint(key)}, which its own log does not have",
                remedy="nothing was sent to it: somebody may stand between",
            )
        vouched = "its own log has it, by the account's API" if shown else "first contact, nobody vouches for it"
        self._pin(key, "as --host-key says" if self._expected else vouched)

    def _pin(self, key: str, why: str) -> None:
        said = f"{self._row.name}: host key {key.partition(' ')[0]} {fingerprint(key)} is trusted from now on: {why}"
        self._ledger.event(self._row.run, said, minor=self._rented)
        self._ledger.host_keys.put(HostKeyRow(address=self._place, key=key))


def fingerprint(key: str) -> str:
    """SHA256:... of a key in OpenSSH's form, as ssh-keygen prints it."""
    digest = hashlib.sha256(base64.b64decode(key.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _known_to_ssh(host_port: str) -> str | None:
    """The key that the user's known_hosts have for that address; None: none of them has one."""
    import paramiko

    host, _, port = host_port.rpartition(":")
    name = host if port == "22" else f"[{host}]:{port}"
    found: dict[str, str] = {}
    for place in KNOWN_HOSTS:
        keys = paramiko.HostKeys()
        try:
            keys.load(str(Path(place).expanduser()))
        except (OSError, paramiko.SSHException):
            continue
        found |= {kind: f"{kind} {key.get_base64()}" for kind, key in (keys.lookup(name) or {}).items()}
    return next((found[kind] for kind in (*PREFERRED, *sorted(found)) if kind in found), None)
