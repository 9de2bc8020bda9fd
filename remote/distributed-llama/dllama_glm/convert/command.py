"""The command line of `convert-hf.py`."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from dllama_glm.checkpoint.errors import CheckpointError
from dllama_glm.convert.errors import BadValue, HubError, OutputError
from dllama_glm.convert.plan import Plan, check_output, make_plan
from dllama_glm.convert.progress import Progress
from dllama_glm.convert.progress_file import ProgressFile
from dllama_glm.formats.float_types import FloatType
from dllama_glm.runtime.evidence import checksums_wanted, on_cpu, publish, publish_checksum
from dllama_glm.runtime.machine import peak_memory_mib

if TYPE_CHECKING:  # it loads what only a conversion needs
    from dllama_glm.convert.supply import Supply

_HUB = "hf://"
_USAGE, _FAILED, _NO_MEMORY, _INTERRUPTED = 2, 3, 75, 130
_DESCRIPTION = "Convert a Hugging Face checkpoint to the .m format of Distributed Llama."


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(_USAGE, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="convert-hf.py", description=_DESCRIPTION, allow_abbrev=False)
    parser.add_argument(
        "source", metavar="FOLDER", help="the checkpoint: config.json and *.safetensors; or hf://OWNER/NAME[@REVISION]"
    )
    parser.add_argument("type", choices=[kind.name.lower() for kind in FloatType], help="how weights are stored")
    parser.add_argument("name", metavar="NAME", help="the output is NAME.m, beside this script; NAME may end in .m")
    parser.add_argument(
        "--output", type=Path, metavar="PATH", help="write there instead: a file, or a folder for NAME.m"
    )
    parser.add_argument("--low-memory", action="store_true", help="fewer threads and smaller pieces (200 MB at most)")
    parser.add_argument("--force", action="store_true", help="start over instead of going on with a partial output")
    parser.add_argument("--json", action="store_true", help="progress and result as JSON lines")
    parser.add_argument(
        "--ignore-key", action="append", default=[], metavar="KEY", help="an unknown key of config.json to pass over"
    )
    parser.add_argument("--rope-theta", type=positive, metavar="N", help="rope_theta where config.json has none")
    parser.add_argument(
        "--allow-window", action="store_true", help="leave a sliding window out of the file, so that upstream opens it"
    )
    return parser


def positive(text: str) -> float:
    """A finite number above 0, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def run(argv: Sequence[str], *, default_folder: Path) -> int:
    """Convert as the arguments say; every foreseeable failure is one clear message on stderr and an exit code."""
    parser = _parser()
    try:
        args = parser.parse_args(argv)
        if not _is_name(args.name.removesuffix(".m")):
            parser.error(f"NAME is {args.name!r}, which is no file name")
        if args.source.startswith(_HUB):
            _check_address(parser, args.source)
    except SystemExit as stop:
        return int(stop.code or 0)
    progress = Progress(as_json=args.json, file=ProgressFile.named())
    try:
        _convert(args, _output_path(args, default_folder), progress)
    except MemoryError:
        return _failed(progress, "out of memory: try --low-memory, or a machine with more", _NO_MEMORY)
    except KeyboardInterrupt:
        return _failed(progress, "interrupted; the same command goes on from here", _INTERRUPTED)
    except (CheckpointError, OutputError, BadValue, HubError) as error:
        return _failed(progress, str(error), _FAILED)
    except OSError as error:
        where = error.filename or args.source
        return _failed(progress, f"{where}: {error.strerror or error}", _FAILED)
    return 0


def _check_address(parser: argparse.ArgumentParser, address: str) -> None:
    from dllama_glm.convert.hub.repository import split_address

    try:
        split_address(address)
    except ValueError as error:
        parser.error(str(error))


def _is_name(name: str) -> bool:
    return name not in {"", ".", ".."} and "/" not in name and "\0" not in name


def _output_path(args: argparse.Namespace, default_folder: Path) -> Path:
    file = f"{args.name.removesuffix('.m')}.m"
    if args.output is None:
        return default_folder / file
    output: Path = args.output
    return output / file if output.is_dir() else output


def _convert(args: argparse.Namespace, path: Path, progress: Progress) -> None:
    began = time.monotonic()
    weight_type = FloatType[args.type.upper()]
    plan, supply, source = _opened(args, weight_type, path)
    for note in plan.notes:
        progress.note(f"note: {note}")
    progress.event(
        "start",
        f"{source} ({plan.config.model_type}, {plan.read_bytes / 1e6:,.1f} MB) -> {path} "
        f"({args.type}, {plan.write_bytes / 1e6:,.1f} MB)",
        bytes=plan.read_bytes,
        output_bytes=plan.write_bytes,
        tensors=len(plan.sources),
    )
    # Only now, since it loads the compiler: whatever is wrong has been said at once.
    from dllama_glm.convert.job import Result, convert

    result: Result = convert(
        plan, path, progress, supply, low_memory=args.low_memory, fresh=args.force, digest=checksums_wanted()
    )
    if result.sha256:
        publish_checksum(path, result.sha256)
    peak = peak_memory_mib()
    figures = {name: getattr(result, name) for name in ("bytes_read", "bytes_written", "seconds", "mb_per_s")}
    figures |= {"peak_memory_mib": peak, "low_memory": int(result.low_memory)}
    publish(figures, on_cpu(f"{result.threads} thread(s)"))
    progress.note(
        f"{result.bytes_read / 1e6:,.1f} MB read in {result.seconds:.2f} s ({result.mb_per_s:,.0f} MB/s; "
        f"{result.sync_seconds:.2f} s of it the final sync), whole process {time.monotonic() - began:.2f} s"
    )
    progress.event(
        "done",
        f"{path.name} created successfully",
        file=str(path),
        bytes_read=result.bytes_read,
        bytes_written=result.bytes_written,
        seconds=round(result.seconds, 3),
        sync_seconds=round(result.sync_seconds, 3),
        mb_per_s=round(result.mb_per_s, 1),
        resumed_tensors=result.resumed_tensors,
        peak_memory_mib=peak,
        low_memory=result.low_memory,
    )


def _opened(args: argparse.Namespace, weight_type: FloatType, path: Path) -> "tuple[Plan, Supply | None, str]":
    """(the plan, what gives the shards: None for a folder's own files, the source in words)."""
    if args.source.startswith(_HUB):
        from dllama_glm.convert.hub.opening import open_hub

        plan, supply, commit = open_hub(
            args.source,
            weight_type,
            path,
            ignore=args.ignore_key,
            rope_theta=args.rope_theta,
            allow_window=args.allow_window,
        )
        return plan, supply, f"{args.source} at {commit[:12]}"
    folder = Path(args.source)
    plan = make_plan(
        folder,
        weight_type,
        ignore=args.ignore_key,
        rope_theta=args.rope_theta,
        allow_window=args.allow_window,
    )
    check_output(path, folder, plan.write_bytes)
    return plan, None, str(folder)


def _failed(progress: Progress, message: str, code: int) -> int:
    progress.error(f"convert-hf.py: {message}", code=code)
    return code
