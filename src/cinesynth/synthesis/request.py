"""The request for one case: together with the weights it determines every voxel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cinesynth.cases.schema import migrated_request, prior_from_json, prior_to_json
from cinesynth.errors import InputError
from cinesynth.types import ClinicalPrior, FloatArray, LabelArray

FRAME_RANGE = (2, 200)
"""Least and most frames of a generated cycle."""
FRAMES = 30
"""Default number of frames per cycle."""
MAX_ATTEMPTS = 100
"""Largest `Request.max_attempts`."""
SETTINGS = ("seed", "frames", "es_index", "steps", "guidance", "max_attempts", "match_volumes")
"""Fields of `Request` that its JSON form holds as they are."""


@dataclass(frozen=True, eq=False)
class KeptFrame:
    """The ED frame of a case, copied from its files: computed again, it may differ in its last bits."""

    image: FloatArray  # X Y Z in [-1, 1], in the steps that files store
    label: LabelArray  # X Y Z
    files: Mapping[str, str]  # SHA-256 of the files it was copied from
    made_on: str  # the machine of the case, for messages


@dataclass(frozen=True)
class Request:
    """One case. ``None`` leaves the choice to the weights.

    Raises `InputError` if a value is out of range, or contradicts the anatomy that is kept.
    """

    prior: ClinicalPrior
    seed: int = 0
    frames: int = FRAMES
    es_index: int | None = None
    """Zero-based frame of ES; ED is frame 0. None uses the typical systolic fraction of the diagnosis."""
    steps: int | None = None  # sampling steps of both diffusion models
    guidance: float | None = None
    """Classifier-free guidance scale of both diffusion models: 1 disables guidance, 0 ignores the prior."""
    max_attempts: int = 3  # attempts at an acceptable anatomy, and as many at an acceptable motion
    match_volumes: bool = True
    """Whether sampled latents are optimised until the masks have the requested volumes (`volume_matching`)."""
    anatomy: Request | None = None
    """Reuse the anatomy of this request's case and sample only the motion: a counterfactual."""
    frame: KeptFrame | None = field(default=None, compare=False, repr=False)
    """The ED frame of that anatomy, which the case then has bit for bit. It is no part of the JSON form."""

    def __post_init__(self) -> None:
        low, high = FRAME_RANGE
        if not low <= self.frames <= high:
            raise InputError(
                f"{self.frames} frames are outside {low}-{high}", hint="clinical cines have 20-35 frames per cycle"
            )
        if self.es_index is not None and not 1 <= self.es_index < self.frames:
            raise InputError(
                f"ES frame {self.es_index} is not within 1-{self.frames - 1}",
                hint="frames are counted from 0, and ED is frame 0",
            )
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed {self.seed} is outside 0 to 2^63 - 1", hint="give a non-negative integer")
        self._check_sampling()
        if self.anatomy is not None and self.prior.slices != self.anatomy.prior.slices:
            raise InputError(
                f"{self.prior.slices} slices were requested, but the kept anatomy has {self.anatomy.prior.slices}",
                hint="request the slices of the anatomy that you keep",
            )

    def _check_sampling(self) -> None:
        if not 1 <= self.max_attempts <= MAX_ATTEMPTS:
            raise InputError(
                f"max_attempts {self.max_attempts} is outside 1-{MAX_ATTEMPTS}", hint="3 attempts are usual"
            )
        if self.steps is not None and not 1 <= self.steps <= 1000:
            raise InputError(f"{self.steps} sampling steps are outside 1-1000", hint="8-30 steps are usual")
        if self.guidance is not None and not 0.0 <= self.guidance <= 20.0:
            raise InputError(f"guidance {self.guidance:g} is outside 0-20", hint="1 disables guidance, 1.5-3 is usual")

    def to_json(self) -> dict[str, object]:
        """Plain values, the inverse of `from_json`."""
        settings = {name: getattr(self, name) for name in SETTINGS}
        kept = {} if self.anatomy is None else {"anatomy": self.anatomy.to_json()}
        return {**prior_to_json(self.prior), **settings, **kept}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Request:
        """The request in a case's sidecar, under the keys of this release or of the one before."""
        values = migrated_request(values)
        kept = values.get("anatomy")
        settings = {name: values[name] for name in SETTINGS}
        return cls(prior_from_json(values), **settings, anatomy=None if kept is None else cls.from_json(kept))
