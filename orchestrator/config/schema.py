"""The JSON schema of a phase file and of the settings, for editors."""

from __future__ import annotations

from decimal import Decimal

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

from orchestrator.config.meanings import MEANINGS
from orchestrator.words.model import GPU_MEMORY_GB, Phase, Settings
from orchestrator.words.value import Value


class _Schema(GenerateJsonSchema):
    """Money and sizes are written as numbers in YAML, whatever JSON needs to carry them exactly."""

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        numeric: JsonSchemaValue = {"type": "number"}
        bounds = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
        for bound, keyword in bounds.items():
            value = schema.get(bound)
            if isinstance(value, Decimal | int):
                numeric[keyword] = int(value) if value == int(value) else float(value)
        return numeric

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        found = super().dict_schema(schema)
        if found.get("additionalProperties") == {"type": "string"}:  # {THREADS: 8} is the text 8
            found["additionalProperties"] = {"type": ["string", "number", "boolean"]}
        elif found.get("additionalProperties") == {"type": "array", "items": {"type": "string"}}:  # a matrix's values
            found["additionalProperties"] = {"type": "array", "items": {"type": ["string", "number", "boolean"]}}
        return found


def schema(kind: str = "phase", mode: JsonSchemaMode = "validation") -> JsonSchemaValue:
    """Return the JSON schema of phase files (`phase`) or of the settings (`settings`); each key says what it is for."""
    models: dict[str, type[Value]] = {"phase": Phase, "settings": Settings}
    document = models[kind].model_json_schema(mode=mode, schema_generator=_Schema)
    for name, table in tables(kind, document).items():
        for key, about in table["properties"].items():
            meaning, default = MEANINGS[name][key], default_of(about)
            about["description"] = f"{meaning} Default: {default}." if default else meaning
            if (name, key) == ("MachineNeed", "gpu"):
                about["items"]["enum"] = list(GPU_MEMORY_GB)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **document}


def tables(kind: str, document: JsonSchemaValue) -> dict[str, JsonSchemaValue]:
    """Each table of keys in a schema by its model's name, the document's own first."""
    inner = {name: one for name, one in document.get("$defs", {}).items() if "properties" in one}
    return {kind.capitalize(): document, **inner}


def default_of(about: JsonSchemaValue) -> str:
    """A key's default as a file would say it; "": it has none, or none that is a value."""
    default = about.get("default")
    if default is None or default in ("", ".", [], {}) or isinstance(default, dict):
        return ""
    if isinstance(default, list) and default == about["items"].get("enum"):
        return "all"
    if isinstance(default, list):
        return f"[{', '.join(map(str, default))}]"
    if isinstance(default, bool):
        return str(default).lower()
    if is_duration(about):
        for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
            if default % size == 0 and default > size:
                return f"{default / size:g}{unit}"
        return f"{default:g}s"
    return f"{float(default):g}" if isinstance(default, int | float) else str(default)


def is_duration(about: JsonSchemaValue) -> bool:
    """Whether a key takes a text such as 30m, or seconds."""
    return any("pattern" in one or is_duration(one) for one in about.get("anyOf", ()))
