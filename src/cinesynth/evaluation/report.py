"""The report: sections and the verdict on each, as one HTML page and as JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cinesynth.errors import DataError
from cinesynth.evaluation.section import Figure, Judgement, Metric, Section, worst
from cinesynth.io.files import write_json, write_text
from cinesynth.reports.html import render_template

FORMAT = 2
PAGE, JSON = "index.html", "report.json"


@dataclass(frozen=True)
class SectionVerdict:
    """The judgement of one section and the metrics behind it."""

    title: str
    judgement: Judgement | None
    decided_by: str

    @classmethod
    def of(cls, section: Section, named: int = 5) -> SectionVerdict:
        """The worst judgement, with the first ``named`` metrics that have it; a pass is decided by all of them."""
        judgement, title = section.judgement, section.title
        missing = [m.missing for m in section.metrics if m.missing]
        if judgement is None:
            return cls(title, None, f"nothing could be judged: {missing[0]}" if missing else "no metric has a limit")
        names = [m.name for m in section.metrics if m.judgement == judgement]
        if judgement == "pass":
            return cls(title, judgement, f"all {len(names)} judged metrics" + _more(len(missing), " without a value"))
        return cls(title, judgement, "; ".join(names[:named]) + _more(len(names) - named, " more"))


def _more(count: int, what: str) -> str:
    return f"; {count}{what}" if count > 0 else ""


@dataclass(frozen=True)
class EvaluationReport:
    """What was compared (``metadata``) and what came out (``sections``)."""

    metadata: dict[str, Any]
    sections: tuple[Section, ...]

    @property
    def verdicts(self) -> list[SectionVerdict]:
        """One for each section, in their order."""
        return [SectionVerdict.of(section) for section in self.sections]

    @property
    def judgement(self) -> Judgement | None:
        """The worst of all sections."""
        return worst(section.judgement for section in self.sections)

    def to_json(self) -> dict[str, Any]:
        """Everything but the figures."""
        return {
            "format": FORMAT,
            "synthetic": True,
            "notice": "about synthetic images; research use only, not for clinical use",
            "judgement": self.judgement,
            "verdicts": [vars(verdict) for verdict in self.verdicts],
            "metadata": self.metadata,
            "sections": [section.to_json() for section in self.sections],
        }

    def to_html(self) -> str:
        """One page that needs no other file."""
        metadata = self.metadata
        return render_template(
            "evaluation.html",
            title=f"Evaluation of {metadata['synthetic']['folder']}",
            subtitle=_subtitle(metadata),
            report=self,
            cautions=metadata.get("cautions", ()),
            compared=list(_compared(metadata)),
            command=metadata["command"],
            missing_of=missing_by_reason,
            data_url=_data_url,
            number=number,
            is_number=lambda value: isinstance(value, int | float) and not isinstance(value, bool),
            glossary=GLOSSARY,
        )

    def write(self, folder: Path) -> None:
        """``report.json`` and ``index.html`` in ``folder``, each whole or not at all; `OutputError` on failure."""
        write_json(folder / JSON, self.to_json())
        write_text(folder / PAGE, self.to_html())


# --- Reading ---------------------------------------------------------------------------------------------------------


def read_report(path: Path) -> dict[str, Any]:
    """The JSON of a report, from its file or its folder, in today's format; `DataError` where it is not a report."""
    path = Path(path) / JSON if Path(path).is_dir() else Path(path)
    try:
        content = migrated(json.loads(path.read_text(encoding="utf-8")))
        content["metadata"]["synthetic"], content["sections"], content["verdicts"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not the report.json of an evaluation: {error!r}",
            hint="write one with: cinesynth evaluate --real DATASET --synthetic COHORT --out FOLDER",
        ) from None
    if content.get("format") != FORMAT:
        raise DataError(f"{path} has format {content.get('format')}, expected {FORMAT}", hint="evaluate again")
    return content


def migrated(content: dict[str, Any]) -> dict[str, Any]:
    """A report of format 1 under today's keys; anything else as it is."""
    if content.get("format") != 1:
        return content
    metadata, names = content["about"], {"people": "subjects"}
    real = {key: _renamed(part, names) if isinstance(part, dict) else part for key, part in metadata["real"].items()}
    metadata = {**metadata, "real": real, "synthetic": _renamed(metadata["synthetic"], names)}
    sections = [_renamed(section, {"measures": "metrics", "listings": "tables"}) for section in content["sections"]]
    return {**_renamed(content, {"about": "metadata"}), "format": FORMAT, "metadata": metadata, "sections": sections}


