"""The header of a safetensors file, read strictly: each tensor's type, shape and bytes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from dllama_glm.checkpoint.jsonfile import parse_object

LENGTH_BYTES = 8
INCOMPLETE = "(incomplete download?)"
_MAX_HEADER = 100 << 20
_MAX_DIMENSIONS = 8
_ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1,
    "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4,
    "I64": 8, "U64": 8, "F64": 8, "C64": 8,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SourceTensor:
    """One tensor of a shard; `offset` counts bytes of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    offset: int
    nbytes: int

    @property
    def values(self) -> int:
        """How many values it has."""
        return prod(self.shape)


@dataclass(frozen=True)
class Shard:
    """One safetensors file: what it holds, and what is wrong with it (a file with problems may list no tensors)."""

    path: Path
    size: int
    modified_ns: int
    inode: int
    header: bytes
    tensors: tuple[SourceTensor, ...]
    problems: tuple[str, ...]

    @property
    def identity(self) -> tuple[int, int, int]:
        """What changes when the file is written to or replaced: size, time, inode."""
        return self.size, self.modified_ns, self.inode


def read_identity(path: Path) -> tuple[int, int, int]:
    """Size, time (ns) and inode of a file as it is now; zeros when it is not there."""
    try:
        stat = path.stat()
    except OSError:
        return 0, 0, 0
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def read_shard(path: Path) -> Shard:
    """Read one shard's header; whatever is wrong is in `problems`, nothing is raised."""
    identity = size, _, _ = read_identity(path)
    try:
        with path.open("rb") as file:
            header = file.read(header_bytes(file.read(LENGTH_BYTES), size))
    except FileNotFoundError:
        return Shard(path, 0, 0, 0, b"", (), (f"{path.name}: the link leads to no file {INCOMPLETE}",))
    except OSError as error:
        return Shard(path, 0, 0, 0, b"", (), (f"{path.name}: cannot be read: {error.strerror or error}",))
    except ValueError as error:
        return Shard(path, *identity, b"", (), (f"{path.name}: {error}",))
    return parse_shard(path, identity, header)


def parse_shard(path: Path, identity: tuple[int, int, int], header: bytes) -> Shard:
    """The shard whose header is known, wherever its file is; whatever is wrong is in `problems`."""
    tensors: list[SourceTensor] = []
    problems: list[str] = []
    size, data = identity[0], LENGTH_BYTES + len(header)
    try:
        entries = parse_object(header)
    except ValueError as error:
        return Shard(path, *identity, b"", (), (f"{path.name}: {error}",))
    for name, entry in entries.items():
        if name == "__metadata__":
            if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
                problems.append(f"{path.name}: __metadata__ is something other than text by name")
            continue
        try:
            tensors.append(_tensor(path, name, entry, data, size))
        except ValueError as error:
            problems.append(f"{path.name}: tensor {name!r} {error}")
    problems += _cut_off(path, tensors, size)
    if not problems:
        problems += _gaps(path, tensors, data, size)
    return Shard(path, *identity, header, tuple(tensors), tuple(problems))


def header_bytes(start: bytes, size: int) -> int:
    """Length of the header of a file of `size` bytes that begins with these eight. Raises ValueError, without its name.

    The header is UTF-8 JSON and lies behind these bytes.
    """
    if start.startswith(b"version "):
        raise ValueError("is a Git LFS pointer, not the weights: fetch the real file")
    if len(start) < LENGTH_BYTES:
        raise ValueError(f"is truncated: {size} bytes are too few for a safetensors file {INCOMPLETE}")
    length = int.from_bytes(start, "little")
    if not 2 <= length <= _MAX_HEADER:
        raise ValueError(f"is no safetensors file: it claims a header of {length} bytes")
    if LENGTH_BYTES + length > size:
        needed = LENGTH_BYTES + length
        raise ValueError(f"is truncated inside its header ({size} of at least {needed} bytes) {INCOMPLETE}")
    return length


def _cut_off(path: Path, tensors: Sequence[SourceTensor], size: int) -> list[str]:
    """One sentence for all tensors that reach over the file's end."""
    cut = [tensor for tensor in tensors if tensor.offset + tensor.nbytes > size]
    if not cut:
        return []
    whole = max(tensor.offset + tensor.nbytes for tensor in cut)
    amount = f"{len(cut)} of its {len(tensors)} tensors are not whole, the first of them {cut[0].name!r}"
    return [f"{path.name}: is truncated: {size:,} of {whole:,} bytes, {amount} {INCOMPLETE}"]


def _tensor(path: Path, name: str, entry: Any, data: int, size: int) -> SourceTensor:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError("is described by something other than dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str):
        raise ValueError(f"has the dtype {dtype!r}")  # noqa: TRY004 - a fault of the file, not of the caller
    if not _whole_numbers(shape) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"has the shape {shape!r}")
    if not _whole_numbers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"has the data_offsets {offsets!r}")
    start, end = data + offsets[0], data + offsets[1]
    needed = prod(shape) * _ITEM_BYTES.get(dtype, 0)
    if dtype in _ITEM_BYTES and end - start != needed and end <= size:
        raise ValueError(
            f"of dtype {dtype} and shape {shape} needs {needed} bytes, but data_offsets give {end - start}"
        )
    return SourceTensor(name, dtype, tuple(shape), path, start, end - start)


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 62 for item in value)


def _gaps(path: Path, tensors: Iterable[SourceTensor], data: int, size: int) -> list[str]:
    problems = []
    position, before = data, "the header"
    for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.nbytes)):
        if tensor.offset < position:
            problems.append(
                f"{path.name}: tensor {tensor.name!r} overlaps {before} by {position - tensor.offset} bytes"
            )
        elif tensor.offset > position:
            problems.append(
                f"{path.name}: {tensor.offset - position} bytes between {before} and {tensor.name!r} are no tensor's"
            )
        position, before = max(position, tensor.offset + tensor.nbytes), repr(tensor.name)
    if position < size:
        problems.append(f"{path.name}: has {size - position} bytes behind its last tensor")
    return problems
