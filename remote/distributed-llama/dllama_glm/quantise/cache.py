"""Where the compiled loops are kept between runs."""

import contextlib
import functools
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dllama_glm.runtime.machine import note

_HERE = Path(__file__).parent
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own in it, as in /tmp


@contextlib.contextmanager
def loops_cache() -> Iterator[None]:
    """Have the loops that are imported inside this block cached in a folder that bears their sources' hash.

    The compiler itself looks only at the file that a loop stands in, so it would go on using a loop whose vector
    operations, in another file, have changed. Where no folder can be written, the loops are compiled in every run.
    """
    # Where colorama is installed, numba puts colours into each message that it might need, some percent of its work.
    os.environ.setdefault("NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING", "1")
    import numba

    base = _base()
    if base is None:
        _say_that_nothing_is_kept()
        from unittest import mock

        from numba.core.dispatcher import Dispatcher

        # `cache=True` must mean nothing then: the compiler would end in an error where it finds no folder.
        with mock.patch.object(Dispatcher, "enable_caching"):
            yield
        return
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(base / f"loops-{_sources_hash()}")
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before


@functools.cache
def _say_that_nothing_is_kept() -> None:
    note(
        "no folder for the compiled loops can be written: each run compiles them again; "
        "NUMBA_CACHE_DIR=FOLDER names one"
    )


def _sources_hash() -> str:
    """What the compiled code depends on: all sources of loops, the compiler, and which instructions are to be used."""
    import llvmlite
    import numba
    import numpy as np

    digest = hashlib.sha256()
    for path in sorted([*_HERE.glob("*.py"), *(_HERE.parent / "kernels").glob("*.py")]):
        digest.update(path.read_bytes())
    digest.update(f"{numba.__version__} {llvmlite.__version__} {np.__version__}".encode())
    digest.update(os.environ.get("DLLAMA_SIMD", "").encode())
    return digest.hexdigest()[:12]


def _base() -> Path | None:
    """NUMBA_CACHE_DIR, or the first that can be written: beside the source, the user's cache, /tmp, /dev/shm; or None.

    A home is not taken for granted: a container's user may have neither HOME nor a line in /etc/passwd.
    """
    if given := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(given)
    own = (folder for folder in (_HERE / "__pycache__", *_of_user()) if _can_be_written(folder))
    return next(own, None) or _shared()


def _can_be_written(folder: Path) -> bool:
    """Whether the folder, or the nearest one above it that is there, can be written."""
    # Path.exists raises where a folder above may not be searched, as another user's home.
    there = next(place for place in (folder, *folder.parents) if os.path.exists(place))  # noqa: PTH110
    return os.access(there, os.W_OK)


def _of_user() -> list[Path]:
    if given := os.environ.get("XDG_CACHE_HOME"):
        return [Path(given) / "dllama-glm"]
    try:
        return [Path.home() / ".cache" / "dllama-glm"]
    except RuntimeError:
        return []


def _shared() -> Path | None:
    """A folder of our own where everybody may write; None where that fails too."""
    places = [_SHARED_MEMORY]
    with contextlib.suppress(FileNotFoundError):
        places.insert(0, Path(tempfile.gettempdir()))
    for place in places:
        folder = place / f"dllama-glm-{os.getuid()}"
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
            found = folder.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
                return folder
            # Somebody else's folder could hold somebody else's code.
            return Path(tempfile.mkdtemp(prefix="dllama-glm-", dir=place))
    return None
