"""The settings from their four sources: flag > environment (GPUPLAN_*) > the project's file > the shipped default."""

from __future__ import annotations

import re
from collections.abc import Mapping as Map
from collections.abc import Sequence as Items

from pydantic.fields import FieldInfo

from orchestrator.config.document import Broken, Mapping, Node, Scalar, Sequence
from orchestrator.config.inputs import check_each
from orchestrator.config.problems import Place, Problems, nearest
from orchestrator.config.publish_checks import check_publish
from orchestrator.config.store_keys import as_texts
from orchestrator.config.validate import Source, validate
from orchestrator.config.words import LONGEST_COMMAND, below, set_name, volume_name
from orchestrator.words.errors import UsageError
from orchestrator.words.model import OF_THE_PLAN, Settings
from orchestrator.words.store_url import read_place
from orchestrator.words.value import Value

PREFIX = "GPUPLAN_"
# Variables of that prefix that are no settings: of this computer, then those that a step finds on a machine.
NO_SETTINGS = frozenset(
    {"HOME", "REHEARSAL", "DATABASE_URL", "DEBUG", "RUNPOD_DEADLINE"}
    | {"RUN", "PHASE", "ROOT_IP", "PRIVATE_IP", "NODE_RANK", "NODES", "WORKERS", "CODE", "CODE_HASH", "TOKEN"}
    | {"METRICS", "PROGRESS", "REHEARSAL_HOST", "HUB_COMMIT", "BOOT_ID", "END_BILL", "AGENT_PYTHON"}
)
FLAGS = {"budget_usd": "--max-usd"}  # where a flag is not called as its setting
STORE_SCHEMES = ("s3://", "gs://")


def read_settings(
    layers: Items[Node], environ: Map[str, str], overrides: Map[str, object], problems: Problems
) -> Settings:
    """Bind the layers, each winning over those before it; rates, images and cuda are joined key by key.

    `overrides` are flags: setting name -> value (`rates.hub` reaches inside; None: not given).
    """
    whole = Mapping(Place("settings"), {})
    for layer in [*layers, _environment(environ, problems), _flags(overrides, problems)]:
        if isinstance(layer, Mapping):
            whole = _over(whole, layer)
        elif not isinstance(layer, Broken):
            problems.add(layer.place, f"settings are expected as keys and values ({', '.join(Settings.model_fields)})")
    settings, source = validate(Settings, as_texts(whole, problems), problems)
    _check(settings or Settings(), source)
    return settings or Settings()


def _over(base: Mapping, top: Mapping) -> Mapping:
    joined = {name: (key, _joined(base.get(name), value)) for name, (key, value) in top.entries.items()}
    return Mapping(top.place, {**base.entries, **joined})


