"""What is asked for one case: with the weights, everything that decides its voxels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cinesynth.cases.schema import prior_from_json, prior_to_json
from cinesynth.errors import InputError
from cinesynth.types import ClinicalPrior

FRAME_RANGE = (2, 200)
FRAMES = 30
"""Of a cycle, where nobody asks for another number."""
MAX_TRIES = 100
SETTINGS = ("seed", "frames", "es_index", "steps", "guidance", "tries", "control")


@dataclass(frozen=True)
class Request:
    """One case. ``None`` leaves the choice to the weights; `InputError` where a value cannot be met."""

    prior: ClinicalPrior
    seed: int = 0
    frames: int = FRAMES
    es_index: int | None = None
    """Zero-based frame of ES; ED is frame 0. None: at the diagnosis' usual share of the cycle."""
    steps: int | None = None
    guidance: float | None = None
    tries: int = 3
    """Draws allowed for an acceptable anatomy, and again for an acceptable motion."""
    control: bool = True
    """Move the sampled latents until the masks have the requested volumes."""
    anatomy: Request | None = None
    """Keep the anatomy of this request's case, bit for bit, and draw the motion alone: a counterfactual."""

    def __post_init__(self) -> None:
        low, high = FRAME_RANGE
        if not low <= self.frames <= high:
            raise InputError(f"{self.frames} frames are outside {low}-{high}", hint="a cine has 20-35 frames a beat")
        if self.es_index is not None and not 1 <= self.es_index < self.frames:
            raise InputError(
                f"ES frame {self.es_index} is not within 1-{self.frames - 1}",
                hint="frames count from 0 and ED is frame 0",
            )
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed {self.seed} is outside 0 to 2^63 - 1", hint="give a whole number, 0 or more")
        self._check_sampling()
        if self.anatomy is not None and self.prior.slices != self.anatomy.prior.slices:
            raise InputError(
                f"{self.prior.slices} slices for an anatomy that was asked with {self.anatomy.prior.slices}",
                hint="an anatomy that is kept has its slices: give the same",
            )

    def _check_sampling(self) -> None:
        if not 1 <= self.tries <= MAX_TRIES:
            raise InputError(f"{self.tries} tries are outside 1-{MAX_TRIES}", hint="3 is usual")
        if self.steps is not None and not 1 <= self.steps <= 1000:
            raise InputError(f"{self.steps} sampling steps are outside 1-1000", hint="8-30 is usual")
        if self.guidance is not None and not 0.0 <= self.guidance <= 20.0:
            raise InputError(f"guidance {self.guidance:g} is outside 0-20", hint="1 is none, 1.5-3 is usual")

    def to_json(self) -> dict[str, object]:
        """Plain values; `from_json` reads them back."""
        rest = {name: getattr(self, name) for name in SETTINGS}
        kept = {} if self.anatomy is None else {"anatomy": self.anatomy.to_json()}
        return {**prior_to_json(self.prior), **rest, **kept}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Request:
        """The request that a case's sidecar records, to make the case again."""
        kept = values.get("anatomy")
        rest = {name: values[name] for name in SETTINGS}
        return cls(prior_from_json(values), **rest, anatomy=None if kept is None else cls.from_json(kept))
