"""What a section of the tree is, and the types that several of them use."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr


def _long_enough(value: SecretStr) -> SecretStr:
    if 0 < len(value.get_secret_value()) < 10:
        raise ValueError("it is shorter than 10 characters")
    return value


def _a_date(value: str) -> str:
    date.fromisoformat(value)
    return value


Port = Annotated[int, Field(ge=1, le=65535)]
AccessKey = Annotated[SecretStr, AfterValidator(_long_enough)]
Day = Annotated[str, AfterValidator(_a_date)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
