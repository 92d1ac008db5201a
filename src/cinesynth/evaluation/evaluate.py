"""One evaluation: the hearts, the questions, and the report that answers them."""

from __future__ import annotations

import platform
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cinesynth import __version__
from cinesynth.cases.reading import read_sidecar
from cinesynth.config import load_config
from cinesynth.data.dataset_table import is_dataset
from cinesynth.data.geometry import Grid
from cinesynth.data.packed import PackedDataset, prepare
from cinesynth.errors import DataError, InputError
from cinesynth.evaluation import anatomy, codec, control, memorisation, realism, segmenter, temporal
from cinesynth.evaluation.cases import CaseSet, cohort, patients, without_phantoms
from cinesynth.evaluation.measure import Measured, Progress, measure
from cinesynth.evaluation.report import Report
from cinesynth.evaluation.section import Evidence, Question
from cinesynth.evaluation.segmenter import NAME as SEGMENTER
from cinesynth.io.environment import package_versions
from cinesynth.io.files import file_sha256
from cinesynth.physiology import SLICE_RANGE
from cinesynth.weights.folder import bundle_sha256, find_bundle, stage_info

HELD_OUT = ("test", "validation")
"""Splits that nothing was trained on; choices are made on validation, figures are given on test."""
FEWEST = 2
PACKAGES = ("numpy", "scipy", "torch", "monai", "scikit-image")
SEED = 0


@dataclass(frozen=True)
class _Sets:
    """The three sets of hearts on one grid, and what is known of the generated ones."""

    train: CaseSet
    held_out: CaseSet
    synthetic: CaseSet
    about: dict[str, Any]


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
    progress: Progress | None = None,
) -> Report:
    """Compare a cohort with the people of a dataset; writes ``index.html`` and ``report.json`` into ``out``.

    ``real`` is a dataset folder, put on the cohort's grid: its training people are the reference, those of ``split``
    show how far other real people lie from them. ``synthetic`` is a cohort, or a dataset whose people of ``split``
    play generated hearts. ``weights``, ``segmenter`` and ``i3d`` are for the questions that look with a network.
    Numbers of single hearts are kept in ``cache`` (by default in ``out``). `DataError` where a folder is damaged,
    empty or of another kind, `InputError` where nothing can be compared.
    """
    if split not in HELD_OUT:
        raise InputError(f"split {split!r} is not held out", hint=f"one of {', '.join(HELD_OUT)}")
    bundle = None if weights is None else find_bundle(weights)
    asked = questions(bundle, segmenter, i3d)
    sets = _sets(Path(real), Path(synthetic), split, bundle)
    evidence = _measured(sets, asked, Path(out) / "cache" if cache is None else Path(cache), workers, progress)
    sections = []
    for done, question in enumerate(asked, start=1):
        sections.append(question.answer(evidence))
        if progress:
            progress("questions", done, len(asked))
    given = {"weights": weights, "segmenter": segmenter, "i3d": i3d}
    command = _command({"real": real, "synthetic": synthetic, "out": out, **given}, split)
    about = {**_about(sets, given), "cautions": list(_cautions(sets, given)), "command": command}
    report = Report(about, tuple(sections))
    report.write(Path(out))
    return report


def _sets(real: Path, synthetic: Path, split: str, weights: Path | None) -> _Sets:
    if is_dataset(synthetic):
        grid = _grid_of(weights)
        played = without_phantoms(prepare(synthetic, grid).split(split))
        made = patients(played, f"{split} people as generated")
        about = {"kind": f"people of the {split} split in place of generated hearts", **_of_people(played)}
    else:
        made = cohort(synthetic)
        grid, about = made.grid, _of_cohort(synthetic, made)
    if len(made) < FEWEST:
        raise InputError(
            f"{synthetic} holds {len(made)} case: one heart is no distribution",
            hint="make more: cinesynth generate --count 50 --out COHORT",
        )
    data = prepare(real, grid)
    train, held_out = (without_phantoms(data.split(name)) for name in ("train", split))
    return _Sets(
        patients(train, f"train of {real}"),
        patients(held_out, f"{split} of {real}"),
        made,
        {
            "real": {
                "folder": real.resolve().name,
                "data_hash": data.data_hash,
                "train": _of_people(train),
                "held_out": {"split": split, **_of_people(held_out)},
            },
            "synthetic": {"folder": synthetic.resolve().name, "cases": len(made), "key": made.key, **about},
            "grid": {"size": list(grid.size), "spacing_mm": list(grid.spacing_mm)},
        },
    )


