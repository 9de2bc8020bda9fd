"""Every kernel against numpy at every level of vector instructions that this processor has; the others as assembly."""

import json
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import pytest
from dllama_glm.kernels import dot, level
from dllama_glm.kernels.library import Library
from llvmlite import ir

from tests import forked
from tests.payload.runtime.runtime_ranks import files, patched
from tests.payload.runtime.runtime_scripts import PAYLOAD, environment_of, try_script

CHECKS = Path(__file__).with_name("kernel_checks.py")
HERE = level.possible()  # the best first, and last the one without vector instructions of any processor


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in (HERE[0], HERE[-1]) else pytest.mark.faults) for n in HERE]
)
def test_every_kernel_computes_what_numpy_computes(name: str):
    """Products, norms, attention, routing: each within rounding of the reference, on any number of threads."""
    _check(name, forked.WARM)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "vnni512" else pytest.mark.faults)
        for name in level.NEEDS
        if name not in level.possible()
    ],
)
def test_kernels_of_other_processors_compute_what_numpy_computes(name: str):
    """The levels that cannot run here: their registers, panels and order of bytes, around products put together."""
    _check(name, CHECKS.with_name("__pycache__"), "--without-instruction")


def _check(name: str, cache: Path, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, str(CHECKS), *words], capture_output=True, text=True, timeout=280, check=False,
        env=environment_of({"DLLAMA_SIMD": name, "NUMBA_CACHE_DIR": str(cache)}),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["level"] == name
    assert {check: pair for check, pair in found["checks"].items() if not pair[0] <= pair[1]} == {}
    assert len(found["checks"]) > 100


def test_a_level_that_the_processor_lacks_is_refused():
    """A level that is forced and cannot run is a usage error that names those that can."""
    done = try_script("dllama", "warm", DLLAMA_SIMD="vnni1024")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: DLLAMA_SIMD=vnni1024 cannot be run here; this processor has: ")


@pytest.mark.parametrize(("without", "taken"), [(("omp",), "tbb"), (("omp", "tbb"), "workqueue")])
def test_threads_run_without_libgomp_too(without: tuple[str, ...], taken: str, converted: Path):
    """Where libgomp is missing the plan's requirements have tbb; without both there is a note, and the same text."""
    if taken == "tbb" and platform.machine() != "x86_64":
        pytest.skip("tbb's wheels are for x86-64")
    lost = "".join(f"sys.modules['numba.np.ufunc.{name}pool'] = None; " for name in without)
    words = [
        "inference",
        *files(converted, "base"),
        "--prompt",
        "The capital of France is",
        "--json",
        "--nthreads",
        "2",
    ]
    patch = f"{lost}from dllama_glm.runtime import machine; machine.cores = lambda: 2"
    told = subprocess.run(
        [*patched("dllama", patch), *words], capture_output=True, text=True, timeout=120, check=True,
        env=environment_of({"NUMBA_NUM_THREADS": "2"}),
    )  # fmt: skip
    document = json.loads(told.stdout)
    assert (document["text"], document["runtime"]["threads"]) == (" Paris.", 2)
    assert document["runtime"]["threading"] == taken
    assert ("install libgomp1, or tbb by pip" in told.stderr) == (taken == "workqueue")
    assert re.search(r"^tbb==[\d.]+ ;", (PAYLOAD / "requirements.txt").read_text(), re.MULTILINE)


def assembly(build: Any, lanes: int, triple: str, processor: str) -> str:
    """What LLVM makes of a product of bytes for a processor."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = ir.Module()
    module.triple = triple
    sums, codes = ir.VectorType(ir.IntType(32), lanes), ir.VectorType(ir.IntType(8), 4 * lanes)
    kinds = [kind.as_pointer() for kind in (sums, codes, codes)]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), "product")
    b = ir.IRBuilder(function.append_basic_block())
    b.store(build(b, *(b.load(argument) for argument in function.args)), function.args[0])
    b.ret_void()
    target = llvm.Target.from_triple(triple).create_target_machine(cpu=processor, opt=3)
    return target.emit_assembly(llvm.parse_assembly(str(module)))


@pytest.mark.parametrize(
    ("build", "lanes", "triple", "processor", "instruction"),
    [
        (dot.vnni, 16, "x86_64-linux-gnu", "znver4", "vpdpbusd\t(%rdx), %zmm"),
        (dot.vnni, 8, "x86_64-linux-gnu", "alderlake", "{vex}\tvpdpbusd\t(%rdx), %ymm"),
        (dot.neon, 4, "aarch64-linux-gnu", "neoverse-n1", "sdot\tv0.4s"),
    ],
    ids=["vnni512", "avxvnni", "neon"],
)
def test_products_of_bytes_are_one_instruction(build: Any, lanes: int, triple: str, processor: str, instruction: str):
    """32 or 64 products and their sums in lanes are one instruction where the processor has it."""
    text = assembly(build, lanes, triple, processor)
    assert instruction in text
    assert "mul" not in text


READY = """
import sys
sys.path.insert(0, sys.argv[1])
from dllama_glm.quantise.cache import loops_cache
with loops_cache():
    from dllama_glm.devices import cpu
from dllama_glm.kernels import build
print(len(build._native), len(build._alive))
"""

COUNTED = """
import atexit
from dllama_glm.cli import warm
warm.cores = lambda: 2
atexit.register(lambda: print(len(sys.modules["dllama_glm.kernels.build"]._alive)))
"""


@pytest.mark.parametrize("empty", [False, pytest.param(True, marks=pytest.mark.faults)])
def test_kernels_that_were_compiled_ahead_are_loaded_without_the_compiler(tmp_path: Path, *, empty: bool):
    """`dllama warm` fills an empty cache, by several processes where it can; then one is enough and compiles none."""
    where = {"NUMBA_CACHE_DIR": str(tmp_path if empty else forked.WARM)}
    done = subprocess.run(
        [*patched("dllama", COUNTED), "warm"], capture_output=True, text=True, timeout=250, check=True,
        env=environment_of(where),
    )  # fmt: skip
    ready, compiled_by_itself = done.stdout.splitlines()
    assert ready.startswith("the kernels are ready (")
    assert compiled_by_itself == "0"
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".bin"]
    alone = patched("dllama", "from dllama_glm.cli import warm; warm.cores, warm.multiprocessing = lambda: 2, None")
    subprocess.run([*alone, "warm"], env=environment_of(where), capture_output=True, timeout=250, check=True)
    words = [sys.executable, "-c", READY, str(PAYLOAD)]
    told = subprocess.run(words, capture_output=True, text=True, env=environment_of(where), timeout=250, check=True)
    kernels, compiled = map(int, told.stdout.split())
    assert kernels > 40
    assert compiled == 0


def test_of_processes_that_compile_together_one_takes_a_kernel(tmp_path: Path):
    """Whoever comes first to a kernel compiles it; to the others it is code that lies elsewhere."""
    one, other = Library(), Library()
    one.share(tmp_path)
    other.share(tmp_path)
    assert one.address("dllama_gate") is None
    assert other.address("dllama_gate") is not None
    assert other.address("dllama_norm") is None
    assert one.address("dllama_norm") is not None
