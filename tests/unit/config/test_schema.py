"""The JSON schemas accept what gpuplan accepts."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from orchestrator.config import schema
from orchestrator.words import files


class Core(yaml.SafeLoader):
    """YAML as an editor reads it: 1.2, where `on` is a text."""


Core.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@pytest.mark.parametrize("name", ["day1", "day2-3", "day4-5", "day6-7", "../configs/example"])
def test_shipped_phases_fit_the_schema(name: str):
    """Every shipped phase file is valid for an editor too."""
    document = yaml.load((files.phases() / f"{name}.yaml").read_text(), Core)
    jsonschema.Draft202012Validator(schema()).validate(document)


def test_shipped_settings_fit_the_schema():
    """configs/default.yaml is valid for an editor too."""
    document = yaml.load((files.configs() / "default.yaml").read_text(), Core)
    jsonschema.Draft202012Validator(schema("settings")).validate(document)


def test_each_shipped_file_leads_an_editor_to_its_schema():
    """By its first line, as `gpuplan init` writes it; and the file fits the schema that lies there."""
    shipped = [files.shipped() / "gpuplan.yaml", files.configs() / "default.yaml", files.configs() / "example.yaml"]
    for file in [*shipped, *files.phases().glob("*.yaml")]:
        text = file.read_text()
        first, _, path = text.partition("\n")[0].partition("$schema=")
        assert first == "# yaml-language-server: ", file
        found = json.loads(Path(file.parent, path).read_text())
        assert found == schema("settings" if "settings" in path else "phase")
        jsonschema.Draft202012Validator(found).validate(yaml.load(text, Core))


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a"},
        {"name": "a", "steps": [], "tiemout": "3h"},
        {"name": "a", "steps": [], "timeout": "long"},
        {"name": "a", "steps": [], "timeout": 0},
        {"name": "a", "steps": [], "machine": {"count": 65}},
        {"name": "a", "steps": [], "budget_usd": "5"},
    ],
)
def test_wrong_documents_do_not(wrong: dict[str, object]):
    """What gpuplan refuses by type the schema refuses too."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema()).validate(wrong)
