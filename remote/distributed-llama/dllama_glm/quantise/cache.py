"""Where the compiled loops are kept between runs."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

_HERE = Path(__file__).parent


@contextlib.contextmanager
def loops_cache() -> Iterator[None]:
    """Have the loops that are imported inside this block cached in a folder that bears their sources' hash.

    The compiler itself looks only at the file that a loop stands in, so it would go on using a loop whose vector
    operations, in another file, have changed. (It minds the processor by itself.)
    """
    import numba

    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(_base() / f"loops-{_sources_hash()}")
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before


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


def _base() -> Path:
    """NUMBA_CACHE_DIR, or the first of these that can be written: beside the source, the user's cache, /tmp."""
    if given := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(given)
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dllama-glm"
    for folder in (_HERE / "__pycache__", user):
        if os.access(next(place for place in (folder, *folder.parents) if place.exists()), os.W_OK):
            return folder
    folder = Path(tempfile.gettempdir()) / f"dllama-glm-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        # Somebody else's folder could hold somebody else's code.
        return Path(tempfile.mkdtemp(prefix="dllama-glm-"))
    return folder
