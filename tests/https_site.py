"""A site behind https on loopback, with a certificate that it signed itself, for what is fetched by https."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certificate(folder: Path) -> Path:
    """A key, and a certificate for this computer that it signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a stranger")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
        .not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    private = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / "stranger.pem"
    pem = serialization.Encoding.PEM
    file.write_bytes(key.private_bytes(pem, *private) + made.public_bytes(pem))
    return file


@dataclass
class File:
    """What lies at a path, and how its server treats it. `moved`: where to, instead of any content."""

    content: bytes = b""
    etag: str = '"one"'
    heads: bool = True  # False: HEAD is refused
    ranges: bool = True  # False: all of it comes, whatever is asked for
    sized: bool = True  # False: nobody says how large it is
    moved: str = ""
    status: int = 200


class Site(ThreadingHTTPServer):
    """`asked` has each request: its method, path and range."""

    daemon_threads = True

    def __init__(self, authority: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.files: dict[str, File] = {}
        self.asked: list[tuple[str, str, str]] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority)
        self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not believe the certificate is the test's matter."""


class _Answers(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        said = self.headers.get("Range", "")
        self.server.asked.append((self.command, self.path, said))
        file = self.server.files.get(self.path.partition("?")[0], File(status=404))
        if file.moved or file.status != 200:
            self.send_response(302 if file.moved else file.status)
            self.send_header("Location", file.moved)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.command == "HEAD" and not file.heads:
            self.send_error(405)
            return
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", said) if file.ranges else None
        body = file.content[int(asked[1]) : int(asked[2]) + 1] if asked else file.content
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {asked[1]}-{asked[2]}/{len(file.content)}")
        elif file.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if file.sized:
            self.send_header("Content-Length", str(len(body)))
        if file.etag:
            self.send_header("ETag", file.etag)
        self.end_headers()
        if self.command == "GET":
            with contextlib.suppress(OSError):
                self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815  the library's names

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def site(authority: Path) -> Iterator[Site]:
    """A site that is up, behind the certificate in that file."""
    made = Site(authority)
    thread = Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join(10)
