"""The rotary settings of a configuration, in the old form (top level, rope_scaling) and the new (rope_parameters)."""

from dataclasses import dataclass
from typing import Any

from dllama_glm.checkpoint.fields import Fields, whole

_TABLES = ("rope_parameters", "rope_scaling")
_SCALING = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
_KNOWN = {"rope_theta", "partial_rotary_factor", "rope_type", "type", *_SCALING}
_CLASS_THETA = 10000  # `default_theta` of every configuration class here (transformers 5.24), and what 4.x had


@dataclass(frozen=True)
class Rope:
    """`scaling` is (factor, low, high, original length) of Llama 3, or None; `share` None means the whole head."""

    theta: float
    share: float | None
    scaling: tuple[int, int, int, int] | None


def read_rope(fields: Fields, theta_option: float | None = None) -> Rope:
    """Gather what is said in either place; the places must agree.

    Theta must be said in one of them, or by the user (`theta_option`), who may not contradict them.
    """
    tables = {name: fields.raw[name] for name in _TABLES if fields.has(name)}
    for name, table in list(tables.items()):
        if not isinstance(table, dict):
            fields.problem(f"{name} is {table!r}, not an object")
            del tables[name]
        elif unknown := sorted(set(table) - _KNOWN):
            fields.problem(f"{name} has the unknown key {unknown[0]!r}: what it changes is not known")
    theta = _agreed(fields, tables, "rope_theta", top=True)
    if theta is None and theta_option is None:
        kind, default = fields.raw["model_type"], _CLASS_THETA
        fields.problem(
            "rope_theta is missing: neither at the top nor in rope_parameters (no default is assumed; transformers "
            f"takes {default} for a {kind} without it: where that was meant, as for Llama 2: --rope-theta {default})"
        )
    elif theta is None:
        theta = theta_option
    elif theta_option is not None and theta_option != theta:
        fields.problem(f"rope_theta is {theta!r}, but --rope-theta says {theta_option:g}: leave the option out")
    share = _agreed(fields, tables, "partial_rotary_factor", top=True)
    return Rope(
        theta=1.0 if theta is None else fields.as_number("rope_theta", theta),
        share=None if share is None else fields.as_number("partial_rotary_factor", share),
        scaling=_scaling(fields, tables),
    )


def _agreed(fields: Fields, tables: dict[str, Any], key: str, *aliases: str, top: bool) -> Any:
    places = [(key, fields.raw[key])] if top and fields.has(key) else []
    for name, table in tables.items():
        places += [(f"{name}.{spelt}", table[spelt]) for spelt in (key, *aliases) if table.get(spelt) is not None]
    for place, value in places[1:]:
        if value != places[0][1]:
            fields.problem(f"{places[0][0]} is {places[0][1]!r}, but {place} is {value!r}: which one holds?")
    return places[0][1] if places else None


def _scaling(fields: Fields, tables: dict[str, Any]) -> tuple[int, int, int, int] | None:
    kind = _agreed(fields, tables, "rope_type", "type", top=False)
    said = {key: _agreed(fields, tables, key, top=False) for key in _SCALING}
    if kind is None or kind == "default":
        if extra := [key for key, value in said.items() if value is not None]:
            fields.problem(f"rope scaling says {extra[0]} but its rope_type is {kind!r}")
        return None
    if kind != "llama3":
        fields.problem(f"rope_type is {kind!r}: the format has only the scaling of llama3")
        return None
    numbers = []
    for key, value in said.items():
        number = fields.as_number(f"rope scaling's {key}", value)
        if not whole(number):
            fields.problem(f"rope scaling's {key} is {value!r}: the format holds whole numbers only")
            number = 1.0
        numbers.append(int(number))
    return numbers[0], numbers[1], numbers[2], numbers[3]
