"""One evaluation: read three sets of hearts, measure them, make every section, write the report or a model card."""

from __future__ import annotations

import platform
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from cinesynth import __version__
from cinesynth.cases.reading import read_sidecar
from cinesynth.config import STAGES, load_config, parse_config
from cinesynth.data.dataset_table import is_dataset
from cinesynth.data.geometry import Grid
from cinesynth.data.packed import PackedDataset, prepare
from cinesynth.errors import DataError, InputError
from cinesynth.evaluation import anatomy, codec, control, memorisation, realism, segmenter, temporal
from cinesynth.evaluation.cases import CaseSet, cohort, patients, without_phantoms
from cinesynth.evaluation.held_out import real_sets
from cinesynth.evaluation.measure import measure
from cinesynth.evaluation.report import EvaluationReport, number, read_report
from cinesynth.evaluation.section import Measurements, Section, SectionSpec
from cinesynth.evaluation.segmenter import NAME as SEGMENTER
from cinesynth.io.files import file_sha256, write_text
from cinesynth.io.reproducibility import package_versions
from cinesynth.io.tasks import ProgressCallback, no_progress, ordered_map
from cinesynth.physiology import SLICE_RANGE
from cinesynth.reports import render_template
from cinesynth.weights.folder import (
    FINGERPRINTS,
    INDEX,
    bundle_sha256,
    fingerprints_in,
    read_index,
    read_json,
    stage_info,
)
from cinesynth.weights.registry import find_bundle

HELD_OUT = ("test", "validation")
"""Splits that nothing was trained on: choose models on validation, report figures on test."""
PACKAGES = ("numpy", "scipy", "torch", "monai", "scikit-image")
Sets = tuple[CaseSet, CaseSet, CaseSet]


def evaluate(
    real: Path,
    synthetic: Path,
    out: Path,
    *,
    weights: Path | None = None,
    segmenter: Path | None = None,
    i3d: Path | None = None,
    split: str = "test",
    cache: Path | None = None,
    workers: int | None = None,
    progress: ProgressCallback = no_progress,
) -> EvaluationReport:
    """Compare a cohort with the subjects of a dataset; writes ``index.html`` and ``report.json`` into ``out``.

    ``real`` is a dataset folder, resampled to the cohort's grid: its training subjects are the reference, those of
    ``split`` show how far other real subjects lie from them. ``synthetic`` is a cohort, or a dataset whose subjects of
    ``split`` take the place of generated hearts. ``weights``, ``segmenter`` and ``i3d`` are for the metrics that need
    a network. Numbers of single hearts are kept in ``cache`` (by default in ``out``). `DataError` where a folder is
    damaged, empty or of another kind, `InputError` where nothing can be compared.
    """
    if split not in HELD_OUT:
        raise InputError(f"split {split!r} is not held out", hint=f"one of {', '.join(HELD_OUT)}")
    bundle = None if weights is None else find_bundle(weights)
    specs = section_specs(bundle, segmenter, i3d)
    sets, compared = _sets(Path(real), Path(synthetic), split, bundle, progress)
    cache = Path(out) / "cache" if cache is None else Path(cache)
    measurers = [measurer for spec in specs for measurer in spec.measurers]
    made, train, held_out = (  # every heart is read once, for all sections
        measure(replace(cases, title=title), measurers, cache, workers=workers, progress=progress)
        for title, cases in zip(("synthetic", "train", "held-out"), sets, strict=True)
    )
    measurements = Measurements(made, train, held_out, *sets)
    sections = _sections(specs, measurements, workers, progress)
    # SHA-256 of each network: of its file, or of the record that names the weights in its folder
    networks = {"weights": bundle_sha256(bundle)} if bundle else {}
    for name, path in (("segmenter", segmenter), ("i3d", i3d)):
        if path:
            networks[name] = file_sha256(path if path.is_file() else path / f"{SEGMENTER}.json")
    given = {"weights": weights, "segmenter": segmenter, "i3d": i3d}
    command = ["cinesynth", "evaluate"]
    for name, path in {"real": real, "synthetic": synthetic, "out": out, **given}.items():
        command += [f"--{name}", str(path)] if path is not None else []
    command += ["--split", split] if split != HELD_OUT[0] else []
    metadata = {
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {"cinesynth": __version__, "python": platform.python_version(), **package_versions(PACKAGES)},
        "machine": platform.machine(),
        "seed": 0,
        **compared,
        "networks": networks,
        "cautions": list(_cautions(compared["real"], bundle, segmenter)),
        "command": shlex.join(command),
    }
    report = EvaluationReport(metadata, tuple(sections))
    report.write(Path(out))
    return report


