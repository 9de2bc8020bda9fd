"""The application and the one place where an error becomes words and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from orchestrator.words.errors import ExitCode, GpuplanError
from orchestrator.words.secret import hide

CTRL_C = 130
ORDER = ("run", "plan", "validate", "schema", "status", "logs", "cost", "resume", "down", "reap", "pull", "ssh")


class _InOrder(TyperGroup):
    """Lists the commands as a user meets them, not as their modules are imported."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of ORDER."""
        return sorted(super().list_commands(ctx), key=ORDER.index)


app = typer.Typer(
    name="gpuplan",
    cls=_InOrder,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Run a multi-day GPU job from YAML: rent machines, push, run, check, upload, account, leave nothing running.",
    epilog="Exit codes: 0 done, 1 internal error, 2 usage or configuration, 3 a step or deliverable failed, "
    "4 no machine, 5 budget, 6 interrupted, 7 something may still be running.",
)


@app.callback()
def _options(*, debug: bool = typer.Option(False, "--debug", help="Show a traceback with an error.")) -> None:
    if debug:
        os.environ["GPUPLAN_DEBUG"] = "1"


def with_commands() -> typer.Typer:
    """The application with every command registered: importing their modules does that."""
    from orchestrator.cli import ending, looking, machine, planning, reaping, running

    assert all((ending, looking, machine, planning, reaping, running))
    return app


def main() -> None:
    """Run the command line and exit with the code of errors.ExitCode."""
    debug = "--debug" in sys.argv or bool(os.environ.get("GPUPLAN_DEBUG"))
    try:
        code = with_commands()(standalone_mode=False) or int(ExitCode.DONE)
        if code == CTRL_C:  # typer's own number for it
            raise KeyboardInterrupt
        sys.exit(code)
    except (
        typer.Abort,
        KeyboardInterrupt,
    ):  # Ctrl-C, or no answer to a question: what was begun has been ended on the way here
        typer.echo("gpuplan: interrupted", err=True)
        sys.exit(int(ExitCode.INTERRUPTED))
    except GpuplanError as error:
        _trace(debug=debug)
        typer.echo(f"gpuplan: {error}", err=True)
        sys.exit(int(error.exit_code))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read has gone: nothing more to say
        sys.exit(int(ExitCode.DONE))
    except Exception as error:  # noqa: BLE001  the last word on any error is here
        if hasattr(error, "show"):  # a usage error: typer's own click gives its classes no public name
            error.show()
            sys.exit(int(ExitCode.USAGE))
        _trace(debug=debug)
        said = hide(f"gpuplan: internal error: {type(error).__name__}: {error}")
        typer.echo(f"{said}\n  --debug shows where", err=True)
        sys.exit(int(ExitCode.INTERNAL))


def _trace(*, debug: bool) -> None:
    if debug:
        import traceback

        typer.echo(hide(traceback.format_exc()), err=True)
