"""The vendors' own OpenAPI files as judges: of what is sent to the emulators, and of what these answer."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

SPECS = Path(__file__).resolve().parent.parent / "specs"
MORE_OF_A_GPU = ("minRamPerGpu", "minVcpuCountPerGpu")  # schemas of @runpod/mcp-server 4.0.0
_URN = "urn:api"
MOST_JUDGED = 10_000  # bodies whose judgement is remembered: clients poll, and are told the same


@dataclass(frozen=True)
class Match:
    """An operation of the specification: its path template, and what the path says of the template's names."""

    template: str
    params: dict[str, str]


@dataclass
class Contract:
    """One OpenAPI 3.1 document."""

    document: dict[str, Any]
    _validators: dict[str, Draft202012Validator] = field(default_factory=dict, repr=False)
    _judged: dict[tuple[str, bytes], list[str]] = field(default_factory=dict, repr=False)  # the same again and again

    def __post_init__(self) -> None:
        resource = Resource.from_contents(self.document, default_specification=DRAFT202012)
        self._registry: Registry[Any] = Registry().with_resource(_URN, resource)
        self._patterns = [(_pattern(template), template) for template in self.document["paths"]]

    @staticmethod
    @cache
    def runpod() -> Contract:
        """REST v2, as of August 2026, and what the vendor's own client has been sending since (MORE_OF_A_GPU)."""
        document = json.loads((SPECS / "runpod-rest-v2-openapi.json").read_bytes())
        gpu = document["components"]["schemas"]["CreateGpuConfig"]["allOf"][1]
        gpu["properties"] |= {name: {"type": "integer", "minimum": 1} for name in MORE_OF_A_GPU}
        return Contract(document)

    @staticmethod
    @cache
    def lambda_cloud(*, strict: bool = False) -> Contract:
        """v1.10. Its schemas nowhere speak of unknown keys: `strict` refuses them.

        Requests are held to the strict form; replies cannot be, since the file's own examples have keys that its
        schemas lack (is_reserved).
        """
        document = json.loads((SPECS / "lambda-cloud-v1.10.0-openapi.json").read_bytes())
        return Contract(closed(document) if strict else document)

    def match(self, path: str) -> Match | None:
        """The template that a path belongs to. A template without names in it goes before one with."""
        for pattern, template in sorted(self._patterns, key=lambda item: "{" in item[1]):
            if found := pattern.fullmatch(path):
                return Match(template, found.groupdict())
        return None

    def methods(self, template: str) -> list[str]:
        """What the specification allows there, in capitals."""
        known = ("get", "put", "post", "patch", "delete")
        return [method.upper() for method in known if method in self.document["paths"][template]]

    def request_errors(self, template: str, method: str, body: Any) -> list[str]:
        """What is wrong with a request's body; [] if nothing is."""
        operation = self.document["paths"][template][method.lower()]
        if "requestBody" not in operation:
            return []
        return self._errors(f"{_operation(template, method)}/requestBody/content/application~1json/schema", body)

    def reply_errors(self, template: str, method: str, status: int, body: Any) -> list[str]:
        """What is wrong with a reply's body; a status that the specification does not list is not judged."""
        responses = self.document["paths"][template][method.lower()]["responses"]
        code = str(status) if str(status) in responses else "default"
        if code not in responses:
            return []
        pointer, response = f"{_operation(template, method)}/responses/{code}", responses[code]
        if "$ref" in response:
            pointer, response = response["$ref"], self._resolve(response["$ref"])
        if "content" not in response:
            return [] if body is None else [f"$: a {status} has no body"]
        media = next(iter(response["content"]))
        return self._errors(f"{pointer}/content/{_escape(media)}/schema", body)

    def example(self, template: str, method: str, status: int | None = None) -> Any:
        """The specification's own example of a request (status None) or of a reply."""
        operation = self.document["paths"][template][method.lower()]
        holder = operation["requestBody"] if status is None else operation["responses"][str(status)]
        content = holder["content"]["application/json"]
        if "examples" in content:
            return copy.deepcopy(next(iter(content["examples"].values()))["value"])
        return None

    def _errors(self, pointer: str, body: Any) -> list[str]:
        digest = hashlib.blake2b(json.dumps(body).encode()).digest()
        if (pointer, digest) not in self._judged:
            if len(self._judged) >= MOST_JUDGED:
                self._judged.clear()
            self._judged[pointer, digest] = self._judge(pointer, body)
        return self._judged[pointer, digest]

    def _judge(self, pointer: str, body: Any) -> list[str]:
        validator = self._validators.get(pointer)
        if validator is None:
            schema = {"$ref": f"{_URN}{pointer}"}
            validator = self._validators[pointer] = Draft202012Validator(schema, registry=self._registry)
        return [text for error in validator.iter_errors(body) if (text := self._text(error))]

    def _text(self, error: ValidationError) -> str:
        if error.validator not in {"unevaluatedProperties", "additionalProperties"}:
            return f"{error.json_path}: {error.message}"
        # A schema that fails elsewhere leaves known keys unevaluated too: only strangers are named.
        strangers = sorted(set(error.instance) - self._known(error.schema))
        names = ", ".join(f"'{name}'" for name in strangers)
        return f"{error.json_path}: additional properties {names} not allowed" if strangers else ""

    def _known(self, schema: Any) -> set[str]:
        if not isinstance(schema, dict):
            return set()
        if "$ref" in schema:
            return self._known(self._resolve(schema["$ref"]))
        known = set(schema.get("properties", {}))
        for part in schema.get("allOf", []):
            known |= self._known(part)
        return known

    def _resolve(self, reference: str) -> Any:
        node: Any = self.document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part.replace("~1", "/").replace("~0", "~")]
        return node


def closed(document: dict[str, Any]) -> dict[str, Any]:
    """A copy whose object schemas refuse unknown keys, but for those that say what else may be there."""
    result = copy.deepcopy(document)
    _close(result, inside_all_of=False)
    return result


def _close(node: Any, *, inside_all_of: bool) -> None:
    if isinstance(node, list):
        for item in node:
            _close(item, inside_all_of=inside_all_of)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if key not in {"example", "examples"}:
            _close(value, inside_all_of=key == "allOf")
    speaks = "unevaluatedProperties" in node or "additionalProperties" in node
    if isinstance(node.get("properties"), dict) and not speaks and not inside_all_of:
        node["unevaluatedProperties"] = False


def _operation(template: str, method: str) -> str:
    return f"#/paths/{_escape(template)}/{method.lower()}"


def _escape(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1").replace("{", "%7B").replace("}", "%7D")


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(template)))