def _sections(
    specs: Sequence[SectionSpec], measurements: Measurements, workers: int | None, progress: ProgressCallback
) -> list[Section]:
    """Every section, in parallel. They begin with the last ones, which take longest."""
    sections: list[Section] = []
    with closing(ordered_map(partial(_section, specs, measurements), range(len(specs))[::-1], workers)) as evaluated:
        for section in evaluated:
            sections.insert(0, section)
            progress("sections", len(sections), len(specs), {})
    return sections


def _section(specs: Sequence[SectionSpec], measurements: Measurements, index: int) -> Section:
    return specs[index].evaluate(measurements)


def _sets(
    real: Path, synthetic: Path, split: str, weights: Path | None, progress: ProgressCallback
) -> tuple[Sets, dict[str, Any]]:
    """Generated, training and held-out hearts on one grid, and what is known of them."""
    if is_dataset(synthetic):
        # on the grid of the weights, or on that of the smallest preset
        config = load_config("small") if weights is None else parse_config(stage_info(weights, "vae")["config"])
        grid = Grid((*config.grid.size[:2], SLICE_RANGE[1]), config.grid.spacing_mm)
        subjects = without_phantoms(prepare(synthetic, grid, progress).split(split))
        made = patients(subjects, f"{split} subjects as generated")
        about = {"kind": f"subjects of the {split} split in place of generated hearts", **_counts(subjects)}
    else:
        made = cohort(synthetic)
        grid, about = made.grid, _of_cohort(synthetic, made)
    if len(made) < 2:
        hint = "generate more: cinesynth generate --count 50 --out COHORT"
        raise InputError(f"{synthetic} holds {len(made)} cases, at least 2 are needed", hint=hint)
    data = prepare(real, grid, progress)
    index = read_index(weights) if weights and (weights / INDEX).is_file() else {}
    stored = fingerprints_in(weights) if weights else None
    sets = real_sets(data, split, stored, index.get("data_hash"))
    train, held_out = sets.train, sets.held_out
    compared = {
        "real": {
            "folder": real.resolve().name,
            "data_hash": data.data_hash,
            "train": _counts(train),
            "held_out": {"split": split, **_counts(held_out)},
            "moved_to_training": list(sets.moved),
        },
        "synthetic": {"folder": synthetic.resolve().name, "cases": len(made), "key": made.key, **about},
        "grid": {"size": list(grid.size), "spacing_mm": list(grid.spacing_mm)},
    }
    return (made, patients(train, f"train of {real}"), patients(held_out, f"{split} of {real}")), compared


def _counts(data: PackedDataset) -> dict[str, Any]:
    datasets, vendors = (Counter(getattr(r, kind) for r in data.records) for kind in ("dataset", "vendor"))
    groups = Counter(r.diagnosis.value for r in data.records)
    whole = sum(r.coverage.shape[0] == r.frames_in_cycle > 2 for r in data.records)
    counts = {"datasets": dict(datasets), "vendors": dict(vendors), "diagnoses": dict(groups)}
    return {"subjects": len(data.records), "whole_cycles": whole, **counts}


