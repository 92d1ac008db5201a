"""Whether weights were trained with what is asked of them."""

from __future__ import annotations

from cinesynth.errors import InputError
from cinesynth.models.catalogue import shipped_with
from cinesynth.models.conditioning import ConditionSet
from cinesynth.types import FURTHER_CONDITIONS, ClinicalPrior

WORDS = {
    "rv_edv_ml": "RV end-diastolic volume",
    "rv_esv_ml": "RV end-systolic volume",
    "myo_mass_g": "myocardial mass",
    "vendor": "vendor",
}


def check_known(prior: ClinicalPrior, told: ConditionSet) -> None:
    """`InputError` where ``prior`` asks for a condition or a vendor that is not among what a model is ``told``."""
    for name in FURTHER_CONDITIONS:
        if getattr(prior, name) is not None and name not in told.names:
            raise InputError(f"these weights were not trained with {WORDS[name]} ({name})", hint=_who_knows(name))
    if prior.vendor is not None and told.vendor_index(prior.vendor) == 0:
        known = f"one of {', '.join(told.vendors)}" if told.vendors else "their training knew none: leave it out"
        raise InputError(f"vendor {prior.vendor!r} is not known to these weights", hint=known)


def _who_knows(name: str) -> str:
    knowing = shipped_with(name)
    if knowing:
        return f"leave it out, or give weights that know it: --weights {' or '.join(knowing)}"
    return f"leave it out, or train weights with {name} among the conditions: none of those that ship know it"
