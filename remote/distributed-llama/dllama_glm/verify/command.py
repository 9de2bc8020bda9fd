"""The command line of `dllama verify`."""

import argparse
import json
import sys
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import NoReturn

from dllama_glm.checkpoint.errors import CheckpointError
from dllama_glm.convert.command import positive
from dllama_glm.convert.errors import BadValue
from dllama_glm.convert.progress import Progress
from dllama_glm.convert.progress_file import ProgressFile
from dllama_glm.formats.model_file import ModelFileError, read_header
from dllama_glm.verify.check import verify
from dllama_glm.verify.report import Report

_USAGE, _DIFFERENT, _NO_MEMORY, _INTERRUPTED = 2, 3, 75, 130
_PLACES_SHOWN = 10
_WORST_SHOWN = 5


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(_USAGE, f"{self.prog}: {message}\n")


def _share(text: str) -> float:
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share: above 0, up to 1 (or 100%)")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="dllama verify", description="Compare a .m file with its checkpoint.", allow_abbrev=False)
    parser.add_argument("model", type=Path, metavar="M", help="the .m file")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the checkpoint that it was made of")
    parser.add_argument("--sample", type=_share, metavar="P", help="check only this share of the blocks, e.g. 0.05")
    parser.add_argument("--json", action="store_true", help="the report as one JSON document")
    parser.add_argument(
        "--ignore-key", action="append", default=[], metavar="KEY", help="an unknown key of config.json to pass over"
    )
    parser.add_argument("--rope-theta", type=positive, metavar="N", help="rope_theta where config.json has none")
    return parser


def run(argv: Sequence[str]) -> int:
    """Verify as the arguments say and print the report."""
    try:
        args = _parser().parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    progress = Progress(as_json=False, stream=sys.stderr, file=ProgressFile.named())
    try:
        report = verify(
            args.model,
            args.folder,
            args.sample,
            ignore=args.ignore_key,
            rope_theta=args.rope_theta,
            watch=progress.update,
        )
    except MemoryError:
        return _failed(progress, "out of memory", _NO_MEMORY)
    except KeyboardInterrupt:
        return _failed(progress, "interrupted", _INTERRUPTED)
    except (CheckpointError, BadValue) as error:
        return _failed(progress, str(error), _DIFFERENT)
    except OSError as error:
        return _failed(progress, f"{error.filename or args.folder}: {error.strerror or error}", _DIFFERENT)
    progress.finish()
    print(json.dumps(report.as_json()) if args.json else "\n".join([*_architecture(args.model), _text(report)]))
    return 0 if report.ok else _DIFFERENT


def _architecture(model: Path) -> list[str]:
    """What the file says it is; nothing where its header cannot be read, which the report says."""
    try:
        arch = read_header(model).arch
    except ModelFileError:
        return []
    return [f"architecture {arch.name} (0x{arch:X})"]


def _text(report: Report) -> str:
    lines = [*report.header, *(f"differs: {place}" for place in report.differences[:_PLACES_SHOWN])]
    different = sum(tensor.different for tensor in report.tensors)
    if different > _PLACES_SHOWN:
        lines.append(f"... {different:,} blocks differ in all")
    for tensor in sorted(report.tensors, key=attrgetter("rms_error"), reverse=True)[:_WORST_SHOWN]:
        size = f"largest {tensor.max_error:.3g}, RMS {tensor.rms_error:.3g}"
        lines.append(f"error of {tensor.float_type}: {size}  {tensor.name}")
    speed = report.source_bytes / 1e6 / max(report.seconds, 1e-9)
    if report.tensors:
        lines.append(f"{report.checked:,} of {report.blocks:,} blocks in {report.seconds:.1f} s ({speed:,.0f} MB/s)")
    lines.append(f"{report.file} {'is what' if report.ok else 'is NOT what'} {report.folder} converts to")
    return "\n".join(lines)


def _failed(progress: Progress, message: str, code: int) -> int:
    progress.error(f"dllama verify: {message}", code=code)
    return code
