"""The frozen value that everything of a plan is made of."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

Reader = Callable[[FieldInfo, object], object]


class Value(BaseModel):
    """A frozen value that refuses unknown keys.

    The context of a validation may be a function that reads what a file has for a field (config/fields.py).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _as_written(cls, written: object, info: ValidationInfo[Reader | None]) -> object:
        read = info.context
        return read(cls.model_fields[info.field_name], written) if read and info.field_name else written