def _of_cohort(folder: Path, made: CaseSet) -> dict[str, Any]:
    """What the sidecars say about the weights; `DataError` if several weights made the cohort."""
    sidecars = [content for name in made.names if (content := read_sidecar(folder / name))]
    found = {content["provenance"]["weights"]["sha256"]: content["provenance"]["weights"] for content in sidecars}
    if len(found) > 1:
        hint = "evaluate one set of weights at a time"
        raise DataError(f"{folder} holds cases of {len(found)} sets of weights", hint=hint)
    frames = sorted({content["frames"] for content in sidecars})
    accepted = sum(bool(content["accepted"]) for content in sidecars)
    return {"kind": "cohort", "weights": next(iter(found.values()), {}), "frames": frames, "accepted": accepted}


def _cautions(real: Mapping[str, Any], bundle: Path | None, segmenter: Path | None) -> Iterator[str]:
    """Networks trained on another dataset than is compared may have been trained on its held-out subjects.

    Fingerprints tell who they are, where weights have them.
    """
    expected = real["data_hash"]
    if moved := real["moved_to_training"]:
        shown, all_ = (
            ", ".join(moved[:5]) + (" ..." if len(moved) > 5 else ""),
            len(moved) + real["held_out"]["subjects"],
        )
        yield (
            f"{len(moved)} of {all_} held-out subjects count as training subjects here, because their images match "
            f"fingerprints of the weights: {shown}."
        )
    if bundle and (bundle / FINGERPRINTS).is_file():
        bundle = None
    for name, folder, stage in (("weights", bundle, "vae"), ("segmenter", segmenter, SEGMENTER)):
        found = stage_info(folder, stage).get("data_hash") if folder else expected
        if found != expected:
            yield (
                f"The training data of the {name} have SHA-256 {str(found)[:12]}..., this dataset has "
                f"{expected[:12]}...: some held-out subjects may have been seen in training, and some training "
                "subjects not. Memorisation, and what this network judges, are valid only if they were not."
            )


# --- The sections of a report, in their order ------------------------------------------------------------------------


def section_specs(
    weights: Path | None = None, segmenter_folder: Path | None = None, i3d: Path | None = None
) -> list[SectionSpec]:
    """Every section; the arguments are for those that need a network.

    `WeightsError` where one of them is missing, damaged or of another kind.
    """
    loaded = segmenter.Segmenter.load(segmenter_folder) if segmenter_folder else None
    return [
        control.section_spec(loaded),
        realism.section_spec(weights, i3d),
        temporal.section_spec(),
        anatomy.section_spec(loaded),
        memorisation.section_spec(weights),
        *([segmenter.section_spec(loaded)] if loaded else []),
        *([codec.section_spec(weights)] if weights else []),
    ]


# --- The model card of weights (Mitchell et al., FAT* 2019) ----------------------------------------------------------


def write_card(report: Path, weights: Path | str | None, out: Path) -> None:
    """Write the card of ``weights`` from the JSON of their evaluation.

    `DataError` where the report is damaged, `InputError` where it is of other weights, `WeightsError` where the
    folder is incomplete.
    """
    write_text(Path(out), render_card(read_report(report), find_bundle(weights)))


def render_card(report: Mapping[str, Any], folder: Path) -> str:
    """The card as Markdown; every number is read from the report of an evaluation or from the weights folder."""
    found = report["metadata"]["synthetic"].get("weights", {}).get("sha256")
    expected = bundle_sha256(folder) if (folder / INDEX).is_file() else None
    if expected and found != expected:
        of = f"weights with SHA-256 {str(found)[:12]}..." if found else "an unknown cohort"
        hint = "evaluate a cohort that these weights generated"
        raise InputError(f"the report is about {of}, {folder} has SHA-256 {expected[:12]}...", hint=hint)
    index = read_json(folder / INDEX, f"the weights folder {folder}")
    stages = {stage: stage_info(folder, stage) for stage in STAGES}
    return render_template(
        "model_card.md",
        title=folder.resolve().name,
        index=index,
        trained_on=stages[STAGES[0]].get("trained_on", {}),
        made=stages[STAGES[-1]].get("environment", {}),
        sha256=bundle_sha256(folder),
        report=report,
        missing=[(s["title"], m) for s in report["sections"] for m in s["metrics"] if m["value"] is None],
        number=number,
    )
