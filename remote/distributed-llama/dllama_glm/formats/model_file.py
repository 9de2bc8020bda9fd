"""Reading a `.m` file: header, layout and mapped tensors."""

import mmap
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dllama_glm.formats.float_types import FloatType, decode
from dllama_glm.formats.model_header import Header, RopeScaling, header_from_pairs
from dllama_glm.formats.model_keys import (
    MAX_PAIRS,
    PAIR_BYTES,
    PREFIX_BYTES,
    Arch,
    Key,
    ModelFileError,
    RopeType,
    Scoring,
    decode_pairs,
    encode_pairs,
)
from dllama_glm.formats.model_layout import TensorSlot, layout

__all__ = [
    "Arch",
    "FloatType",
    "Header",
    "Key",
    "MappedModel",
    "ModelFileError",
    "RopeScaling",
    "RopeType",
    "Scoring",
    "TensorSlot",
    "encode_pairs",
    "layout",
    "read_header",
]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.float32]


def read_header(path: Path | str) -> Header:
    """Read and check the header alone. Raises ModelFileError, naming the file, if it is no model file."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(PREFIX_BYTES + MAX_PAIRS * PAIR_BYTES)
            return header_from_pairs(decode_pairs(start, file_bytes=path.stat().st_size))
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None


class MappedModel:
    """A whole `.m` file, mapped read-only; what it hands out are views that keep the mapping alive.

    The constructor checks that the file has exactly the size that its header calls for (ModelFileError otherwise).
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.header = read_header(self.path)
        self.slots: dict[str, TensorSlot] = {slot.name: slot for slot in layout(self.header)}
        needed = max(slot.end for slot in self.slots.values())
        size = self.path.stat().st_size
        if size != needed:
            raise ModelFileError(
                f"{self.path}: has {size} bytes where its header calls for {needed} ({size - needed:+d})"
            )
        with self.path.open("rb") as file:
            self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._bytes: Bytes = np.frombuffer(self.map, dtype=np.uint8)

    def slot(self, name: str) -> TensorSlot:
        """The place of one tensor. Raises ModelFileError if the model has none of that name."""
        try:
            return self.slots[name]
        except KeyError:
            raise ModelFileError(f"{self.path}: has no tensor {name}") from None

    def raw(self, name: str) -> Bytes:
        """The tensor's bytes as they lie in the file: flat, read-only, not copied, at any alignment."""
        slot = self.slot(name)
        return self._bytes[slot.offset : slot.end]

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Bytes:
        """Rows start..stop of a matrix as [rows, bytes of a row], not copied; a vector is one row."""
        slot = self.slot(name)
        width = slot.float_type.nbytes(slot.columns)
        return self.raw(name).reshape(-1, width)[start:stop]

    def values(self, name: str, start: int = 0, stop: int | None = None) -> Floats:
        """Rows start..stop decoded to float32 in a new array: [rows, columns], or [values] for a vector."""
        slot = self.slot(name)
        flat = decode(np.ascontiguousarray(self.rows(name, start, stop)).reshape(-1), slot.float_type)
        return flat if len(slot.shape) == 1 else flat.reshape(-1, slot.columns)

    def close(self) -> None:
        """Give the mapping back, once no view of it is left (before that it stays; the process's end frees it)."""
        self._bytes = np.empty(0, dtype=np.uint8)
        try:
            self.map.close()
        except BufferError:
            return