def _renamed(content: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in content.items()}


# --- What the page shows ---------------------------------------------------------------------------------------------


def number(value: object) -> str:
    """A number to read: three significant digits, thousands and integers whole; other values as they are."""
    if value is None:
        return "-"
    if isinstance(value, bool | int) or not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def missing_by_reason(metrics: Sequence[Metric]) -> list[tuple[str, str, Judgement | None]]:
    """Names of the metrics without a value, why, and the judgement: a missing value may be a defect itself."""
    reasons: dict[tuple[str, Judgement | None], list[str]] = {}
    for m in metrics:
        if m.missing:
            reasons.setdefault((m.missing, m.judgement), []).append(m.name)
    return [(", ".join(names), reason, judgement) for (reason, judgement), names in reasons.items()]


def _data_url(figure: Figure) -> str:
    return f"data:image/png;base64,{base64.b64encode(figure.png).decode('ascii')}"


def _subtitle(metadata: Mapping[str, Any]) -> str:
    real, synthetic = metadata["real"], metadata["synthetic"]
    return (
        f"{synthetic['cases']} hearts of {synthetic['folder']} compared with {real['train']['subjects']} training and "
        f"{real['held_out']['subjects']} held-out subjects of {real['folder']}"
    )


def _compared(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    real, synthetic, grid = metadata["real"], metadata["synthetic"], metadata["grid"]
    yield "generated", _synthetic(synthetic)
    yield "reference", f"train split of {real['folder']}: {_subjects(real['train'])}"
    yield "floor", f"{real['held_out']['split']} split of {real['folder']}: {_subjects(real['held_out'])}"
    x, y, _ = grid["size"]
    yield "grid", f"{x} x {y} voxels of {' x '.join(f'{s:g}' for s in grid['spacing_mm'])} mm, acquired slices"
    yield "data", f"SHA-256 {real['data_hash']} (subject table of {real['folder']}), {synthetic['key']} (cases)"
    for name, digest in metadata["networks"].items():
        yield f"{name} given", f"SHA-256 {digest}"
    yield "versions", ", ".join(f"{name} {version}" for name, version in metadata["versions"].items())
    yield "seed", f"{metadata['seed']} for every subsample, division and bootstrap"
    yield "made", f"{metadata['made']} on {metadata['machine']}"


def _synthetic(part: Mapping[str, Any]) -> str:
    if part["kind"] != "cohort":
        return f"{part['kind']}: {_subjects(part)}"
    frames, weights = " or ".join(map(str, part["frames"])), part["weights"]
    by = f"weights {weights.get('preset', '')} with SHA-256 {weights.get('sha256', 'unknown')}"
    return f"{part['cases']} cases of {frames} frames, {part['accepted']} accepted, {by}"


def _subjects(part: Mapping[str, Any]) -> str:
    counts = "; ".join(
        ", ".join(f"{name} {count}" for name, count in part[kind].items())
        for kind in ("datasets", "vendors", "diagnoses")
    )
    return f"{part['subjects']} subjects, {part['whole_cycles']} with a whole cycle ({counts})"


GLOSSARY = (
    ("ED, ES", "end diastole, when the left ventricle is fullest, and end systole, when it is emptiest"),
    ("EDV, ESV, EF", "volume of the LV at ED and at ES in mL, and the percentage of EDV that is ejected"),
    ("LV, RV, MYO", "cavity of the left ventricle, cavity of the right ventricle, myocardium of the left ventricle"),
    ("train, held-out", "subjects the weights may have been trained on, and subjects nothing was trained on"),
    ("real", "the same number for held-out subjects against train, or for real cycles: the best to expect"),
    ("limit", "the rule of the verdict; its numbers come from real hearts, or from physiology where it says so"),
    ("hearts", "how many hearts the number rests on"),
    ("interval", "below a value: 95 % bootstrap interval over hearts"),
    ("random division", "real subjects of both splits divided at random into two groups: how far real groups differ"),
    ("Frechet distance, fd-", "distance of two normal distributions fitted to features; fd- names the features"),
    ("MMD", "maximum mean discrepancy, a distance of distributions that is unbiased in small samples"),
    ("FVD", "Frechet distance of the features of one video network (I3D), and of no other network"),
    ("pass, warn, fail", "no reason to object; look at it; a defect that real hearts do not have"),
)
