"""Chat templates, rendered as Hugging Face renders them, in a sandbox: a template is somebody else's program."""

import datetime as dt
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from types import FrameType
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from dllama_glm.formats.tokenizer_file import TokenizerError

RENDER_SECONDS = 10.0  # a template takes milliseconds; one that loops for ever would keep a server from all others


class _Generation(Extension):
    """The tag by which templates mark the assistant's words for training; here its content is just printed."""

    tags = {"generation"}  # noqa: RUF012 - the base class declares it for instances

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def render(template: str, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]) -> str:
    """Return the text that `template` makes of `messages`. Raises TokenizerError with the template's own complaint."""
    try:
        compiled = _compiled(template)
        with _bounded(RENDER_SECONDS):
            return compiled.render(messages=list(messages), **variables)
    except jinja2.TemplateError as error:
        raise TokenizerError(f"the chat template cannot be rendered: {error}") from None
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise TokenizerError(f"the chat template does not fit these messages: {error}") from None


@lru_cache(maxsize=4)
def _compiled(template: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[loopcontrols, _Generation],
        autoescape=False,
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _now
    return environment.from_string(template)


@contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    """End what runs in the block, line by line of it, once the time is over; raises jinja2.TemplateError there."""
    deadline = time.monotonic() + seconds

    def watch(_frame: FrameType, _event: str, _argument: Any) -> Any:
        if time.monotonic() > deadline:
            raise jinja2.TemplateError(f"it takes longer than {seconds:g} s")
        return watch

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        yield
    finally:
        sys.settrace(before)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 - templates may pass it by position
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002 - as above
) -> str:
    """Serialise as Hugging Face's filter does: jinja2's own would escape for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(layout: str) -> str:
    return dt.datetime.now().astimezone().strftime(layout)
