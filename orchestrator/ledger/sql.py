"""The ledger's statements, as text that SQLite and PostgreSQL read alike; each shape is made once.

Parameters are named as their columns are; those that find the rows of a write begin with KEYED, for the same column may
be written as well.
"""
# ruff: noqa: S608 - the names are those of our own tables, checked here; all values are parameters

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from orchestrator.ledger.tables import Column, Table

KEYED = "key_"
ORDER = ("position", "requested_at", "created_at", "since", "id")  # rows come by the first of these that they have


@cache
def select(table: Table, where: tuple[tuple[str, bool], ...], *, ordered: bool = True) -> str:
    """The rows where these columns have a value (True: none at all), in the order of their position or birth.

    `ordered` False: the database leaves open what comes first of rows that are alike in that, and of no value.
    """
    wanted = [f"{table.column(n)} IS NULL" if none else f"{table.column(n)} = :{n}" for n, none in where]
    order = [table.column(name) for name in ORDER if name in table.names]
    if not ordered:
        order = [*(f"{name} NULLS FIRST" for name in order), *(table.column(name) for name in table.keys)]
    columns = ", ".join(table.column(c.name) for c in table.columns)
    return (
        f"SELECT {columns} FROM {table.name}"
        + (f" WHERE {' AND '.join(wanted)}" if wanted else "")
        + (f" ORDER BY {', '.join(order)}" if order else "")
    )


@cache
def select_state(table: Table, key: tuple[str, ...]) -> str:
    """The state of the row of that key."""
    return f"SELECT state FROM {table.name}{_keyed(table, key)}"


@cache
def put(table: Table, names: tuple[str, ...], given: tuple[str, ...]) -> str:
    """Insert a row with these columns; where its key is there, change those that are `given`."""
    columns, values = ", ".join(map(table.column, names)), ", ".join(f":{n}" for n in names)
    insert = f"INSERT INTO {table.name} ({columns}) VALUES ({values})"
    if table.numbered:
        return insert
    rest = ", ".join(f"{table.column(n)} = excluded.{table.column(n)}" for n in given if n not in table.keys)
    keys = ", ".join(map(table.column, table.keys))
    return f"{insert} ON CONFLICT ({keys}) DO {f'UPDATE SET {rest}' if rest else 'NOTHING'}"


@cache
def update(table: Table, key: tuple[str, ...], names: tuple[str, ...]) -> str:
    """Change these columns of the rows of that key."""
    changes = ", ".join(f"{table.column(n)} = :{n}" for n in names)
    return f"UPDATE {table.name} SET {changes}{_keyed(table, key)}"


@cache
def delete(table: Table, key: tuple[str, ...]) -> str:
    """Delete the rows of that key."""
    return f"DELETE FROM {table.name}{_keyed(table, key)}"


def create(table: Table, numbered: str, kinds: Mapping[str, str]) -> list[str]:
    """Make a table; `numbered`: the kind of a key that the database counts; `kinds`: its own words for ours."""
    each = [numbered if table.numbered and c.is_key else _kind(c, kinds) for c in table.columns]
    columns = ", ".join(f"{table.column(c.name)} {kind}" for c, kind in zip(table.columns, each, strict=True))
    keys = ", ".join(map(table.column, table.keys))
    made = [f"CREATE TABLE IF NOT EXISTS {table.name} ({columns}, PRIMARY KEY ({keys}))"]
    if at := table.indexed:
        made.append(f"CREATE INDEX IF NOT EXISTS ix_{table.name}_{at} ON {table.name} ({table.column(at)})")
    return made


def add(table: Table, column: Column, kinds: Mapping[str, str]) -> str:
    """Add a column that came later than the table, with its default."""
    default = "" if column.default is None else f" DEFAULT {column.default!r}"
    return f"ALTER TABLE {table.name} ADD COLUMN {table.column(column.name)} {kinds[column.kind]}{default}"


def relax(table: Table, columns: Sequence[str]) -> list[str]:
    """Let these columns hold nothing."""
    return [f"ALTER TABLE {table.name} ALTER COLUMN {table.column(name)} DROP NOT NULL" for name in columns]


def remake(table: Table, numbered: str, kinds: Mapping[str, str]) -> list[str]:
    """Make a table anew that has all its columns, with its rows."""
    old, names = f"{table.name}_old", ", ".join(table.column(c.name) for c in table.columns)
    return [
        f"ALTER TABLE {table.name} RENAME TO {old}",
        *create(table, numbered, kinds),
        f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {old}",
        f"DROP TABLE {old}",
    ]


def _kind(column: Column, kinds: Mapping[str, str]) -> str:
    return kinds[column.kind] if column.is_nullable else f"{kinds[column.kind]} NOT NULL"


def _keyed(table: Table, key: tuple[str, ...]) -> str:
    return f" WHERE {' AND '.join(f'{table.column(name)} = :{KEYED}{name}' for name in key)}"
