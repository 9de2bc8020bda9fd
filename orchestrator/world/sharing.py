"""What of a run lies in a database that several computers share, so that another one can go on with it.

Its frozen plan, its code, the public key that its machines know, the ends of its logs, and the names by which S3 knows
uploads under way. No secret is among it.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.ledger.rows import FileRow
from orchestrator.transport import bundle
from orchestrator.transport.keys import ensure_key_pair
from orchestrator.words.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.transport.code import Code
    from orchestrator.words.spec import RunSpec
    from orchestrator.world.home import Home

MOST_CODE = 64 << 20  # bytes of the code, packed
MOST_FILE = 1 << 20  # bytes of the end of a log
SPEC, CODE, KEY, QUEUED = "run.json", "code.tar.gz", "key", "queued"
NAMES = "SELECT name, at FROM gpuplan_files WHERE run = :run"  # without what is in them
BROUGHT = "brought"  # in a run's folder: it was made out of the database, and its files may be older ones


def share(ledger: Ledger, home: Home, spec: RunSpec, code: Code) -> None:
    """Write down what another computer needs. UsageError: the code is too much for the database."""
    if not ledger.is_shared:
        return
    packed = gzip.compress(b"".join(bundle.stream({e.path: e.file for e in code.content})), 6, mtime=0)
    if len(packed) > MOST_CODE:
        raise UsageError(
            f"the code is {len(packed) >> 20} MB packed, and the database takes {MOST_CODE >> 20}",
            remedy="have .gitignore leave out what a step can fetch",
        )
    files = {SPEC: spec.model_dump_json(indent=1).encode(), KEY: ensure_key_pair(home.path).encode()}
    for name, content in (files | ({CODE: packed} if code.content else {})).items():
        _put(ledger, spec.run, name, content)


def unshare(ledger: Ledger, run: str) -> None:
    """Take it out again."""
    if ledger.is_shared:
        ledger.files.remove(run=run)


def queue(ledger: Ledger, run: str) -> None:
    """Leave the run for a worker."""
    _put(ledger, run, QUEUED, b"")


def waits(ledger: Ledger, run: str) -> bool:
    """Whether the run was left for a worker."""
    return ledger.files.maybe(run=run, name=QUEUED) is not None


def keeper(ledger: Ledger, folder: Path) -> Callable[[Path], None]:
    """What writes the end of a file down, of the run's folder or, for RUN.2, of RUN's; where nobody shares, nothing."""

    def keep(file: Path) -> None:
        if file.exists():
            with file.open("rb") as opened:
                opened.seek(max(file.stat().st_size - MOST_FILE, 0))
                run, _, name = file.relative_to(folder.parent).as_posix().partition("/")
                _put(ledger, run, name, opened.read())

    return keep if ledger.is_shared else lambda _file: None


def bring(ledger: Ledger, home: Home, run: str) -> None:
    """Make the run's folder here out of the database, or bring what is new; one that began here stays as it is.

    With RUN.2 comes RUN, whose uploads it goes on with.
    """
    folder, first = home.run_folder(run), run.partition(".")[0]
    if first != run:
        bring(ledger, home, first)
    if not ledger.is_shared or ((folder / SPEC).exists() and not (folder / BROUGHT).exists()):
        return
    there = {str(name): float(at) for name, at in ledger.read(NAMES, {"run": run})}
    if SPEC not in there:
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / BROUGHT).touch()
    if CODE in there and not (folder / "code").exists():
        _unpack(ledger.files.get(run=run, name=CODE).content, folder)
    for name, at in there.items():
        if name not in (SPEC, CODE, KEY, QUEUED) and _is_newer(folder / name, at):
            _write(folder / name, ledger.files.get(run=run, name=name))
    if not (folder / SPEC).exists():
        _write_spec(ledger.files.get(run=run, name=SPEC).content, folder)


def require_key(ledger: Ledger, home: Home, spec: RunSpec) -> None:
    """UsageError unless the run's machines let this computer in."""
    if not ledger.is_shared or spec.world.ssh_key:
        return
    known = ledger.files.maybe(run=spec.run, name=KEY)
    if known and known.content.split()[:2] != ensure_key_pair(home.path).encode().split()[:2]:
        raise UsageError(
            f"{spec.run} was begun with another SSH key, without which its machines let nobody in; "
            "it can be watched and taken down from here",
            remedy="gpuplan owner export FILE where it was begun, gpuplan owner import FILE here",
        )


def require_here(spec: RunSpec) -> None:
    """UsageError: the run is a rehearsal, and the computer that its clouds are on is another one."""
    if spec.world.dry_run and not Path(spec.world.cloud).is_dir():
        raise UsageError(f"{spec.run} is rehearsed on another computer", remedy=f"go on there: {spec.world.cloud}")


def _put(ledger: Ledger, run: str, name: str, content: bytes) -> None:
    ledger.files.put(FileRow(run=run, name=name, content=content, at=ledger.now()))


def _is_newer(file: Path, at: float) -> bool:
    return not file.exists() or file.stat().st_mtime < at


def _write(file: Path, row: FileRow) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(row.content)
    os.utime(file, (row.at, row.at))


def _unpack(packed: bytes, folder: Path) -> None:
    """Lay the code down, whole or not at all."""
    half = folder / "code.half"
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed))) as archive:
        archive.extractall(half, filter="data")
    half.rename(folder / "code")


def _write_spec(text: bytes, folder: Path) -> None:
    """run.json, which makes the folder a run's; what came home to a folder that is not here comes below it."""
    from orchestrator.words.spec import RunSpec

    new = folder / f"{SPEC}.new"
    new.write_bytes(text)
    new.rename(folder / SPEC)
    spec = RunSpec.load(folder)
    (folder / "armed").write_text("\n".join(spec.world.faults))  # a rehearsed disaster was armed where it began
    if not Path(spec.pull_root).is_dir():
        spec.model_copy(update={"pull_root": str(folder / "pulled")}).save(folder)
