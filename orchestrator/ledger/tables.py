"""Our own tables, beside those of the durable engine, in the same database. Times are Unix seconds, money is text."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `default`: what a row that does not name it is written with; None: nothing at all."""

    name: str
    kind: str  # TEXT, INTEGER, FLOAT
    default: object = None
    is_key: bool = False
    is_nullable: bool = False


@dataclass(frozen=True, eq=False)
class Table:
    """One table. `numbered`: the database counts its key; `indexed`: a column that rows are found by."""

    name: str
    columns: tuple[Column, ...]
    numbered: bool = False
    indexed: str = ""

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The columns that make a row the same one."""
        return tuple(c.name for c in self.columns if c.is_key)

    @cached_property
    def names(self) -> frozenset[str]:
        """Its columns."""
        return frozenset(c.name for c in self.columns)

    def column(self, name: str) -> str:
        """A column as a statement writes it, for some are words of SQL. KeyError: there is none."""
        if name not in self.names:
            raise KeyError(f"{self.name} has no column {name}")
        return f'"{name}"'


TABLES: list[Table] = []


def _table(name: str, *columns: Column, numbered: bool = False, indexed: str = "") -> Table:
    made = Table(f"gpuplan_{name}", columns, numbered, indexed)
    TABLES.append(made)
    return made


def _key(name: str, kind: str = "TEXT") -> Column:
    return Column(name, kind, is_key=True)


def _text(name: str, default: str | None = "") -> Column:
    return Column(name, "TEXT", default, is_nullable=default is None)


def _int(name: str, default: int = 0) -> Column:
    return Column(name, "INTEGER", default)


def _float(name: str) -> Column:
    return Column(name, "FLOAT", is_nullable=True)


_time = _float


runs = _table(
    "runs",
    _key("id"),
    _text("state"),
    _text("outcome", None),
    _int("dry_run"),
    _text("error"),
    _int("pid"),
    _text("stop"),  # why somebody asked it to stop; "" nobody did
    _text("version"),  # of the order of recorded effects: another version cannot take the run up
    _int("settled"),
    _text("tags"),  # words of whoever began it, separated by commas
    _text("plan"),
    _time("created_at"),
    _time("ended_at"),
)

phases = _table(
    "phases",
    _key("run"),
    _key("name"),
    _int("position"),
    _text("state"),
    _text("outcome", None),
    _text("error"),
    _time("started_at"),
    _time("ended_at"),
)

steps = _table(
    "steps",
    _key("run"),
    _key("phase"),
    _key("id"),
    _int("position"),
    _text("state"),
    _int("attempt"),
    _int("tries"),
    _text("machines"),  # names, separated by commas
    _text("detail"),
    _int("offset"),  # nobody reads it; ledgers of older versions have it, and take no row without it
    _time("started_at"),
    _time("ended_at"),
)

deliverables = _table(
    "deliverables",
    _key("run"),
    _key("phase"),
    _key("name"),
    _int("position"),
    Column("ok", "INTEGER", is_nullable=True),  # 1 it holds, 0 it does not, NULL it cannot be shown there
    _text("detail"),
)

machines = _table(
    "machines",
    _key("name"),
    _text("run"),
    _text("phase"),
    _text("request"),  # which create of the phase it is: the same one after a crash
    _int("node"),
    _text("provider"),
    _text("provider_id"),  # "" until the create is known to have worked
    _text("type_id"),
    _text("gpu"),
    _int("gpus"),
    _text("place"),
    _int("spot"),
    _text("price_hour", "0"),
    _text("disk_hour", "0"),  # of price_hour: for the machine's own disk
    _text("state"),
    _text("reason"),  # why it ended
    _text("failed"),  # why it never served
    _text("host"),
    _int("port"),
    _text("user"),
    _text("private_ip"),
    _text("measured_on"),  # nobody reads it; ledgers of older versions have it, and take no row without it
    _time("requested_at"),
    _time("sent_at"),  # when the create was sent: from then on it may exist
    _time("accepted_at"),
    _time("reachable_at"),
    _time("gone_at"),
    _time("deadline"),
    Column("billed_usd", "TEXT", is_nullable=True),
)

# Which phase pays for a machine, and from when to when: a machine that is taken over is paid by the next phase.
charges = _table("charges", _key("machine"), _key("run"), _key("phase"), _time("since"), _time("until"))

volumes = _table(
    "volumes",
    _key("name"),
    _text("run"),
    _text("label"),  # the plan's name for it
    _text("provider"),
    _text("provider_id"),
    _text("place"),
    _int("size_gb"),
    _text("price_hour", "0"),
    _text("state"),
    _text("cloud"),  # "" the real one; else the folder of a rehearsed one
    _time("requested_at"),
    _time("sent_at"),
    _time("accepted_at"),
    _time("gone_at"),
    _time("deadline"),
)

volume_uses = _table("volume_uses", _key("volume"), _key("run"))  # an earlier run's volume costs its later users

claims = _table("claims", _key("world"), _key("label"), _text("run"))  # which run may make and use a volume

artifacts = _table(
    "artifacts",
    _key("run"),
    _key("store"),
    _key("name"),
    _text("state"),  # UPLOADING, VERIFIED
    _int("bytes"),
    _text("sha256"),
    _time("at"),
)

# The ledger's copy of the done-records on volumes: what the preview shows "as last seen".
records = _table("records", _key("volume"), _key("step"), _text("key"), _time("at"))

# Ledgers of version 0.1.0 have a table gpuplan_metrics instead. What it says of where figures were measured is what the
# controller knew of the machine: it is read no more.
figures = _table(
    "figures", _key("run"), _key("step"), _key("node", "INTEGER"), _key("name"), _float("value"), _text("measured_on"),
    _text("device"), _time("at"),
)  # fmt: skip

# What the GPUs of a step did over its time: `points` is JSON, see transport.job_replies.Course.
courses = _table(
    "courses", _key("run"), _key("step"), _key("node", "INTEGER"), _text("machine"), _float("since"), _float("every_s"),
    _text("points"),
)  # fmt: skip

host_keys = _table("host_keys", _key("address"), _text("key"))

events = _table(
    "events", _key("id", "INTEGER"), _text("run"), _float("at"), _text("text"),
    _int("minor"),
    numbered=True, indexed="run",
)  # fmt: skip

# How far files are on their way: to a store, home from one, or the plan's code to a machine.
transfers = _table(
    "transfers", _key("run"), _key("phase"), _key("kind"), _key("place"), _int("files"), _int("files_done"),
    _int("bytes"), _int("bytes_done"), _int("moved"), _time("since"), _time("at"), _time("ended_at"),
)  # fmt: skip

# Where several computers share the database: what of a run's folder another one needs that goes on with it.
files = Table("gpuplan_files", (_key("run"), _key("name"), Column("content", "BLOB"), _float("at")))
SHARED: list[Table] = [*TABLES, files]


def version_of(made: Sequence[Table]) -> int:
    """A number of these tables and their columns: the database keeps it."""
    columns = "\n".join(sorted(f"{t.name}.{c.name} {c.kind} {c.is_nullable}" for t in made for c in t.columns))
    return zlib.crc32(columns.encode()) & 0x7FFFFFFF
