"""The JSON schema of a phase file and of the settings, for editors."""

from __future__ import annotations

from decimal import Decimal

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

from orchestrator.words.model import Phase, Settings
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
    """Return the JSON schema of a phase file (`phase`) or of the settings (`settings`)."""
    models: dict[str, type[Value]] = {"phase": Phase, "settings": Settings}
    document = models[kind].model_json_schema(mode=mode, schema_generator=_Schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **document}
