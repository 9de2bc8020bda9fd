"""Write docs/reference.md, every key of phase files and settings, and the schemas that editors read of shipped files.

python tools/reference.py            writes the page and configs/*.schema.json
python tools/reference.py --check    exit code 1: one of them is not what the schema says
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from orchestrator.config import schema
from orchestrator.config.meanings import MEANINGS
from orchestrator.config.schema import default_of, is_duration, tables
from orchestrator.words import files
from orchestrator.words.model import GPU_MEMORY_GB

PROJECT = Path(__file__).resolve().parent.parent
PAGE = "docs/reference.md"
KINDS = ("phase", "settings")
Schema = dict[str, Any]

HEAD = """\
# Every key

Of phase files (`phases/*.yaml`) and of settings (`gpuplan.yaml`).
`tools/reference.py` makes this page from the JSON schema, which `gpuplan schema` prints and an editor reads.
How values are written, and what is between the keys: [plans](phase-files.md).
[`configs/example.yaml`](../configs/example.yaml) is one phase file with every key in it.
What is "as shipped" is in [`configs/default.yaml`](../configs/default.yaml).

"""
# Model -> heading, and what of phase-files.md says more.
PARTS = {
    "Phase": ("## Phase", ""),
    "MachineNeed": ("### `machine`", "machines-while-they-are-needed"),
    "VolumeNeed": ("### `volume`", "volume"),
    "Planned": ("### `planned`", ""),
    "Input": ("### `inputs`", "inputs"),
    "Step": ("## Step", "step"),
    "Ready": ("### `ready`: services", "ready-services"),
    "HubCheckout": ("### `hub`: a checked download", "hub-a-checked-download"),
    "Deliverable": ("## Deliverable", "deliverable"),
    "Settings": ("## Settings", "settings"),
    "Rates": ("### `rates`", ""),
    "Defaults": ("### `defaults`", "defaults"),
    "Publish": ("### `publish`", "publishing.md"),
    "PublishedFile": ("### `files`", ""),
    "PublishedModel": ("### `models`", ""),
}
LINKS = {
    "MachineNeed": "machine", "VolumeNeed": "volume", "Planned": "planned", "Ready": "ready-services",
    "HubCheckout": "hub-a-checked-download", "Rates": "rates", "Input": "inputs", "Defaults": "defaults",
    "Step": "step", "Deliverable": "deliverable", "Publish": "publish", "PublishedFile": "files",
    "PublishedModel": "models",
}  # fmt: skip


def page() -> str:
    """The whole page."""
    documents = {kind: schema(kind) for kind in KINDS}
    found = {
        name: (table, document)
        for kind, document in documents.items()
        for name, table in tables(kind, document).items()
    }
    assert found.keys() == PARTS.keys(), f"no place on the page: {found.keys() ^ PARTS.keys()}"
    parts = [_part(name, *found[name]) for name in PARTS]
    names = ", ".join(f"`{name}`" for name in GPU_MEMORY_GB)
    parts.insert(2, f"GPU names: {names}.\n")
    return HEAD + "\n".join(parts)


def _part(name: str, table: Schema, document: Schema) -> str:
    heading, more = PARTS[name]
    shipped = yaml.safe_load((files.configs() / "default.yaml").read_text()) if name == "Settings" else {}
    rows = [_row(name, key, about, table, document, shipped) for key, about in table["properties"].items()]
    page_name, target = ("publishing", more) if more.endswith(".md") else ("plans", f"phase-files.md#{more}")
    link = f"\nMore: [{page_name}]({target}).\n" if more else ""
    return f"{heading}\n{link}\n| key | value | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _row(name: str, key: str, about: Schema, table: Schema, document: Schema, shipped: Schema) -> str:
    default = "required" if key in table.get("required", ()) else default_of(about) or "-"
    if key in shipped and default != "required":
        default = (
            "as shipped" if isinstance(shipped[key], dict) else default_of({**about, "default": shipped[key]}) or "-"
        )
    code = default if default in ("required", "as shipped", "all", "-") else f"`{default}`"
    return f"| `{key}` | {kind_of(about, document)} | {code} | {MEANINGS[name][key].replace('|', chr(92) + '|')} |"


def kind_of(about: Schema, document: Schema) -> str:
    """What a key takes, in words."""
    if "$ref" in about:
        name = about["$ref"].rpartition("/")[2]
        return f"[table](#{LINKS[name]})" if name in LINKS else kind_of(document["$defs"][name], document)
    if is_duration(about):
        return "duration"
    if "anyOf" in about:
        kinds = [kind_of(one, document) for one in about["anyOf"] if one.get("type") != "null"]
        return " or ".join(kinds)
    if "enum" in about or "const" in about:
        return ", ".join(f"`{value}`" for value in about.get("enum", [about.get("const")]))
    if about["type"] == "array":
        return _list_of(about["items"], document)
    if about["type"] == "object":
        values = about["additionalProperties"]
        if "enum" in values or "const" in values:
            return f"names: {kind_of(values, document)}"
        return "names: lists of values" if values.get("type") == "array" else "names: texts"
    return {"string": "text", "boolean": "`true`, `false`", "integer": "whole number", "number": "number"}[
        about["type"]
    ] + _range(about)


def _list_of(items: Schema, document: Schema) -> str:
    if "$ref" in items:
        return f"list of [tables](#{LINKS[items['$ref'].rpartition('/')[2]]})"
    if items.get("enum") == list(GPU_MEMORY_GB):
        return "list of GPU names"
    return f"list of {kind_of(items, document)}" if "enum" in items else "list of texts"


def _range(about: Schema) -> str:
    """The bounds of a number, as far as people meet them."""
    low, high = about.get("minimum"), about.get("maximum")
    above = about.get("exclusiveMinimum")
    most = f" to {high:,}" if high is not None and high < 10**9 else " or more" if low is not None else ""
    return f", {low:,}{most}" if low is not None else f", above {above:,}" if above is not None else ""


def written() -> dict[str, str]:
    """What this tool writes: file of the project -> text."""
    schemas = {f"configs/{kind}.schema.json": f"{json.dumps(schema(kind), indent=1)}\n" for kind in KINDS}
    return {PAGE: page(), **schemas}


def main() -> int:
    """Write the files, or say whether they are the schema's."""
    now = written()
    if "--check" in sys.argv[1:]:
        stale = [name for name, text in now.items() if _text(PROJECT / name) != text]
        for name in stale:
            print(f"{name} is not what the schema says: python tools/reference.py writes it")
        return int(bool(stale))
    for name, text in now.items():
        (PROJECT / name).write_text(text)
    print(json.dumps({"written": list(now), "keys": now[PAGE].count("\n| `")}))
    return 0


def _text(file: Path) -> str:
    return file.read_text() if file.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
