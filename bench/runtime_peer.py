"""llama.cpp for comparison: llama-cpp-python from its source package, compiled for this processor, once."""

import os
import subprocess
import sys
from pathlib import Path

VERSION = "0.3.36"
GGUF = "0.19.0"
_OPTIONS = "-DGGML_NATIVE=ON -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF -DMTMD_BUILD=OFF"


def folder() -> Path:
    """Where it is built: outside the environment, once for each version."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "gpuplan-bench" / f"llama-cpp-python-{VERSION}"


def build() -> Path:
    """Build it if it is not there (which takes minutes, and a C++ compiler and cmake); return its folder."""
    place = folder()
    if (place / "llama_cpp").is_dir() and (place / "gguf").is_dir():
        return place
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(place)]
    subprocess.run([*pip, f"gguf=={GGUF}"], check=True)
    environment = os.environ | {"CMAKE_ARGS": _OPTIONS}
    words = [*pip, "--no-binary", "llama-cpp-python", f"llama-cpp-python=={VERSION}"]
    subprocess.run(words, check=True, env=environment)
    return place
