"""Bodies of API requests, validated before a job is queued."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cinesynth.synthesis.request import FRAME_RANGE, FRAMES, Request
from cinesynth.types import ClinicalPrior, Diagnosis

Name = Annotated[str, Field(min_length=22, max_length=22)]
Order = Literal["auto", "base_first", "apex_first"]
MAX_COHORT = 100
"""Cases of one cohort job; larger cohorts are for the command line."""
OLD_FIELDS = {
    "tries": "max_attempts",
    "control": "match_volumes",
    "drawn": "sample_priors",
    "table_form": "table_format",
}
"""Names of fields in version 0.1, still accepted."""


class CaseRequest(BaseModel):
    """Fields shared by all requests that generate a case."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    diagnosis: Annotated[str, Field(max_length=10)] = "UNKNOWN"
    ef: Annotated[float, Field(ge=3.0, le=95.0)] | None = None
    vendor: Annotated[str, Field(max_length=40)] | None = None
    frames: Annotated[int, Field(ge=FRAME_RANGE[0], le=60)] = FRAMES
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0  # also as text, as the page sends it
    max_attempts: Annotated[int, Field(ge=1, le=5)] = 3
    match_volumes: bool = True

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, values: Any) -> Any:
        return {OLD_FIELDS.get(key, key): v for key, v in values.items()} if isinstance(values, dict) else values

    @property
    def settings(self) -> dict[str, Any]:
        """The fields of `Request` that every kind of case has."""
        return {"frames": self.frames, "max_attempts": self.max_attempts, "match_volumes": self.match_volumes}


class GenerateRequest(CaseRequest):
    """One case."""

    edv: float | None = None
    slices: int | None = None
    rv_edv: float | None = None
    rv_esv: float | None = None
    mass: float | None = None
    steps: Annotated[int, Field(ge=1, le=100)] | None = None
    guidance: Annotated[float, Field(ge=0.0, le=10.0)] | None = None
    keep: Name | None = None
    """Identifier of a result whose anatomy is kept."""

    def request(self) -> Request:
        """The request for the pipeline; `InputError` for values that no heart has."""
        further = {"rv_edv_ml": self.rv_edv, "rv_esv_ml": self.rv_esv, "myo_mass_g": self.mass}
        diagnosis = Diagnosis.parse(self.diagnosis)
        prior = ClinicalPrior(diagnosis, self.edv, slices=self.slices, vendor=self.vendor, **further)
        prior = prior if self.ef is None else prior.with_ef(self.ef)
        return Request(prior, self.seed, steps=self.steps, guidance=self.guidance, **self.settings)


class CohortRequest(GenerateRequest):
    """Several cases."""

    count: Annotated[int, Field(ge=1, le=MAX_COHORT)] = 5
    sample_priors: bool = False
    """Sample volumes and slices from the training distribution."""
    table: Annotated[str, Field(max_length=50_000)] | None = None
    """Text of a cohort file, which replaces all other fields but the seed."""
    table_format: Literal["csv", "yaml"] = "csv"


class AnimateRequest(CaseRequest):
    """Animate an uploaded heart."""

    upload: Name
    variation: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    frame: Annotated[int, Field(ge=0, le=1000)] | None = None
    slice_order: Order = "auto"


class AnnotateRequest(BaseModel):
    """Segment an uploaded cine."""

    model_config = ConfigDict(extra="forbid")

    upload: Name
    slice_order: Order = "auto"


# --- Texts that leave the server -------------------------------------------------------------------------------------


_PATH = re.compile(r"(?<!\w)(?:[A-Za-z]:|\.{1,2})?[/\\](?:[^\s/\\:;,'\"()]+[/\\])+([^\s/\\:;,'\"()]*)")


def without_paths(text: str) -> str:
    """``text`` in which only the last component of each path is left."""
    return _PATH.sub(lambda found: found[1] or "a directory", text)
