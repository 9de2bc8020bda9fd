"""What a verification found."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Difference:
    """The first differing block of a run of checked values: 32 values of one row (`block` counts within the row).

    `offset` is the first differing byte of the file.
    """

    tensor: str
    row: int
    block: int
    offset: int

    def __str__(self) -> str:
        return f"{self.tensor}, row {self.row}, block {self.block} (byte {self.offset})"


@dataclass(frozen=True)
class TensorReport:
    """One tensor: blocks checked, blocks that differ, and what storing it costs (largest and root mean square)."""

    name: str
    float_type: str
    blocks: int
    checked: int
    different: int
    max_error: float
    rms_error: float


@dataclass(frozen=True)
class Report:
    """`header` are differences of header and sizes in words; where there are any, no tensor was compared.

    `differences` are the first places in file order (at most 100); the tensors' `different` counts all.
    """

    file: str
    folder: str
    header: tuple[str, ...]
    differences: tuple[Difference, ...]
    tensors: tuple[TensorReport, ...]
    source_bytes: int
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether everything that was checked is equal."""
        return not self.header and not self.differences

    @property
    def checked(self) -> int:
        """Blocks compared."""
        return sum(tensor.checked for tensor in self.tensors)

    @property
    def blocks(self) -> int:
        """Blocks in the file."""
        return sum(tensor.blocks for tensor in self.tensors)

    def as_json(self) -> dict[str, Any]:
        """The report as one JSON document."""
        return {
            "ok": self.ok,
            "file": self.file,
            "folder": self.folder,
            "header": list(self.header),
            "differences": [vars(difference) for difference in self.differences],
            "blocks": self.blocks,
            "checked": self.checked,
            "seconds": round(self.seconds, 3),
            "mb_per_s": round(self.source_bytes / 1e6 / max(self.seconds, 1e-9), 1),
            "tensors": [vars(tensor) for tensor in self.tensors],
        }
