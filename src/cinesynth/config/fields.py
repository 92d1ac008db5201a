"""What every settings class is made of: its base, and the ranges that numbers share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0.0, le=1000.0)]
Spacing = Annotated[float, Field(ge=0.5, le=25.0)]


class Settings(BaseModel):
    """Base of every node of the tree."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)
