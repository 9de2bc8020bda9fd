"""Chat templates, rendered as Hugging Face renders them, in a sandbox: a template is somebody else's program."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from dllama_glm.formats.tokenizer_file import TokenizerError


def render(template: str, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]) -> str:
    """Return the text that `template` makes of `messages`. Raises TokenizerError with the template's own complaint."""
    import jinja2
    import jinja2.ext
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols], autoescape=False
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _now
    try:
        return environment.from_string(template).render(messages=list(messages), **variables)
    except jinja2.TemplateError as error:
        raise TokenizerError(f"the chat template cannot be rendered: {error}") from None
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        raise TokenizerError(f"the chat template does not fit these messages: {error}") from None


def _tojson(value: Any, indent: int | None = None, *, ensure_ascii: bool = False, sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, sort_keys=sort_keys)


def _refuse(message: str) -> NoReturn:
    import jinja2

    raise jinja2.TemplateError(message)


def _now(layout: str) -> str:
    return dt.datetime.now().astimezone().strftime(layout)
