"""Measure one large file on its ways beside boto3, Google's client and rsync; write docs/benchmarks.md.

Sent: by a machine's agent to an emulated store, beside the vendor's client. Fetched: from that store, and from the
machine over SSH beside rsync through the same server. The ways take turns, and the ratio is the median of the rounds'.

usage: python bench/transfers.py [--megabytes N] [--rounds N] [--only WORDS] [--print]
"""
# ruff: noqa: T201 - a script whose output is its interface

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import boto3
from botocore.client import BaseClient
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from runtime import write_section
from runtime_load import QUIET, busy_seconds

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orchestrator.engine import artifacts
from orchestrator.engine.artifacts import Home
from orchestrator.engine.context import Context
from orchestrator.engine.effects import ManifestFile
from orchestrator.engine.fetching import fetch_all
from orchestrator.engine.uploads import Uploads
from orchestrator.rehearsal.s3_gate import BUCKET, REGION, S3
from orchestrator.storage import StoreAccess, open_store
from orchestrator.transport.agent import Agent
from orchestrator.transport.ssh import SshTransport
from orchestrator.words.secret import Secret
from orchestrator.words.store import ArtifactStore
from tests.rehearsal.stores.gcs_served import GcsServed
from tests.transport.sshd import Known, Sshd, private_sshd
from tests.unit.engine.stepbench import MACHINE, PHASE, Bench, always

NAME = "big.m"
LIMIT, HELD_TO = 0.9, {"boto3", "rsync"}  # of the other's speed; Google's store is told the MD5 of the whole before
# glibc asks the kernel anew for each large body, a page at a time: the larger a part, the slower the emulated store.
KEEPING = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
QUIET_SSH = [
    "-F",
    "none",
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "LogLevel=ERROR",
]


@dataclass
class Race:
    """One way of ours beside another's: seconds of each round."""

    what: str
    other: str
    ours: Callable[[int], None]
    theirs: Callable[[int], None]
    after: Callable[[], None] = lambda: None  # clears what a way has left, unmeasured
    own: list[float] = field(default_factory=list)
    its: list[float] = field(default_factory=list)

    def run(self, number: int, clock: "Clock") -> None:
        """One round; who begins changes with it."""
        pairs = [(self.ours, self.own), (self.theirs, self.its)]
        for way, seconds in pairs if number % 2 else reversed(pairs):
            seconds.append(clock.take(partial(way, number)))
            self.after()

    @property
    def ratios(self) -> list[float]:
        """How fast ours is beside the other, in each round."""
        return [its / own for own, its in zip(self.own, self.its, strict=True)]

    @property
    def ratio(self) -> float:
        """Their median."""
        return statistics.median(self.ratios)


class Clock:
    """Seconds of the wall, without those in which an emulated store joins parts: that is its own work, for both."""

    def __init__(self) -> None:
        self._joining = 0.0
        whole = BaseClient._make_api_call  # noqa: SLF001 - the one place that all calls of boto3 come through

        def told(client: Any, operation: str, asked: Any) -> Any:
            began = time.perf_counter()
            try:
                return whole(client, operation, asked)
            finally:
                if operation == "CompleteMultipartUpload":
                    self._joining += time.perf_counter() - began

        BaseClient._make_api_call = told  # noqa: SLF001

    def take(self, work: Callable[[], None]) -> float:
        """Do it."""
        joining, began = self._joining, time.perf_counter()
        work()
        return time.perf_counter() - began - (self._joining - joining)


