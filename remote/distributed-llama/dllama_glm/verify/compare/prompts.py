"""The texts that are compared where the user gives none: of several kinds, each a few dozen tokens."""

from pathlib import Path

from dllama_glm.runtime.errors import UsageError

BUILT_IN = (
    "The capital of France is Paris. The capital of Italy is Rome. The capital of Spain is",
    "Water boils at 100 degrees Celsius at sea level, and at a lower temperature on a mountain, because",
    "Once upon a time there was a miller who had three sons, a donkey and a cat. When he died, the sons shared",
    "def fibonacci(n: int) -> int:\n    if n < 2:\n        return n\n    return fibonacci(n - 1) +",
    "1, 2, 4, 8, 16, 32, 64,",
    "Question: A train leaves at 9:40 and arrives at 11:05. How long does it travel?\nAnswer:",
    "Der schnelle braune Fuchs springt über den faulen Hund. Auf Englisch heißt das:",
    '{"name": "Ada Lovelace", "born": 1815, "field": "mathematics"}\n{"name": "Alan Turing", "born":',
)


def read_prompts(path: Path | None) -> tuple[str, ...]:
    """The file's lines that are not empty, each a prompt; the built-in ones without a file. Raises UsageError."""
    if path is None:
        return BUILT_IN
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from None
    prompts = tuple(line for line in lines if line.strip())
    if not prompts:
        raise UsageError(f"{path} holds no prompt: one is expected on each line.")
    return prompts
