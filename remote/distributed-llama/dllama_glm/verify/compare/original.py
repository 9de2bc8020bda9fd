"""The original model, computed by transformers with the checkpoint's own weights. Nothing else imports them."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np

from dllama_glm.runtime.errors import DllamaError
from dllama_glm.verify.compare.figures import Logits

DTYPES = ("float32", "bfloat16")


def check_installed() -> None:
    """Raise DllamaError where torch or transformers is missing."""
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise DllamaError(
            f"dllama compare computes the original with transformers, and {' and '.join(missing)} cannot be imported "
            "here: pip install torch transformers"
        )


class Original:
    """A checkpoint's model; it takes the memory of all its weights in `dtype`. Raises DllamaError if it cannot load."""

    def __init__(self, folder: Path, dtype: str, threads: int) -> None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a folder is compared: nothing is to be looked up elsewhere
        import torch
        import transformers

        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        torch.set_num_threads(threads)
        self._torch = torch
        try:
            self._model, loaded = transformers.AutoModelForCausalLM.from_pretrained(
                folder, dtype=getattr(torch, dtype), local_files_only=True, output_loading_info=True
            )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise DllamaError(f"{folder}: transformers cannot load it: {_first_line(error)}") from error
        lost = sorted(loaded["missing_keys"]) + sorted(str(keys[0]) for keys in loaded["mismatched_keys"])
        if lost:
            # transformers would compute with random numbers in their place.
            raise DllamaError(
                f"{folder}: transformers finds no weights for {lost[0]} ({len(lost)} in all): it knows another layout"
            )
        self._model.eval()
        self._model.generation_config = transformers.GenerationConfig(do_sample=False, pad_token_id=0)

    def logits(self, ids: list[int]) -> Logits:
        """After every token: float32 [tokens, vocabulary]."""
        with self._torch.no_grad():
            found: Any = self._model(self._torch.tensor([ids]), use_cache=False).logits[0]
        values: Logits = found.float().numpy().astype(np.float32, copy=False)
        return values

    def greedy(self, ids: list[int], count: int) -> tuple[int, ...]:
        """The `count` tokens that always taking the best one gives."""
        tensor = self._torch.tensor([ids])
        with self._torch.no_grad():
            found = self._model.generate(
                tensor, attention_mask=self._torch.ones_like(tensor), max_new_tokens=count, min_new_tokens=count
            )
        return tuple(found[0, len(ids) :].tolist())


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
