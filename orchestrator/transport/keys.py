"""The key pair that gpuplan shows to its machines: one for each GPUPLAN_HOME, never the user's own."""

from __future__ import annotations

import os
import re
from pathlib import Path

from orchestrator.words.errors import UsageError
from orchestrator.words.secret import Secret

NAME = "id_ed25519"
COMMENT = "gpuplan"


def key_file(home: Path) -> Path:
    """Where the private key lies."""
    return home / NAME


def ensure_key_pair(home: Path) -> str:
    """Make the pair if it is not there (0600) and return the public key in OpenSSH's form.

    Of two processes at once, one makes it and both get the same.
    """
    private, public = key_file(home), home / f"{NAME}.pub"
    if not private.exists():
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make(private)
    text = f"{_public_of(private.read_bytes())} {COMMENT}"
    if not public.exists():
        public.write_text(text + "\n")
    return text


def require_private(file: Path) -> None:
    """UsageError unless the file is a private key that can be used without a question."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        body = file.read_bytes()
    except OSError as error:
        raise UsageError(f"the key {file} cannot be read: {error.strerror}", remedy="name a private key") from error
    if re.match(rb"(ssh|ecdsa|sk)-|-----BEGIN [A-Z ]*PUBLIC", body.lstrip()):
        raise UsageError(f"{file} is a public key", remedy=f"name the private one: {file.with_suffix('')}")
    ssh = b"OPENSSH PRIVATE KEY" in body
    read = serialization.load_ssh_private_key if ssh else serialization.load_pem_private_key
    try:
        read(body, password=None)
    except TypeError as error:
        raise UsageError(
            f"the key {file} has a passphrase, and a run has nobody to ask for it",
            remedy="name one without (ssh-keygen -p takes it off a copy), or leave --ssh-key out: gpuplan has its own",
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{file} is no private key", remedy="name a private key in OpenSSH's or PEM's form") from error


def _make(private: Path) -> None:
    """Write a new private key under its name, unless somebody else was quicker."""
    body = _new_key()
    temporary = private.with_name(f"{NAME}.{os.getpid()}.new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(body)
    try:
        os.link(temporary, private)
    except FileExistsError:  # somebody else was quicker: theirs counts
        pass
    finally:
        temporary.unlink()


def make_host_key() -> tuple[Secret, str]:
    """A new host key for a machine that takes one: its private part, which is kept nowhere, and its public one."""
    body = _new_key()
    return Secret(body.decode()), _public_of(body)


def _new_key() -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH
    return Ed25519PrivateKey.generate().private_bytes(encoding, form, serialization.NoEncryption())


def _public_of(private: bytes) -> str:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_ssh_private_key(private, password=None)
    encoding, form = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    return key.public_key().public_bytes(encoding, form).decode()
