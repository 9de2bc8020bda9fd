"""The machine code of the kernels, a file each in the cache, loaded without waking the compiler.

Taken from numba's own cache, fifty functions cost half a second at every start, most of it for typing rules that
compiled code has no use for.
"""

import hashlib
import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba
from numba import _helperlib
from numba.core.runtime import _nrt_python
from numba.np.ufunc import parallel

_ELSEWHERE = 1  # an address for code that another process compiles, and that is never called from here


class Library:
    """Kernels by name: loaded from the cache's files if they are there, otherwise written there."""

    def __init__(self) -> None:
        self._pattern = _pattern()
        self._read: set[Path] = set()
        self._ready: dict[str, tuple[str, bytes]] = {}  # wrapper's symbol, code
        self._engine: Any = None
        self._claims: Path | None = None

    def share(self, claims: Path) -> None:
        """From now on compile only, and of the kernels only those that no other process with this folder has begun."""
        self._claims = claims

    def address(self, name: str) -> int | None:
        """Where a kernel's code is, what it calls having been asked for before; None if it is to be compiled here."""
        if self._claims is not None:
            return None if self._claimed(self._claims / name) else _ELSEWHERE
        if name not in self._ready:
            self._look()
        if name not in self._ready:
            return None
        if self._engine is None:
            self._engine = _engine()
        symbol, code = self._ready[name]
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self._engine.finalize_object()
        return int(self._engine.get_function_address(symbol))

    @property
    def empty_folder(self) -> Path | None:
        """Where the kernels are kept, if nothing lies there for this processor yet."""
        self._look()
        return None if self._pattern is None or self._ready else self._pattern.parent

    def add(self, name: str, symbol: str, compiled: Any) -> None:
        """Write what was compiled to a file; where that is not possible it is compiled again the next time."""
        if self._pattern is None:
            return
        with suppress(OSError):
            code = compiled.serialize_using_object_code()[2][0]
            folder = self._pattern.parent
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
                file.write(json.dumps([name, symbol]).encode() + b"\n" + code)
            Path(file.name).replace(self._pattern.with_name(f"{self._pattern.name}-{name}.bin"))

    @staticmethod
    def _claimed(claim: Path) -> bool:
        try:
            claim.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _look(self) -> None:
        """Read the files that have come since the last look."""
        if self._pattern is None:
            return
        for path in sorted(set(self._pattern.parent.glob(f"{self._pattern.name}-*.bin")) - self._read):
            self._read.add(path)
            head, _, code = path.read_bytes().partition(b"\n")
            name, symbol = json.loads(head)
            self._ready[name] = symbol, code


def _pattern() -> Path | None:
    """How files for this processor begin, in the cache's folder (`quantise.cache`); None if nothing is cached."""
    if not numba.config.CACHE_DIR:
        return None
    features = llvm.get_host_cpu_features().flatten()
    digest = hashlib.sha256(f"{llvm.get_host_cpu_name()} {features}".encode()).hexdigest()[:12]
    return Path(numba.config.CACHE_DIR) / f"kernels-{digest}"


def _engine() -> Any:
    """An engine for ready code, with the names that numba's code refers to."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    helpers: Any = _helperlib  # a module in C
    for name, address in helpers.c_helpers.items():
        llvm.add_symbol(f"numba_{name}", address)
    memory: Any = _nrt_python  # another
    for name, address in memory.c_helpers.items():
        llvm.add_symbol(name if name.startswith("_") else f"NRT_{name}", address)
    memory.memsys_use_cpython_allocator()
    parallel._launch_threads()  # noqa: SLF001 - numba has no public way to start its threads
    machine = llvm.Target.from_default_triple().create_target_machine()
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)


library = Library()
