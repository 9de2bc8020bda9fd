"""GPUPLAN_HOME: the one folder that holds all of gpuplan's state on this computer."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING

from orchestrator.words.errors import UsageError
from orchestrator.world.clock import Timeline

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.ledger.run_locks import RunLocks

ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that looks like something else
ASK_S = 2.0  # between two questions to a server that tells nobody when a lock is let go
GLANCE_S = 0.5  # how long somebody may hold a run's lock who only looks whether another one does


class Home:
    """Folders and names. `path` is made, readable by its owner only, when it is first written to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bring: Callable[[str], None] = lambda _run: None  # makes the folder of a run that began elsewhere

    @staticmethod
    def find(environ: Mapping[str, str] = os.environ) -> Home:
        """$GPUPLAN_HOME, or the platform's place for application data."""
        import platformdirs

        try:
            named = environ.get("GPUPLAN_HOME")
            found = Path(named).expanduser() if named else Path(platformdirs.user_data_dir("gpuplan"))
        except RuntimeError:
            found = Path("~")
        if found.parts[:1] == ("~",):
            raise UsageError("this user has no home folder (HOME is not set)", remedy="set GPUPLAN_HOME to a folder")
        return Home(found.absolute())

    def make(self) -> None:
        """Make the folder, or say why it cannot be made."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self.path / "runs").mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise UsageError(f"{self.path} cannot be made: {error.strerror}", remedy="set GPUPLAN_HOME") from error

    @property
    def database_url(self) -> str | None:
        """GPUPLAN_DATABASE_URL; None: a SQLite file in the folder."""
        return os.environ.get("GPUPLAN_DATABASE_URL")

    def owner(self) -> str:
        """Eight characters in the name of everything this home rents: made once, and shareable by a team."""
        file = self.path / "owner"
        if not file.exists():
            self.make()
            _write_once(file, _letters(8))
        owner = file.read_text().strip()
        if not re.fullmatch(r"[a-z0-9]{8}", owner):
            raise UsageError(
                f"{file} says {owner!r}: an owner is eight small letters and digits",
                remedy="put back what was there (the names of your machines begin with gpuplan-OWNER-), or delete it",
            )
        return owner

    @cached_property
    def timeline(self) -> Timeline:
        """The line that the times of this home's ledger are on."""
        return Timeline(file=self.path / "timeline")

    def open_ledger(self, patience_s: float | None = None) -> Ledger:
        """The ledger of this home, or the one at its database URL. `patience_s`: see Ledger; None: a command's."""
        from orchestrator.ledger import open_ledger

        patience = {} if patience_s is None else {"patience_s": patience_s}
        return open_ledger(self.path, self.database_url, self.timeline, **patience)

    def agreed(self) -> dict[str, float]:
        """What was agreed to of plans that others may have written: the digest of their terms -> when."""
        try:
            lines = (self.path / "agreed").read_text().splitlines()
        except FileNotFoundError:
            return {}
        words = [line.split() for line in lines]
        return {digest: float(at) for digest, at in (pair for pair in words if len(pair) == 2)}

    def agree(self, digest: str) -> None:
        """Remember that these terms were agreed to."""
        with (self.path / "agreed").open("a") as file:
            file.write(f"{digest} {time.time():.0f}\n")

    def run_folder(self, run: str) -> Path:
        """The folder of a run: frozen plan, logs, manifests, what was pulled in a rehearsal."""
        return self.path / "runs" / run

    @property
    def fixtures(self) -> Path:
        """What doctor --live has seen of the providers: the rehearsal's clouds do as is written there."""
        return self.path / "fixtures"

    def new_run(self) -> str:
        """A short name that no run has: month, day, four letters."""
        while True:
            run = f"{time.strftime('%m%d')}-{_letters(4)}"
            if not self.run_folder(run).exists():
                return run

    def following(self, run: str, ledger: Ledger) -> str:
        """The name of the run that goes on with an ended one: RUN.2, RUN.3, ..."""
        base = run.rsplit(".", 1)[0] if run.rsplit(".", 1)[-1].isdigit() else run
        elsewhere = {row.id for row in ledger.runs.all()} if ledger.is_shared else set()
        number = 2
        while self.run_folder(f"{base}.{number}").exists() or f"{base}.{number}" in elsewhere:
            number += 1
        return f"{base}.{number}"

    @cached_property
    def _shared_locks(self) -> RunLocks | None:
        """The locks of the database that several computers share; None: files of this home are the locks."""
        url = self.database_url or ""
        if not url.startswith("postgresql"):
            return None
        from orchestrator.ledger.run_locks import RunLocks

        return RunLocks(url)

    @contextmanager
    def lock(self, run: str) -> Iterator[Callable[[], bool] | None]:
        """Hold the run for this process; yields whether it still does, or None when another one drives it."""
        give_up = time.monotonic() + GLANCE_S
        if locks := self._shared_locks:
            while (hold := locks.take(run)) is None and time.monotonic() < give_up:
                time.sleep(0.05)
            try:
                yield hold.holds if hold else None
            finally:
                if hold:
                    hold.let_go()
            return
        with (self.run_folder(run) / "lock").open("w") as file:
            while not (mine := _try_lock(file, fcntl.LOCK_EX)) and time.monotonic() < give_up:
                time.sleep(0.05)
            yield (lambda: True) if mine else None

    def is_driven(self, run: str) -> bool:
        """Whether a living process drives the run: only one can hold its lock, and it ends with the process."""
        if locks := self._shared_locks:
            return locks.is_held(run)
        try:
            with (self.run_folder(run) / "lock").open() as file:
                return not _try_lock(file, fcntl.LOCK_SH)
        except FileNotFoundError:
            return False

    def wait_undriven(self, run: str) -> None:
        """Wait until no living process drives the run."""
        if self._shared_locks:
            while self.is_driven(run):
                time.sleep(ASK_S)
            return
        with (self.run_folder(run) / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH)


def _try_lock(file: IO[str], kind: int) -> bool:
    """Lock the open file; False: another process holds it. It is let go with the file."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_once(file: Path, text: str) -> None:
    """Write a file that is not there yet, whole or not at all; of several processes the first one's text stands."""
    new = file.with_name(f"{file.name}.{_letters(8)}")
    new.write_text(text)
    try:
        os.link(new, file)
    except FileExistsError:
        pass  # another process was first: its text is read
    except OSError:  # a file system without hard links
        with contextlib.suppress(FileExistsError), file.open("x") as out:
            out.write(text)
    finally:
        new.unlink()


def _letters(count: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(count))
