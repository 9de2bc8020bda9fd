"""Upstream's C++ beside the runtime, where a folder of it, built, is named."""

import re
import subprocess
from pathlib import Path

from runtime_models import BenchModel

_PROMPT = "a " * 100


def tokens_per_second(checkout: Path, model: BenchModel, tokenizer: Path, threads: int) -> tuple[float, float] | None:
    """(prompt, decode) by its own count, wall; None where it does not run the model."""
    words = [str(checkout.resolve() / "dllama"), "inference", "--model", str(model.m), "--tokenizer", str(tokenizer)]
    words += ["--prompt", _PROMPT, "--steps", "160", "--nthreads", str(threads), "--buffer-float-type", "q80"]
    run = subprocess.run(words, capture_output=True, text=True, check=False)
    found = re.findall(r"tokens/s:\s*([\d.]+)", run.stdout)
    return None if run.returncode or len(found) < 2 else (float(found[-2]), float(found[-1]))


def write_tokenizer(path: Path) -> None:
    """A tokenizer of as many tokens as the models have rows: single bytes, and fillers."""
    from dllama_glm.formats import tokenizer_file

    tokens = [bytes([i]) for i in range(256)] + [b"%05d" % i for i in range(256, 32000)]
    scores = tuple(-float(i) for i in range(32000))
    file = tokenizer_file.TokenizerFile(
        tokens=tuple(tokens), scores=scores, bos_id=31990, eos_ids=(31991,), add_bos=True
    )
    tokenizer_file.write(path, file)
