"""The card of a set of weights: what they are, what they saw, what they are for, and what was measured.

After model cards (Mitchell et al., FAT* 2019). Every number is read from the report of an evaluation or from the
weights folder; none is typed.
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
from cinesynth.weights.folder import INDEX, bundle_sha256, find_bundle, read_json, stage_info

CARD = """# Model card: $name

Weights for cinesynth: a generator of short-axis cine cardiac MRI with its segmentation at every frame, from a
diagnosis, volumes of the left ventricle and a number of slices. After Mitchell et al., *Model Cards for Model
Reporting*, FAT* 2019. Every number on this page is read from the weights folder or from a report of
`cinesynth evaluate`.

**Everything generated is synthetic and for research only. Nothing here is fit for diagnosis or treatment.**

## The weights

$details

## Intended use

- Research: methods of synthesis, augmentation of training data for segmentation, teaching, test data for software.
- Not for clinical use of any kind, nor as a substitute of a person's images, nor for statements about patients.
- Generated cases are marked as synthetic in their files; keep the mark when you pass them on.

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

The column "people" is what held-out people have beside those of training, or in their own cycles.

$measured

## What could not be measured

$missing

## Limits

- The hearts resemble those of the training data: its scanners, its protocol and its five diagnostic groups. Nothing is
  known of other vendors, children, congenital disease, or anything else that was not in it.
- Diagnoses and volumes are followed statistically. A generated heart with a diagnosis is no evidence of how that
  disease looks.
- A verdict "pass" says that no defect was found at these counts, not that there is none.
- A generator may repeat what it has seen. Before you share cases, read what the report says of memorisation.
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
        training=_table(("dataset", "people", "licence"), _training(index)),
        data=_table(("", ""), _data(report["about"])),
        command=report["about"]["command"],
        verdicts=_table(("section", "verdict", "decided by"), _verdicts(report)),
        measured="\n\n".join(filter(None, map(_measured, sections))),
        missing="\n".join(_missing(sections)) or "Nothing was left out.",
        failures="".join(f"- {line}\n" for line in (*report["about"].get("cautions", ()), *_failures(sections))),
        citations="\n".join(f"- {text}" for text in index.get("citations", [])),
    )


def _check_same(report: Mapping[str, Any], folder: Path) -> None:
    found = report["about"]["synthetic"].get("weights", {}).get("sha256")
    expected = bundle_sha256(folder) if (folder / INDEX).is_file() else None
    if expected and found != expected:
        of = f"weights with SHA-256 {str(found)[:12]}..." if found else "no cohort of generated hearts"
        raise InputError(
            f"the report is of {of}, {folder} has {expected[:12]}...",
            hint="evaluate a cohort that these weights generated",
        )


def _details(folder: Path, index: Mapping[str, Any], stages: Mapping[str, Any]) -> Iterator[Sequence[object]]:
    last, seen = stages[STAGES[-1]].get("environment", {}), stages[STAGES[0]].get("trained_on", {})
    yield "preset", index.get("preset")
    yield "licence", index.get("licence")
    yield "sampling, other than the preset's", ", ".join(index.get("sampling_set", [])) or None
    yield "training data", f"manifest with SHA-256 {index.get('data_hash')}, {number(seen.get('frames'))} frames"
    yield "made by", f"`{last.get('command', 'unknown')}`"
    yield "revision", last.get("git_revision", "unknown")
    yield "finished", last.get("time", "unknown")
    yield "machine", last.get("processor", "unknown")
    yield "SHA-256", bundle_sha256(folder)


def _training(index: Mapping[str, Any]) -> Iterator[Sequence[object]]:
    for name, people in index.get("datasets", {}).items():
        yield name, people, index.get("licences", {}).get(name)


def _data(about: Mapping[str, Any]) -> Iterator[Sequence[object]]:
    real, made = about["real"], about["synthetic"]
    for title, part in (("reference", real["train"]), (f"held out ({real['held_out']['split']})", real["held_out"])):
        counts = ", ".join(f"{name} {count}" for kind in ("datasets", "vendors") for name, count in part[kind].items())
        yield title, f"{part['people']} people, {part['whole_cycles']} with a whole cycle ({counts})"
    yield "generated", f"{made['cases']} cases, {made.get('accepted', '-')} accepted"
    yield "SHA-256 of the manifest", real["data_hash"]


def _verdicts(report: Mapping[str, Any]) -> Iterator[Sequence[object]]:
    for verdict in report["verdicts"]:
        yield verdict["title"], verdict["judgement"] or "not judged", verdict["decided_by"]


def _measured(section: Mapping[str, Any]) -> str:
    rows = [_measure(m) for m in section["measures"] if m["value"] is not None]
    columns = ("measure", "value", "interval of 95 %", "people", "verdict", "hearts")
    return f"### {section['title']}\n\n{_table(columns, rows)}" if rows else ""


def _measure(m: Mapping[str, Any]) -> Sequence[object]:
    interval = "-" if m["low"] is None else f"{number(m['low'])} to {number(m['high'])}"
    value = f"{number(m['value'])} {m['unit']}".strip()
    return m["name"], value, interval, m["floor"], m["judgement"] or "-", m["count"]


def _missing(sections: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for section in sections:
        for m in section["measures"]:
            if m["value"] is None:
                yield f"- {section['title']}, {m['name']}: {m['missing']}."


def _failures(sections: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the evaluation objects to is a limit of the weights."""
    for section in sections:
        for judgement in ("fail", "warn"):
            names = [m["name"] for m in section["measures"] if m["judgement"] == judgement]
            if names:
                yield f"{section['title']}, {judgement}: {'; '.join(names)}."


def _table(columns: Sequence[str], rows: Iterator[Sequence[object]] | Sequence[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *([number(v).replace("|", "\\|") for v in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
