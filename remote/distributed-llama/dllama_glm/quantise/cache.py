"""Where the compiled loops are kept: beside their source, else in the user's cache, else in a folder of our own."""

import os
import tempfile
from pathlib import Path


def prepare_cache() -> None:
    """Give numba a place that can be written, if it would find none. Call before the first import of numba."""
    if os.environ.get("NUMBA_CACHE_DIR"):
        return
    beside = Path(__file__).parent
    beside = beside / "__pycache__" if (beside / "__pycache__").exists() else beside
    if os.access(beside, os.W_OK):
        return
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    existing = next(folder for folder in (user, *user.parents) if folder.exists())
    if os.access(existing, os.W_OK):
        return
    folder = Path(tempfile.gettempdir()) / f"dllama-glm-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid == os.getuid():
        os.environ["NUMBA_CACHE_DIR"] = str(folder)
