"""The process in which chat templates are rendered: requests on standard input, answers on standard output, by lines.

It is started by chat.py as a program by itself, and imports nothing of ours: what breaks out of the sandbox finds
nothing here. Its memory is bounded; its time is bounded by whoever asks, who ends it.
"""

import contextlib
import datetime as dt
import json
import sys
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY_MIB = 512
LONGEST = 16 << 20  # characters of a prompt: more than any model reads


class _Generation(Extension):
    """The tag by which templates mark the assistant's words for training; here its content is just printed."""

    tags = {"generation"}  # noqa: RUF012 - the base class declares it for instances

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def main() -> int:
    """Answer until nobody asks any more; the first line says that it is ready."""
    _bound_memory()
    print("{}", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(_answer(request)), flush=True)
    return 0


def _answer(request: dict[str, Any]) -> dict[str, str]:
    """`text`, or `error` in words."""
    try:
        text = _compiled(request["template"]).render(messages=request["messages"], **request["variables"])
    except MemoryError:
        return {"error": f"cannot be rendered: it takes more than {MEMORY_MIB} MiB"}
    except jinja2.TemplateError as error:
        return {"error": f"cannot be rendered: {error}"}
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        return {"error": f"does not fit these messages: {error}"}
    if len(text) > LONGEST:
        return {"error": f"cannot be rendered: it makes {len(text):,} characters of them"}
    return {"text": text}


def _bound_memory() -> None:
    """More than that is a MemoryError, where the system can."""
    import resource

    with contextlib.suppress(OSError, ValueError):  # macOS knows the limit and refuses it
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MIB << 20, MEMORY_MIB << 20))


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


if __name__ == "__main__":
    sys.exit(main())
