"""The application and the one place where an error becomes words and an exit code."""

from __future__ import annotations

import contextlib
import gc
import os
import sys

import typer

from orchestrator.cli import help as pages
from orchestrator.cli.common import print_failure
from orchestrator.cli.completion import ASK, answer, completion
from orchestrator.cli.doctoring import doctor
from orchestrator.cli.housekeeping import prune, rm
from orchestrator.cli.logs import logs
from orchestrator.cli.looking import cost, ls, status
from orchestrator.cli.offering import offers
from orchestrator.cli.owning import owner
from orchestrator.cli.planning import plan, schema, validate
from orchestrator.cli.publishing import publish
from orchestrator.cli.pulling import pull
from orchestrator.cli.reaching import ssh
from orchestrator.cli.reaping import reap
from orchestrator.cli.reporting import report
from orchestrator.cli.resuming import resume
from orchestrator.cli.running import run
from orchestrator.cli.serving import dashboard
from orchestrator.cli.starting import init
from orchestrator.cli.stopping import down
from orchestrator.cli.visiting import open_
from orchestrator.cli.working import worker
from orchestrator.report.console import indented, say
from orchestrator.words import disk
from orchestrator.words.errors import DatabaseBusy, ExitCode, GpuplanError, plainly
from orchestrator.words.secret import hide

CTRL_C = 130
ON_DISK = "make room there, or have it writable; GPUPLAN_HOME=DIR keeps everything of gpuplan elsewhere"
COMMANDS = (
    run, resume, down, ls, status, logs, cost, report, dashboard, init, plan, validate, schema, offers, doctor, ssh,
    open_, pull, publish, reap, prune, rm, worker, owner, completion,
)  # fmt: skip


def application() -> typer.Typer:
    """Every command under its function's name, in their order."""
    app = typer.Typer(
        name="gpuplan",
        cls=pages.Commands,
        context_settings={"help_option_names": ["-h", "--help"]},
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        help="Run a multi-day GPU job from YAML: rent machines, push, run, check, upload, account, "
        "leave nothing running.",
        epilog="Exit codes: 0 done, 1 internal error, 2 usage or configuration, 3 a step or deliverable failed, "
        "4 no machine, 5 budget, 6 interrupted, 7 something may still be running.",
        callback=_options,
    )
    for command in COMMANDS:
        app.command(command.__name__.rstrip("_"), cls=pages.Command)(command)
    return app


def _say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        say(f"gpuplan {version('gpuplan')}")
        raise typer.Exit


def _options(
    *,
    version: bool = typer.Option(False, "--version", help="Print the version.", is_eager=True, callback=_say_version),
    debug: bool = typer.Option(False, "--debug", help="Show a traceback with an error."),
) -> None:
    del version  # it has been said
    if debug:
        os.environ["GPUPLAN_DEBUG"] = "1"


def main() -> None:
    """Run the command line and exit with the code of errors.ExitCode."""
    gc.set_threshold(100_000, 50, 50)  # imports make much that stays: looking through it again takes a tenth of a start
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # nobody's plugin is looked for, nor loaded
    if sys.argv[1:2] == [ASK]:
        answer(sys.argv[2:], typer.main.get_command(application()))
        return
    debug = "--debug" in sys.argv or bool(os.environ.get("GPUPLAN_DEBUG"))
    document = print_failure if "--json" in sys.argv[1:] else _nothing
    try:
        code = application()(standalone_mode=False) or int(ExitCode.DONE)
        if code == CTRL_C:  # typer's own number for it
            raise KeyboardInterrupt
        sys.exit(code)
    except (
        typer.Abort,
        KeyboardInterrupt,
    ):  # Ctrl-C, or no answer to a question: what was begun has been ended on the way here
        say("gpuplan: interrupted", err=True)
        document("interrupted", "", ExitCode.INTERRUPTED)
        sys.exit(int(ExitCode.INTERRUPTED))
    except GpuplanError as error:
        _trace(debug=debug)
        mistakes = getattr(error, "errors", (error,))  # those of a plan's files begin a line each, with their place
        say("gpuplan: " + "\n".join(indented(str(one)) for one in mistakes), err=True)
        document(error.message, error.remedy, error.exit_code)
        if isinstance(error, DatabaseBusy):
            _leave_at_once(error.exit_code)
        sys.exit(int(error.exit_code))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read has gone: nothing more to say
        sys.exit(int(ExitCode.DONE))
    except Exception as error:  # noqa: BLE001  the last word on any error is here
        if hasattr(error, "show") and hasattr(error, "format_message"):  # typer's own usage errors have no public class
            error.show()
            document(error.format_message(), "gpuplan COMMAND --help", ExitCode.USAGE)
            sys.exit(int(ExitCode.USAGE))
        _trace(debug=debug)
        said, remedy, code = _unexpected(error)
        say(f"gpuplan: {said}\n  {remedy}", err=True)
        document(said, remedy, code)
        sys.exit(int(code))


def _unexpected(error: Exception) -> tuple[str, str, ExitCode]:
    """What to say of an error that is none of ours: the disk's, or else a bug."""
    if why := disk.trouble(error):
        return hide(why), ON_DISK, ExitCode.USAGE
    said = plainly(f"internal error: {type(error).__name__}: {error}")
    return hide(said), "--debug shows where", ExitCode.INTERNAL


def _nothing(_error: str, _remedy: str, _code: int) -> None:
    """What a person reads is on standard error."""


def _leave_at_once(code: ExitCode) -> None:
    """End without waiting for threads that wait for the database: what they would write down is not to be lost."""
    with contextlib.suppress(OSError):  # nobody may read any more
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(int(code))


def _trace(*, debug: bool) -> None:
    if debug:
        import traceback

        say(hide(traceback.format_exc()), err=True)
