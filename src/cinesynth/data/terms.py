"""What datasets are known by: spellings of vendors and diagnosis groups, and their terms of use.

Licences and citations of datasets known by name are listed here or in a layout that ships with the package. For others,
the user's layout states them, and ``dataset.json`` in the dataset folder keeps them. Otherwise they are unknown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cinesynth.data.dataset_table import TABLE_FILE
from cinesynth.data.sources.layout import layouts, load_layout
from cinesynth.errors import DataError
from cinesynth.types import UNKNOWN_VENDOR, Diagnosis

UNKNOWN = "unknown terms"
RESEARCH = "research and non-commercial use"
OPEN = ("CC0-1.0", "Apache-2.0", "CC-BY-4.0", "CC-BY-SA-4.0")
LICENCES = (*OPEN, "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", RESEARCH, UNKNOWN)
"""From permissive to strict. Any other licence cannot be compared, and counts as strict as `RESEARCH`."""
DATASET = "dataset.json"
"""File of a dataset folder that keeps the terms stated by its sources."""


@dataclass(frozen=True)
class Terms:
    """Terms of use of one dataset. ``licence`` is an SPDX identifier if there is one; ``note`` names its origin."""

    licence: str
    citation: str = ""
    note: str = ""


UNSPECIFIED = Terms(UNKNOWN)

KNOWN: Mapping[str, Terms] = MappingProxyType(
    {
        "acdc": Terms("CC-BY-NC-SA-4.0", "Bernard et al., IEEE TMI 2018, doi:10.1109/TMI.2018.2837502"),
        "dsb": Terms(RESEARCH, "Second Annual Data Science Bowl, Kaggle 2015", "rules of the competition"),
        "mnms": Terms(
            RESEARCH, "Campello et al., IEEE TMI 2021, doi:10.1109/TMI.2021.3090082", "terms of the M&Ms challenge"
        ),
        "mnms2": Terms(
            RESEARCH,
            "Martin-Isla et al., IEEE JBHI 2023, doi:10.1109/JBHI.2023.3267857",
            "terms of the M&Ms-2 challenge",
        ),
        "phantom": Terms("Apache-2.0", note="analytic hearts of cinesynth: the terms of the code"),
        "scd": Terms("CC0-1.0", "Radau et al., The MIDAS Journal 2009, hdl:10380/3070"),
    }
)
"""By dataset name, as in the column ``dataset`` of a dataset's table."""


def terms_of(folder: Path, datasets: Iterable[str]) -> dict[str, Terms]:
    """The terms of the named ``datasets`` in the dataset folder ``folder``, `UNKNOWN` where nothing states them.

    `DataError` if its ``dataset.json`` is damaged.
    """
    # A dataset that was ingested with a layout that ships may come from a version that did not keep its terms.
    shipped = [load_layout(name) for name in layouts()]
    of_layouts = {layout.dataset: Terms(layout.licence, layout.citation, layout.note) for layout in shipped}
    known = {**of_layouts, **KNOWN, **stated_terms(folder)}
    return {name: known.get(name, UNSPECIFIED) for name in sorted(set(datasets))}


def stated_terms(folder: Path) -> dict[str, Terms]:
    """The terms that the sources of the dataset in ``folder`` stated, by dataset name; empty for older folders."""
    path = Path(folder) / DATASET
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return {name: Terms(**fields) for name, fields in content.get("terms", {}).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} cannot be read: {error}", hint="make it readable, or ingest the dataset again"
        ) from None


def about_dataset(terms: Mapping[str, Terms]) -> dict[str, Any]:
    """The content of ``dataset.json`` for these terms by dataset name, read back by `stated_terms`."""
    stated = {name: asdict(each) for name, each in sorted(terms.items())}
    return {"format": 1, "kind": "cinesynth dataset", "table": TABLE_FILE, "terms": stated}


def combined(terms: Mapping[str, Terms]) -> dict[str, Any]:
    """The terms of weights trained on all these datasets: the strictest licence, each licence, and the citations."""
    ordered = dict(sorted(terms.items()))
    return {
        "licence": strictest(ordered.values()),
        "licences": {name: each.licence for name, each in ordered.items()},
        "citations": cited(ordered.values()),
    }


def strictest(terms: Iterable[Terms]) -> str:
    """The strictest licence; several equally strict ones are joined by "and", since all of them apply."""
    strictness = {
        each.licence: LICENCES.index(each.licence if each.licence in LICENCES else RESEARCH) for each in terms
    }
    top = max(strictness.values())
    return " and ".join(sorted(licence for licence, strict in strictness.items() if strict == top))


def cited(terms: Iterable[Terms]) -> list[str]:
    """Everything users should cite, each once."""
    return list(dict.fromkeys(each.citation for each in terms if each.citation))


# --- Vendors and diagnosis groups: from the spelling of each dataset to that of this package -----------------------

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


def diagnosis_of(group: str, more: Mapping[str, Diagnosis] = MappingProxyType({})) -> Diagnosis:
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
