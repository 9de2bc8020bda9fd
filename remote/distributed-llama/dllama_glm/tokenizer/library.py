"""Hugging Face's tokenizers library at arm's length: what a stranger's tokenizer makes of it is an error of ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from dllama_glm.formats.tokenizer_file import TokenizerError


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Raise TokenizerError, saying `what` and why, for whatever the library raises.

    That is bare Exception for what it does not accept, and for its own faults a panic, which is no Exception at all.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError, TokenizerError):
        raise
    except BaseException as error:  # noqa: BLE001 - a panic is told by no other kind
        raise TokenizerError(f"{what}: {error}") from None
