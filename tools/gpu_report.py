"""What the kernels do on the card that is here: the tests, then GLM-4.5-Air's shapes with random weights made there.

usage: python tools/gpu_report.py [--tune]

Writes docs/gpu-report.md. `--tune` first tries tile sizes, and writes the best into the kernels' table. Under ten
minutes; without a card it says so, and exits with 1.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "gpu-report.md"
TEST_SECONDS = 240
CANDIDATES = {
    "inputs": {"pairs": [4, 8, 16], "blocks": [16, 32, 64], "warps": [2, 4, 8]},
    "attention": {"positions": [16, 32, 64], "splits": [8, 16, 32], "warps": [2, 4, 8]},
    "output": {"rows": [4, 8, 16], "blocks": [32, 64, 128], "warps": [2, 4, 8]},
    "route": {"warps": [2, 4, 8]},
    "expand": {"rows": [32, 64], "blocks": [16, 32, 64], "warps": [4, 8, 16]},
    "contract": {"rows": [4, 8, 16], "blocks": [16, 32, 64], "warps": [2, 4, 8]},
    "head": {"rows": [8, 16, 32], "blocks": [16, 32, 64], "warps": [2, 4, 8]},
}


def main() -> int:
    """Test, tune, measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tune", action="store_true")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "remote" / "distributed-llama"))
    from dllama_glm.devices.card import CardError, open_card

    try:
        card = open_card(0)
    except CardError as error:
        print(f"no measurement: {error}")
        return 1
    tested = _tests()
    from gpu_bench import Bench

    bench = Bench(card)
    if options.tune:
        for name, choices in CANDIDATES.items():
            print(name, bench.tune(name, choices))
        bench.keep_tiles()
    driver = _driver()
    PAGE.write_text(bench.page(tested, driver), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))
    return 0 if tested.startswith("passed") else 1


def _tests() -> str:
    tests = ROOT / "tests" / "payload" / "gpu"
    words = [sys.executable, "-m", "pytest", str(tests), "-q", "-p", "no:cacheprovider"]
    words += [f"--ignore={tests / 'test_gpu_budget.py'}"]  # it needs no card
    began = time.monotonic()
    try:
        environment = os.environ | {"DLLAMA_TEST_DEVICE": "cuda"}
        done = subprocess.run(
            words, cwd=ROOT, env=environment, timeout=TEST_SECONDS, check=False, capture_output=True, text=True
        )
    except subprocess.TimeoutExpired:
        return f"not finished within {TEST_SECONDS} s"
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr.strip()
    return f"{'passed' if done.returncode == 0 else 'FAILED'} in {time.monotonic() - began:.0f} s: {last}"


def _driver() -> str:
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else "unknown"


if __name__ == "__main__":
    sys.exit(main())
