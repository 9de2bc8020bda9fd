"""The kernels' tile sizes: a table for each kind of card, which `make gpu TUNE=1` finds."""

import json
from pathlib import Path
from typing import TypeAlias

Tile: TypeAlias = dict[str, int]

PATH = Path(__file__).resolve().parents[1] / "kernels" / "cuda" / "tiles.json"


def tiles_for(capability: int) -> dict[str, Tile]:
    """Return the table of this compute capability (90 for 9.0), or of the nearest below it."""
    tables = {int(name): table for name, table in json.loads(PATH.read_text(encoding="ascii")).items()}
    return dict(tables[max((known for known in tables if known <= capability), default=min(tables))])
