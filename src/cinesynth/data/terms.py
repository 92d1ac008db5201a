"""What may be done with data and with what was learned from them: licence and citation of each dataset, named once.

Datasets that the package knows by their name in the manifest are listed here or in a layout that ships; of others the
layout that read them says it, and the dataset folder keeps it in its ``dataset.json``. What nobody said is unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cinesynth.data.sources.layout import layouts, load_layout
from cinesynth.errors import DataError

UNKNOWN = "unknown terms"
RESEARCH = "research and non-commercial use"
LICENCES = (
    "CC0-1.0",
    "Apache-2.0",
    "CC-BY-4.0",
    "CC-BY-SA-4.0",
    "CC-BY-NC-4.0",
    "CC-BY-NC-SA-4.0",
    RESEARCH,
    UNKNOWN,
)
"""From free to strict. Another text than these counts as strict as `RESEARCH`: it cannot be compared."""
FORMAT = 1
DATASET = "dataset.json"
"""The file of a dataset folder that keeps the terms its sources said."""


@dataclass(frozen=True)
class Terms:
    """Of one dataset. ``licence`` is an SPDX name where there is one; ``note`` says where it comes from."""

    licence: str
    citation: str = ""
    note: str = ""


UNSAID = Terms(UNKNOWN)

KNOWN: Mapping[str, Terms] = MappingProxyType(
    {
        "acdc": Terms("CC-BY-NC-SA-4.0", "Bernard et al., IEEE TMI 2018, doi:10.1109/TMI.2018.2837502"),
        "dsb": Terms(
            RESEARCH,
            "Second Annual Data Science Bowl, Kaggle 2015",
            "rules of the competition",
        ),
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
"""By name in the manifest."""


def terms_of(folder: Path, datasets: Iterable[str]) -> dict[str, Terms]:
    """The terms of ``datasets`` (names in the manifest) of the dataset in ``folder``, `UNKNOWN` where nobody said them.

    `DataError` if its ``dataset.json`` is damaged.
    """
    said = {**_shipped(), **KNOWN, **said_terms(folder)}
    return {name: said.get(name, UNSAID) for name in sorted(set(datasets))}


def said_terms(folder: Path) -> dict[str, Terms]:
    """What the sources of the dataset in ``folder`` said, by name in the manifest; empty for older ones."""
    path = Path(folder) / DATASET
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return {name: Terms(**fields) for name, fields in content.get("terms", {}).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} cannot be read: {error}", hint="its 'terms' hold licence, citation and note by dataset"
        ) from None


def about_dataset(terms: Mapping[str, Terms]) -> dict[str, Any]:
    """The content of `DATASET` of a folder with these terms by name in the manifest."""
    return {"format": FORMAT, "kind": "cinesynth dataset", "manifest": "manifest.csv", "terms": terms_to_json(terms)}


def terms_to_json(terms: Mapping[str, Terms]) -> dict[str, dict[str, str]]:
    """Plain text, read back by `said_terms`."""
    return {name: asdict(each) for name, each in sorted(terms.items())}


def combined(terms: Mapping[str, Terms]) -> dict[str, Any]:
    """What binds users of what was learned from all of ``terms``: the strictest licence, each of them, citations."""
    ordered = dict(sorted(terms.items()))
    return {
        "licence": strictest(ordered.values()),
        "licences": {name: each.licence for name, each in ordered.items()},
        "citations": cited(ordered.values()),
    }


def strictest(terms: Iterable[Terms]) -> str:
    """The strictest licence; those that are equally strict and not the same bind all."""
    licences = {each.licence for each in terms}
    top = max(map(_strictness, licences))
    return " and ".join(sorted(licence for licence in licences if _strictness(licence) == top))


def cited(terms: Iterable[Terms]) -> list[str]:
    """What users are to cite, each once."""
    return list(dict.fromkeys(each.citation for each in terms if each.citation))


def _strictness(licence: str) -> int:
    return LICENCES.index(licence if licence in LICENCES else RESEARCH)


def _shipped() -> dict[str, Terms]:
    """Of the layouts that ship: their datasets may have been read by a version that did not keep their terms."""
    found = (load_layout(name) for name in layouts())
    return {layout.dataset: Terms(layout.licence, layout.citation, layout.note) for layout in found}
