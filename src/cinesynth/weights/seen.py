"""Which conditions training subjects had: what a model was never given, it cannot be asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cinesynth.errors import InputError
from cinesynth.types import UNCONDITIONAL, UNKNOWN_VENDOR, ClinicalPrior, Diagnosis

NUMBERS = ("lv_edv_ml", "lv_esv_ml", "slices", "rv_edv_ml", "rv_esv_ml", "myo_mass_g")
"""The numeric conditions."""


@dataclass(frozen=True)
class Seen:
    """What training subjects had: what a model was never given, it cannot be asked for.

    None is not known: weights of before say so of diagnoses only.
    """

    diagnoses: Sequence[str]
    vendors: Sequence[str] | None = None
    numbers: Sequence[str] | None = None  # names of numeric conditions

    @classmethod
    def of(cls, subjects: Sequence[ClinicalPrior], others: Sequence[ClinicalPrior] = ()) -> Seen:
        """What ``subjects`` had; of ``others``, phantoms beside patients, only which numbers are known."""
        return cls(
            sorted({p.diagnosis.value for p in subjects} - {Diagnosis.UNKNOWN.value}),
            sorted({p.vendor for p in subjects if p.vendor is not None}),
            [name for name in NUMBERS if any(getattr(p, name) is not None for p in (*subjects, *others))],
        )

    def lacks(self, prior: ClinicalPrior) -> list[str]:
        """The conditions that ``prior`` states and no training subject had."""
        vendor = (prior.vendor or UNKNOWN_VENDOR).strip().casefold()
        named = {
            "diagnosis": prior.diagnosis.value in {Diagnosis.UNKNOWN.value, *self.diagnoses},
            "vendor": self.vendors is None or vendor in {UNKNOWN_VENDOR, *(name.casefold() for name in self.vendors)},
        }
        known = NUMBERS if self.numbers is None else self.numbers
        numbers = {name: getattr(prior, name) is None or name in known for name in NUMBERS}
        return [name for name, seen in {**named, **numbers}.items() if not seen]

    def check(self, prior: ClinicalPrior) -> None:
        """`InputError` if ``prior`` states a condition that no training subject had."""
        lacking = self.lacks(prior)
        if not lacking:
            return
        text, known = {
            "diagnosis": (f"the diagnosis {prior.diagnosis.value}", self.diagnoses),
            "vendor": (f"the vendor {prior.vendor}", self.vendors),
        }.get(lacking[0], (f"a known {lacking[0]}", self.numbers))
        raise InputError(
            f"no training subject has {text}", hint=f"leave it out; these weights know {', '.join(known or ('none',))}"
        )

    def part(self, prior: ClinicalPrior) -> ClinicalPrior:
        """``prior`` without the conditions that no training subject had."""
        return replace(prior, **{name: getattr(UNCONDITIONAL, name) for name in self.lacks(prior)})