def _joined(below: Node | None, value: Node) -> Node:
    return _over(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value


def _environment(environ: Map[str, str], problems: Problems) -> Mapping:
    """GPUPLAN_BUDGET_USD, GPUPLAN_RATES_HUB, ...; lists are separated by commas, an empty variable counts as unset."""
    place = Place("environment")
    known = set(_variables())
    others = {PREFIX + name for name in NO_SETTINGS}
    for name in sorted(environ):
        if name.startswith(PREFIX) and environ[name] and name not in known | others:
            problems.add(Place(name), "there is no setting of that name", nearest(name, known))
    found: dict[str, Node] = {}
    for name, info in _settable():
        kind = info.annotation
        text = environ.get(PREFIX + name.upper(), "")
        if text:
            found[name] = _node(Place(PREFIX + name.upper()), text, listed=_is_list(kind))
        if isinstance(kind, type) and issubclass(kind, Value):
            inside = {inner: PREFIX + f"{name}_{inner}".upper() for inner in kind.model_fields}
            given = {inner: Scalar(Place(var), environ[var]) for inner, var in inside.items() if environ.get(var)}
            if given:
                found[name] = Mapping.of(place, given)
    return Mapping.of(place, found)


def _settable() -> list[tuple[str, FieldInfo]]:
    """The settings that a variable may give: all but those that name files of one plan."""
    return [(name, info) for name, info in Settings.model_fields.items() if name not in OF_THE_PLAN]


def _variables() -> list[str]:
    """The variable of every setting."""
    names = []
    for name, info in _settable():
        kind = info.annotation
        inner = kind.model_fields if isinstance(kind, type) and issubclass(kind, Value) else {}
        names += [PREFIX + part.upper() for part in (name, *(f"{name}_{field}" for field in inner))]
    return names


def _flags(overrides: Map[str, object], problems: Problems) -> Mapping:
    place = Place("flags")
    whole = Mapping(place, {})
    for name, value in overrides.items():
        outer, _, inner = name.partition(".")
        flag = Place(FLAGS.get(name, "--" + name.replace("_", "-").replace(".", "-")))
        if outer not in Settings.model_fields:
            problems.add(flag, f"unknown setting {outer}", nearest(outer, Settings.model_fields))
        elif value is not None:
            node = _node(flag, value, listed=_is_list(Settings.model_fields[outer].annotation))
            whole = _over(whole, Mapping.of(place, {outer: Mapping.of(flag, {inner: node}) if inner else node}))
    return whole


def _is_list(kind: object) -> bool:
    return getattr(kind, "__origin__", None) is tuple


def _node(place: Place, value: object, *, listed: bool) -> Node:
    if isinstance(value, Map):
        return Mapping.of(place, {str(key): _node(place, inner, listed=False) for key, inner in value.items()})
    if isinstance(value, list | tuple):
        return Sequence(place, tuple(Scalar(place, str(item)) for item in value))
    if listed:
        return Sequence(place, tuple(Scalar(place, item.strip()) for item in str(value).split(",") if item.strip()))
    return Scalar(place, str(value).lower() if isinstance(value, bool) else str(value))


def _check(settings: Settings, source: Source) -> None:
    for index, url in enumerate(settings.stores):
        if not url.startswith(STORE_SCHEMES) or not url.split("://", 1)[1].strip("/"):
            message = f"{url} is no store: write s3://bucket/prefix or gs://bucket/prefix"
            source.wrong(("stores", index), message)
        elif re.search(r"\s", url):
            source.wrong(("stores", index), f"{url!r} has a space in it")
        else:
            try:
                read_place(url)
            except UsageError as error:
                source.wrong(("stores", index), error.message, error.remedy)
    for index, address in enumerate(settings.notify):  # never shown: there may be a token in it
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*://\S+|[A-Za-z_][A-Za-z0-9_]*", address):
            source.wrong(
                ("notify", index), "this is no address of apprise's (ntfy://topic), nor a variable that holds one"
            )
    for provider, version in settings.cuda.items():
        if not re.fullmatch(r"[0-9]{1,3}\.[0-9]{1,3}", version):
            source.wrong(("cuda", provider), f"{version!r} is no version of CUDA", 'write "12.8"')
    _check_code(settings, source)
    if settings.publish:
        check_publish(settings.publish, source)
    check_each(settings.defaults.inputs, source, ("defaults", "inputs"))
    volume = settings.defaults.volume
    if volume and (wrong := volume_name(volume.name)):
        source.wrong(("defaults", "volume", "name"), wrong)
    for name in settings.defaults.env:
        if wrong := set_name(name):
            source.wrong(("defaults", "env", name), wrong)
    if not re.match(
        r"https://[^\s/@\[\]]+(/|$)|http://(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?(/|$)", settings.hub_url
    ):
        source.wrong(
            ("hub_url",), f"{settings.hub_url} is no address that a token may go to", "write https://huggingface.co"
        )
    if not settings.providers:
        source.wrong(("providers",), "at least one provider is needed", "write [runpod, lambda]")


def _check_code(settings: Settings, source: Source) -> None:
    if settings.code and (wrong := below(settings.code)):
        source.wrong(("code",), wrong)
    for key in ("requirements", "requirements_gpu"):
        for index, file in enumerate(getattr(settings, key)):
            if wrong := below(file):
                source.wrong((key, index), wrong)
        if getattr(settings, key) and not settings.code:
            source.wrong((key,), f"{key} names files of the code, and there is none", "add code: FOLDER")
    if len(settings.setup.encode()) > LONGEST_COMMAND:
        source.wrong(("setup",), f"setup is longer than {LONGEST_COMMAND:,} bytes", "put it into a script of the code")
