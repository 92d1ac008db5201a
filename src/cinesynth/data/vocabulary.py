"""Vendors and diagnosis groups: from the spelling of each dataset to that of this package."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from cinesynth.types import Diagnosis

UNKNOWN_VENDOR = "unknown"
_VENDORS = {
    "siemens": "Siemens",
    "philips": "Philips",
    "ge": "GE",
    "general": "GE",
    "canon": "Canon",
    "toshiba": "Canon",
}
"""By the first word of the manufacturer, which is often followed by division and country. Canon owns Toshiba."""
_GROUPS = {
    "NORMAL": Diagnosis.NOR,
    "N": Diagnosis.NOR,  # Sunnybrook
    "HYP": Diagnosis.HCM,  # Sunnybrook: hypertrophy
    "HF-I": Diagnosis.MINF,  # Sunnybrook: heart failure with infarct
    "HF-NI": Diagnosis.DCM,  # Sunnybrook: heart failure without infarct
    "ARV": Diagnosis.RV,  # M&Ms: abnormal right ventricle
    "DLV": Diagnosis.DCM,
    "DRV": Diagnosis.RV,
}
"""Groups that have another name here. HHD, AHS, IHD, LVNC, ARR, FALL, CIA, TRI and others have no counterpart."""
NO_GROUPS: Mapping[str, Diagnosis] = MappingProxyType({})


def diagnosis_of(group: str, more: Mapping[str, Diagnosis] = NO_GROUPS) -> Diagnosis:
    """The diagnosis of a group as its source spells it (in any case); UNKNOWN if it has no counterpart.

    ``more`` maps further groups of the source and takes precedence.
    """
    name = group.strip().upper()
    own = {key.strip().upper(): value for key, value in more.items()}
    ours = {d.value: d for d in Diagnosis}
    return own.get(name) or _GROUPS.get(name) or ours.get(name, Diagnosis.UNKNOWN)


def vendor_of(text: str) -> str:
    """The short name of a manufacturer: ``GE MEDICAL SYSTEMS`` is GE. Others stay as they are."""
    first = re.match(r"[A-Za-z]*", text.strip())
    known = _VENDORS.get(first[0].lower()) if first else None
    return known or text.strip() or UNKNOWN_VENDOR