def _grid_of(weights: Path | None) -> Grid:
    """Where two sets of people are compared: on the grid of the weights, or on that of the smallest preset."""
    if weights is None:
        config = load_config("small").grid.model_dump(mode="python")
    else:
        config = stage_info(weights, "vae")["config"]["grid"]
    (x, y, _), (a, b, c) = config["size"], config["spacing_mm"]
    return Grid((x, y, SLICE_RANGE[1]), (a, b, c))


def _of_people(data: PackedDataset) -> dict[str, Any]:
    datasets, vendors = (Counter(getattr(r, kind) for r in data.records) for kind in ("dataset", "vendor"))
    groups = Counter(r.diagnosis.value for r in data.records)
    whole = sum(r.coverage.shape[0] == r.frames_in_cycle > 2 for r in data.records)
    counts = {"datasets": dict(datasets), "vendors": dict(vendors), "diagnoses": dict(groups)}
    return {"people": len(data.records), "whole_cycles": whole, **counts}


def _of_cohort(folder: Path, made: CaseSet) -> dict[str, Any]:
    """What the sidecars say of the weights; `DataError` if several made the cohort."""
    sidecars = [content for name in made.names if (content := read_sidecar(folder / name))]
    found = {content["provenance"]["weights"]["sha256"]: content["provenance"]["weights"] for content in sidecars}
    if len(found) > 1:
        raise DataError(
            f"{folder} holds cases of {len(found)} sets of weights", hint="evaluate one set of weights at a time"
        )
    frames = sorted({content["frames"] for content in sidecars})
    accepted = sum(bool(content["accepted"]) for content in sidecars)
    return {"kind": "cohort", "weights": next(iter(found.values()), {}), "frames": frames, "accepted": accepted}


def _measured(
    sets: _Sets, asked: list[Question], cache: Path, workers: int | None, progress: Progress | None
) -> Evidence:
    """Every heart of the three sets is read once, for all questions."""
    measurers = list({m.name: m for question in asked for m in question.measurers}.values())
    titles = {"synthetic": sets.synthetic, "train": sets.train, "held-out": sets.held_out}
    found: dict[str, Measured] = {}
    for title, cases in titles.items():
        found[title] = measure(replace(cases, title=title), measurers, cache, workers=workers, progress=progress)
    return Evidence(found["synthetic"], found["train"], found["held-out"], sets.synthetic, sets.train, sets.held_out)


def _about(sets: _Sets, given: Mapping[str, Path | None]) -> dict[str, Any]:
    """What was compared, with what: enough to do it again."""
    return {
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {"cinesynth": __version__, "python": platform.python_version(), **package_versions(PACKAGES)},
        "machine": platform.machine(),
        "seed": SEED,
        **sets.about,
        "networks": {name: _identity(name, path) for name, path in given.items() if path is not None},
    }


def _cautions(sets: _Sets, given: Mapping[str, Path | None]) -> Iterator[str]:
    """Networks that learned from other data than is compared: their training people may be among the held out."""
    expected = sets.about["real"]["data_hash"]
    for name, stage in (("weights", "vae"), ("segmenter", SEGMENTER)):
        if (path := given[name]) is None:
            continue
        found = stage_info(find_bundle(path) if name == "weights" else Path(path), stage).get("data_hash")
        if found != expected:
            yield (
                f"The {name} given learned from a dataset with SHA-256 {str(found)[:12]}..., this one has "
                f"{expected[:12]}...: held-out people of this one may have been in its training, and train people "
                "not. What is said of memorisation, and what is judged by that network, holds only if they were not."
            )


def _identity(name: str, path: Path) -> str:
    """SHA-256 of what a network was read from: its file, or what says which weights its folder holds."""
    if name == "weights":
        return bundle_sha256(find_bundle(path))
    return file_sha256(path if path.is_file() else path / f"{SEGMENTER}.json")


def _command(paths: Mapping[str, Path | None], split: str) -> str:
    """The command that makes this report."""
    words = ["cinesynth", "evaluate"]
    for name, path in paths.items():
        words += [f"--{name}", str(path)] if path is not None else []
    return shlex.join([*words, *(["--split", split] if split != HELD_OUT[0] else [])])


# --- What a report asks, in its order --------------------------------------------------------------------------------


def questions(weights: Path | None = None, eye: Path | None = None, i3d: Path | None = None) -> list[Question]:
    """Every question; ``weights``, ``eye`` (a segmenter of real images) and ``i3d`` are for those that need a network.

    `WeightsError` where one of them is missing, damaged or of another kind.
    """
    seen_by = segmenter.Segmenter.load(eye) if eye else None
    asked = [
        control.question(seen_by),
        realism.question(weights, i3d),
        temporal.question(),
        anatomy.question(seen_by),
        memorisation.question(weights),
    ]
    asked += [segmenter.question(seen_by)] if seen_by else []
    return asked + ([codec.question(weights)] if weights else [])
