"""What a page or a program may ask for, checked before a job is taken."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from cinesynth.synthesis.request import FRAME_RANGE, FRAMES, Request
from cinesynth.types import ClinicalPrior, Diagnosis

Seed = Annotated[int, Field(ge=0, lt=2**53)]
"""As far as JavaScript counts."""
Frames = Annotated[int, Field(ge=FRAME_RANGE[0], le=60)]
Tries = Annotated[int, Field(ge=1, le=5)]
Percent = Annotated[float, Field(ge=3.0, le=95.0)]
Name = Annotated[str, Field(min_length=22, max_length=22)]
Vendor = Annotated[str, Field(max_length=40)]
Order = Literal["auto", "base_first", "apex_first"]
LARGEST_COHORT = 100


class Wish(BaseModel):
    """What all of them share."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    diagnosis: Annotated[str, Field(max_length=10)] = "UNKNOWN"
    ef: Percent | None = None
    vendor: Vendor | None = None
    frames: Frames = FRAMES
    seed: Seed = 0
    tries: Tries = 3
    control: bool = True


class GenerateRequest(Wish):
    """One heart."""

    edv: float | None = None
    slices: int | None = None
    rv_edv: float | None = None
    rv_esv: float | None = None
    mass: float | None = None
    steps: Annotated[int, Field(ge=1, le=100)] | None = None
    guidance: Annotated[float, Field(ge=0.0, le=10.0)] | None = None
    keep: Name | None = None
    """A result whose anatomy is kept."""

    def prior(self) -> ClinicalPrior:
        """What is asked; `InputError` where no heart is like that."""
        prior = ClinicalPrior(
            Diagnosis.parse(self.diagnosis),
            self.edv,
            slices=self.slices,
            rv_edv_ml=self.rv_edv,
            rv_esv_ml=self.rv_esv,
            myo_mass_g=self.mass,
            vendor=self.vendor,
        )
        return prior if self.ef is None else prior.with_ef(self.ef)

    def request(self) -> Request:
        """The request of the heart."""
        return Request(
            self.prior(),
            self.seed,
            frames=self.frames,
            steps=self.steps,
            guidance=self.guidance,
            max_attempts=self.tries,
            match_volumes=self.control,
        )


class CohortWish(GenerateRequest):
    """Several."""

    count: Annotated[int, Field(ge=1, le=LARGEST_COHORT)] = 5
    drawn: bool = False
    """Whether volumes and slices are drawn from the training subjects."""
    table: Annotated[str, Field(max_length=50_000)] | None = None
    """Rows of a cohort's file (docs/cohorts.md), which ask instead of everything else."""
    table_form: Literal["csv", "yaml"] = "csv"


class AnimateWish(Wish):
    """A patient's heart."""

    upload: Name
    variation: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    frame: Annotated[int, Field(ge=0, le=1000)] | None = None
    slice_order: Order = "auto"


class AnnotateWish(BaseModel):
    """A patient's cine."""

    model_config = ConfigDict(extra="forbid")

    upload: Name
    slice_order: Order = "auto"


# --- What a server may say -------------------------------------------------------------------------------------------


_PATH = re.compile(r"(?<!\w)(?:[A-Za-z]:|\.{1,2})?[/\\](?:[^\s/\\:;,'\"()]+[/\\])+([^\s/\\:;,'\"()]*)")


def without_paths(text: str) -> str:
    """``text`` with the last part of each path alone."""
    return _PATH.sub(lambda found: found[1] or "a folder", text)
