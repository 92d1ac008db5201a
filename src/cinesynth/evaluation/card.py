"""The model card of weights (Mitchell et al., FAT* 2019): training data, intended use and what was measured.

Every number is read from the report of an evaluation or from the weights folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from cinesynth.config import STAGES
from cinesynth.errors import InputError
from cinesynth.evaluation.report import number, read_report
from cinesynth.io.files import write_text
from cinesynth.weights.folder import INDEX, bundle_sha256, read_json, stage_info
from cinesynth.weights.registry import find_bundle

CARD = """# Model card: $name

Weights for cinesynth, which generates short-axis cine cardiac MRI with a segmentation of every frame, from a diagnosis,
volumes of the left ventricle and a number of slices. The format follows Mitchell et al., *Model Cards for Model
Reporting*, FAT* 2019. Every number on this page comes from the weights folder or from a report of
`cinesynth evaluate`.

**All generated images are synthetic and for research only, not for diagnosis or treatment.**

## The weights

$details

## Intended use

- Research: methods of synthesis, augmentation of training data for segmentation, teaching, test data for software.
- Not for clinical use of any kind, as a substitute for a patient's images, or for statements about patients.
- Generated cases are marked as synthetic in their files; keep the mark when you share them.

## Training data

$training

## Evaluation data

$data

## How it was measured

```bash
$command
```

$verdicts

## What was measured

The column "real" is the same number for held-out real subjects, compared with those of training or in their own cycles.

$measured

## What could not be measured

$missing

## Limits

- The hearts resemble those of the training data: its scanners, its protocol and its five diagnostic groups. Nothing is
  known about other vendors, children, congenital disease, or anything else that was not in it.
- Diagnoses and volumes are reproduced statistically. A generated heart with a diagnosis is not evidence of how that
  disease looks.
- The verdict "pass" means that no defect was found at these counts, not that there is none.
- A generator may reproduce training images. Read the section on memorisation before you share cases.
$failures
## Citing

$citations
"""


def write_card(report: Path, weights: Path | str | None, out: Path) -> None:
    """Write the card of ``weights`` from the JSON of their evaluation.

    `DataError` where the report is damaged, `InputError` where it is of other weights, `WeightsError` where the
    folder is incomplete.
    """
    write_text(Path(out), render_card(read_report(report), find_bundle(weights)))


def render_card(report: Mapping[str, Any], folder: Path) -> str:
    """The card as Markdown."""
    _check_same(report, folder)
    index = read_json(folder / INDEX, f"the weights folder {folder}")
    stages = {stage: stage_info(folder, stage) for stage in STAGES}
    sections = report["sections"]
    return Template(CARD).substitute(
        name=folder.resolve().name,
        details=_table(("", ""), _details(folder, index, stages)),
        training=_table(("dataset", "subjects", "licence"), _training(index)),
        data=_table(("", ""), _data(report["metadata"])),
        command=report["metadata"]["command"],
        verdicts=_table(("section", "verdict", "decided by"), _verdicts(report)),
        measured="\n\n".join(filter(None, map(_section_table, sections))),
        missing="\n".join(_missing(sections)) or "Everything was measured.",
        failures="".join(f"- {line}\n" for line in (*report["metadata"].get("cautions", ()), *_failures(sections))),
        citations="\n".join(f"- {text}" for text in index.get("citations", [])),
    )


def _check_same(report: Mapping[str, Any], folder: Path) -> None:
    found = report["metadata"]["synthetic"].get("weights", {}).get("sha256")
    expected = bundle_sha256(folder) if (folder / INDEX).is_file() else None
    if expected and found != expected:
        of = f"weights with SHA-256 {str(found)[:12]}..." if found else "an unknown cohort"
        raise InputError(
            f"the report is about {of}, {folder} has SHA-256 {expected[:12]}...",
            hint="evaluate a cohort that these weights generated",
        )


def _details(folder: Path, index: Mapping[str, Any], stages: Mapping[str, Any]) -> Iterator[Sequence[object]]:
    last, seen = stages[STAGES[-1]].get("environment", {}), stages[STAGES[0]].get("trained_on", {})
    yield "preset", index.get("preset")
    yield "licence", index.get("licence")
    yield "sampling settings that differ from the preset", ", ".join(index.get("sampling_set", [])) or None
    yield "training data", f"subject table with SHA-256 {index.get('data_hash')}, {number(seen.get('frames'))} frames"
    yield "made by", f"`{last.get('command', 'unknown')}`"
    yield "revision", last.get("git_revision", "unknown")
    yield "finished", last.get("time", "unknown")
    yield "machine", last.get("processor", "unknown")
    yield "SHA-256", bundle_sha256(folder)


def _training(index: Mapping[str, Any]) -> Iterator[Sequence[object]]:
    for name, subjects in index.get("datasets", {}).items():
        yield name, subjects, index.get("licences", {}).get(name)


def _data(metadata: Mapping[str, Any]) -> Iterator[Sequence[object]]:
    real, made = metadata["real"], metadata["synthetic"]
    for title, part in (("reference", real["train"]), (f"held out ({real['held_out']['split']})", real["held_out"])):
        counts = ", ".join(f"{name} {count}" for kind in ("datasets", "vendors") for name, count in part[kind].items())
        yield title, f"{part['subjects']} subjects, {part['whole_cycles']} with a whole cycle ({counts})"
    yield "generated", f"{made['cases']} cases, {made.get('accepted', '-')} accepted"
    yield "SHA-256 of the subject table", real["data_hash"]


def _verdicts(report: Mapping[str, Any]) -> Iterator[Sequence[object]]:
    for verdict in report["verdicts"]:
        yield verdict["title"], verdict["judgement"] or "not judged", verdict["decided_by"]


def _section_table(section: Mapping[str, Any]) -> str:
    rows = [_row(m) for m in section["metrics"] if m["value"] is not None]
    columns = ("metric", "value", "95 % interval", "real", "verdict", "hearts")
    return f"### {section['title']}\n\n{_table(columns, rows)}" if rows else ""


def _row(m: Mapping[str, Any]) -> Sequence[object]:
    interval = "-" if m["low"] is None else f"{number(m['low'])} to {number(m['high'])}"
    value = f"{number(m['value'])} {m['unit']}".strip()
    return m["name"], value, interval, m["floor"], m["judgement"] or "-", m["count"]


def _missing(sections: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for section in sections:
        for m in section["metrics"]:
            if m["value"] is None:
                yield f"- {section['title']}, {m['name']}: {m['missing']}."


def _failures(sections: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Warnings and failures of the evaluation are limits of the weights."""
    for section in sections:
        for judgement in ("fail", "warn"):
            names = [m["name"] for m in section["metrics"] if m["judgement"] == judgement]
            if names:
                yield f"{section['title']}, {judgement}: {'; '.join(names)}."


def _table(columns: Sequence[str], rows: Iterator[Sequence[object]] | Sequence[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *([number(v).replace("|", "\\|") for v in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
