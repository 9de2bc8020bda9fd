"""Whether the libraries are there and torch computes: `python -m dllama_glm.cli.probe`, before any download."""

import importlib
import time
from typing import Any

from dllama_glm.runtime.evidence import Place, on_cpu, publish

LIBRARIES = ("huggingface_hub", "jinja2", "numba", "numpy", "safetensors", "tokenizers", "torch")
SECONDS = {"cuda": 3.0, "cpu": 0.1}  # on a card long enough for whoever samples it to see it at work
WIDTH = {"cuda": 4096, "cpu": 512}


def gflops(torch: Any, kind: str, index: int) -> float:
    """How fast a card, or the processor, multiplies matrices, in 10^9 operations a second; RuntimeError: wrongly."""
    width, device = WIDTH[kind], torch.device(kind, index if kind == "cuda" else None)
    ones = torch.ones((width, width), device=device)
    if float((ones @ ones)[-1, -1]) != width:
        raise RuntimeError(f"{device} computes wrongly")
    began, products = time.monotonic(), 0
    while (passed := time.monotonic() - began) < SECONDS[kind]:
        products += 1
        float((ones @ ones)[0, 0])
    return products * 2 * width**3 / 1e9 / max(passed, 1e-9)


def main() -> None:
    """Import everything, compute on each card or else on the processor, say and publish how fast the slowest is."""
    modules = {name: importlib.import_module(name) for name in LIBRARIES}
    torch = modules["torch"]
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    speed = min(gflops(torch, "cuda" if cards else "cpu", index) for index in range(max(cards, 1)))
    name = torch.cuda.get_device_name(0) if cards else "cpu"
    details = f"torch {torch.__version__}"
    place = Place(name, f"{cards}x {name}, {details}, CUDA {torch.version.cuda}") if cards else on_cpu(details)
    publish({"torch_gflops": round(speed, 1), "gpus_used": cards}, place)
    print(f"torch {torch.__version__} multiplies at {speed:,.0f} GFLOP/s on {place.measured_on}")


if __name__ == "__main__":
    main()