@contextmanager
def stores() -> Iterator[dict[str, str]]:
    """The emulated stores, in a process of their own: where they are and what opens them."""
    with subprocess.Popen(
        [sys.executable, __file__, "--serve"], env={**os.environ, **KEEPING}, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stdin
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()


def serve() -> None:
    """Be that process, until standard input ends."""
    with tempfile.TemporaryDirectory(prefix="gpuplan-bench-") as folder, GcsServed(Path(folder)) as gcs:
        s3 = S3()
        s3.gate.warm()
        s3.start()
        where = {"s3": s3.endpoint, "gcs": gcs.endpoint, "key": s3.access_key, "secret": s3.secret_key}
        print(json.dumps(where), flush=True)
        sys.stdin.read()
        s3.stop()


class Ways:
    """A file on a machine, and all the ways that it goes."""

    def __init__(self, server: Sshd, room: Path, megabytes: int, where: dict[str, str]) -> None:
        self._server, self._room = server, room
        self._file = server.workspace / NAME
        with self._file.open("wb") as out:
            for _ in range(megabytes):
                out.write(os.urandom(1 << 20))
        self._agent = Agent(SshTransport(server.address, server.key_file, Known()), workspace=str(server.workspace))
        self._agent.install()
        self._agent.hello()
        self._context: Context = Bench(room / "books").context
        self._context.agents = always(self._agent)
        (self._listed,) = artifacts.manifest(self._agent, str(server.workspace), (NAME,))
        self._s3 = boto3.client(
            "s3", endpoint_url=where["s3"], aws_access_key_id=where["key"], aws_secret_access_key=where["secret"],
            region_name=REGION,
        )  # fmt: skip
        access = StoreAccess(where["s3"], where["key"], Secret(where["secret"]), region=REGION)
        self._our_s3 = open_store(f"s3://{BUCKET}/ours", access)
        google = storage.Client("p", AnonymousCredentials(), client_options={"api_endpoint": where["gcs"]})
        self._gcs = google.bucket(BUCKET)
        self._our_gcs = open_store(f"gs://{BUCKET}/ours", StoreAccess(where["gcs"], project="p"))

    def races(self) -> list[Race]:
        """What is measured."""
        return [
            Race("upload to S3", "boto3", partial(self._send, self._our_s3), self._boto_sends, self._clear),
            Race(
                "upload to GCS", "Google's client", partial(self._send, self._our_gcs), self._google_sends, self._clear
            ),
            Race("pull from S3", "boto3", partial(self._fetch, self._our_s3), self._boto_fetches, self._clear_home),
            Race("pull from the machine", "rsync", self._pull, self._rsync, self._clear_home),
        ]

    def lay(self) -> None:
        """The file as a pull from the store finds it; the stores have had one before, and the memory for it."""
        for store in (self._our_s3, self._our_gcs):
            self._send(store, -1)
            self._clear()
        self._s3.upload_file(str(self._file), BUCKET, f"ours/{NAME}")

    def _send(self, store: ArtifactStore, number: int) -> None:
        file = ManifestFile(f"{number}-{NAME}", self._listed.bytes, self._listed.sha256)
        uploads = Uploads(self._context)
        (self._server.workspace / file.name).hardlink_to(self._file)
        transfer = uploads.transfer(PHASE, store, [file], is_all=True)
        if uploads.send(store, self._agent, str(self._server.workspace), file, transfer) != "sent":
            raise SystemExit("it was there already")

    def _boto_sends(self, number: int) -> None:
        self._s3.upload_file(str(self._file), BUCKET, f"theirs/{number}")

    def _google_sends(self, number: int) -> None:
        self._gcs.blob(f"theirs/{number}").upload_from_filename(str(self._file))

    def _fetch(self, store: ArtifactStore, _number: int) -> None:
        fetch_all(store, [self._listed], Home(self._home, self._room), self._context.clock)

    def _boto_fetches(self, _number: int) -> None:
        self._home.mkdir()
        self._s3.download_file(BUCKET, f"ours/{NAME}", str(self._home / NAME))

    def _pull(self, _number: int) -> None:
        artifacts.pull(self._context, MACHINE, str(self._server.workspace), self._listed, self._home)

    def _rsync(self, _number: int) -> None:
        self._home.mkdir()
        address = self._server.address
        shell = " ".join(["ssh", "-i", str(self._server.key_file), "-p", str(address.port), *QUIET_SSH])
        words = ["rsync", "-e", shell, f"{address.user}@{address.host}:{self._file}", str(self._home)]
        subprocess.run(words, check=True)

    @property
    def _home(self) -> Path:
        return self._room / "home"

    def _clear(self) -> None:
        """Of the stores."""
        for row in self._s3.list_objects_v2(Bucket=BUCKET).get("Contents", []):
            if row["Key"] != f"ours/{NAME}":
                self._s3.delete_object(Bucket=BUCKET, Key=row["Key"])
        for blob in self._gcs.list_blobs():
            blob.delete()
        for link in self._server.workspace.glob(f"*-{NAME}"):
            link.unlink()

    def _clear_home(self) -> None:
        for file in self._home.iterdir():
            file.unlink()
        self._home.rmdir()


def section(races: list[Race], megabytes: int, load: float) -> str:
    """The page's section."""
    about = (
        f"`bench/transfers.py`: one random file of {megabytes:,} MiB on loopback, on {os.cpu_count()} cores of "
        f"{platform.machine()}; Python {platform.python_version()}, boto3 {version('boto3')}. Medians of "
        f"{len(races[0].own)} rounds in which the ways take turns; the speed beside the other is the rounds' median, "
        "and in brackets the least and the most of them."
    )
    what = (
        "An upload is what the agent on a machine behind OpenSSH sends, checksums of the parts included, "
        "without the time in which the emulated store joins them, for both; the store keeps its memory from one round "
        "to the next. A pull ends with the file verified and on the disk."
    )
    if load > QUIET:
        what += f" Other work took {load:.1f} of the processors before: the seconds say nothing, and ratios scatter."
    lines = ["## Transfers", "", about, "", what, "", "| way | seconds | the other | its seconds | speed beside it |"]
    lines.append("|---|---|---|---|---|")
    for race in races:
        own, its = statistics.median(race.own), statistics.median(race.its)
        speed = f"**{race.ratio:.2f}x** ({min(race.ratios):.2f} to {max(race.ratios):.2f})"
        lines.append(f"| {race.what} | {own:.2f} | {race.other} | {its:.2f} | {speed} |")
    return "\n".join(lines)


def measure(megabytes: int, rounds: int, only: str) -> tuple[list[Race], float]:
    """Run all races; the load that was not ours cannot be told apart here: what there was before."""
    busy, began = busy_seconds(), time.perf_counter()
    time.sleep(2)
    load = (busy_seconds() - busy) / (time.perf_counter() - began)
    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="gpuplan-bench-") as folder, stores() as where:
        room = Path(folder)
        with private_sshd(room) as server:
            ways = Ways(server, room, megabytes, where)
            races = [race for race in ways.races() if only in race.what]
            ways.lay()
            for number in range(rounds):
                for race in races:
                    race.run(number, clock)
                    print(f"{race.what}: {race.own[-1]:.2f} s; {race.other}: {race.its[-1]:.2f} s", flush=True)
    return races, load


def main() -> None:
    """Measure and write; end with 1 where a way is slower than it may be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="races of these words alone, which are not written down")
    parser.add_argument("--print", action="store_true", help="do not write docs/benchmarks.md")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve()
        return
    races, load = measure(args.megabytes, args.rounds, args.only)
    page = section(races, args.megabytes, load)
    print(page)
    if not args.print and not args.only:
        write_section("transfers", page)
    sys.exit(any(race.ratio < LIMIT for race in races if race.other in HELD_TO))


if __name__ == "__main__":
    main()
