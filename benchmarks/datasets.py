"""What real datasets become: who is in, what the model grid does to volumes, and what comes back from it.

    CINE_DATA=folder python benchmarks/datasets.py [--preset small] [--sets acdc scd ...] [--workers N]

Prints the tables of docs/experiments/0021 and 0022 as Markdown. The folder holds ``acdc``, ``scd``, ``scd_edes``,
``mnms_edes`` and ``najman4d``; a set that is not there is left out.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cinesynth.cli.ingest import _annotated as annotated
from cinesynth.config import load_config
from cinesynth.data.dataset_table import SubjectRow
from cinesynth.data.geometry import Grid, place
from cinesynth.data.ingest import Summary, ingest
from cinesynth.data.packed import load_study
from cinesynth.data.sources import Source
from cinesynth.data.sources.acdc import read_acdc
from cinesynth.data.sources.layout import load_layout
from cinesynth.data.sources.nifti import read_nifti
from cinesynth.data.sources.scd import read_scd
from cinesynth.errors import DataError
from cinesynth.types import STRUCTURES, Label, Study, volumes_ml

Read = Callable[[Path], Source]
SETS: dict[str, Read] = {"acdc": read_acdc, "scd": read_scd} | {
    name: lambda root, name=name: read_nifti(root, load_layout(name)) for name in ("scd_edes", "mnms_edes", "najman4d")
}
ACDC_ML = {
    "NOR": (129.5, 49.0),
    "HCM": (131.9, 39.6),
    "MINF": (180.7, 125.6),
    "DCM": (283.1, 228.6),
    "RV": (114.7, 49.9),
}
"""Mean LV EDV and ESV of the five groups of the complete ACDC, 150 patients."""
SCD_ML = {"SCD0000101": (196.0, 145.0), "SCD0000301": (234.0, 184.0)}
"""LV EDV and ESV of the dataset's own contours."""
PHASES = ("ED", "ES")


@dataclass(frozen=True)
class Ingested:
    """One set as a dataset folder, and what that took."""

    name: str
    summary: Summary
    wall_s: float
    cpu_s: float

    def studies(self) -> Iterable[tuple[SubjectRow, Study]]:
        return ((row, load_study(self.summary.folder, row)) for row in self.summary.added)


def main() -> None:
    options = _options()
    root = Path(os.environ.get("CINE_DATA", ""))
    names = [name for name in options.sets if os.environ.get("CINE_DATA") and (root / name).is_dir()]
    if not names:
        sys.exit("set CINE_DATA to a folder that holds " + ", ".join(options.sets))
    grid = Grid.from_config(load_config(options.preset).grid)
    with tempfile.TemporaryDirectory() as scratch:
        sets = [_ingest(name, root / name, Path(scratch) / name, options.workers) for name in names]
        _table("What is in", COLUMNS_IN, map(_in, sets))
        title = f"LV volumes on the grid of `{options.preset}` against those of the native labels"
        _table(title, COLUMNS_VOLUMES, (_volumes(each, grid) for each in sets))
        _table("LV volumes of native labels against published ones", COLUMNS_KNOWN, _known(sets))
        _table("Labels there and back, Dice RV / MYO / LV", COLUMNS_BACK, _there_and_back(sets))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="small", help="whose grid volumes are compared on")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--workers", type=int, help="processes that read; one a core by default")
    return parser.parse_args()


def _ingest(name: str, root: Path, out: Path, workers: int | None) -> Ingested:
    wall, cpu = time.perf_counter(), _cpu_s()
    summary = ingest(SETS[name](root), out, on_error="skip", workers=workers)
    return Ingested(name, summary, time.perf_counter() - wall, _cpu_s() - cpu)


def _cpu_s() -> float:
    """Seconds of this process and of those it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


COLUMNS_IN = ("set", "in", "out", "frames kept", "annotated", "ED, ES from", "slice order from")
COLUMNS_IN += ("kB a subject", "CPU s", "wall s")


def _in(each: Ingested) -> Sequence[object]:
    rows = each.summary.added
    size_kb = np.median([(each.summary.folder / row.file).stat().st_size / 1000 for row in rows])
    return (
        each.name,
        len(rows),
        len(each.summary.skipped),
        _counts(f"{row.stored_frames} of {row.frames}" if row.stored_frames > 2 else "ED, ES" for row in rows),
        _counts(annotated(row.coverage) for row in rows),
        _counts(row.phases_from for row in rows),
        _counts(row.slices_from for row in rows),
        f"{size_kb:.0f}",
        f"{each.cpu_s:.1f}",
        f"{each.wall_s:.1f}",
    )


def _counts(values: Iterable[str]) -> str:
    found = Counter(values).most_common()
    return found[0][0] if len(found) == 1 else ", ".join(f"{name} ({count})" for name, count in found)


COLUMNS_VOLUMES = ("set", "subjects", "do not fit", "median EDV, ESV mL")
COLUMNS_VOLUMES += ("EDV error %: median", "largest", "ESV error %: median", "largest")


def _volumes(each: Ingested, grid: Grid) -> Sequence[object]:
    """Errors are relative and absolute; those of subjects whose LV was annotated without a gap."""
    native, placed, outside = [], [], 0
    for row, study in each.studies():
        if row.lv_edv_ml is None or row.lv_esv_ml is None:
            continue
        try:
            label = place(study, grid).label_to_grid(_phases(study))
        except DataError:
            outside += 1
            continue
        native.append((row.lv_edv_ml, row.lv_esv_ml))
        placed.append(volumes_ml(label, Label.LV, grid.voxel_ml))
    errors = 100 * np.abs(np.array(placed) / np.array(native) - 1)
    edv, esv = ((f"{np.median(e):.2f}", f"{e.max():.2f}") for e in errors.T)
    middle = ", ".join(f"{value:.0f}" for value in np.median(native, axis=0))
    return (each.name, len(native), outside, middle, *edv, *esv)


COLUMNS_KNOWN = ("who", "subjects", "EDV mL", "published", "ESV mL", "published")


def _known(sets: Sequence[Ingested]) -> Iterable[Sequence[object]]:
    rows = {each.name: each.summary.added for each in sets}
    for group, known in ACDC_ML.items():
        found = [row for row in rows.get("acdc", ()) if row.diagnosis.value == group]
        if found:
            yield _against(f"acdc {group}, mean", found, known)
    for subject, known in SCD_ML.items():
        found = [row for row in rows.get("scd", ()) if row.subject == subject]
        if found:
            yield _against(f"scd {subject}", found, known)


def _against(who: str, rows: Sequence[SubjectRow], known: tuple[float, float]) -> Sequence[object]:
    means = np.array([(row.lv_edv_ml, row.lv_esv_ml) for row in rows], dtype=float).mean(axis=0)
    edv, esv = ((f"{mean:.1f}", f"{value:g}") for mean, value in zip(means, known, strict=True))
    return (who, len(rows), *edv, *esv)


COLUMNS_BACK = ("grid", "native slice step", "subjects", "identical", "ED: median", "worst", "ES: median", "worst")


def _there_and_back(sets: Sequence[Ingested]) -> Iterable[Sequence[object]]:
    """Of ACDC, where every voxel of every slice is annotated."""
    scores: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    for each in (each for each in sets if each.name == "acdc"):
        for _, study in each.studies():
            label, (x, y, z) = _phases(study), study.spacing_mm
            step, depth = "10 mm" if z == 10.0 else "5-7 mm", label.shape[3]
            half = Grid((round(400 / x), round(400 / y), depth), (x / 2, y / 2, z))
            own = Grid((200, 200, depth), (1.0, 1.0, z))
            presets = [(f"`{name}`", Grid.from_config(load_config(name).grid)) for name in ("base", "small")]
            for name, grid in (("half the pixel, own slices", half), ("1 x 1 mm, own slices", own), *presets):
                placement = place(study, grid)
                scores[name, step].append(_dice(placement.label_to_native(placement.label_to_grid(label)), label))
    for (name, step), found in scores.items():
        dice = np.stack(found)  # subject, phase, structure
        cells = [_triple(reduce(dice[:, i], axis=0)) for i in range(len(PHASES)) for reduce in (np.median, np.min)]
        yield (name, step, len(found), int((dice == 1.0).all(axis=(1, 2)).sum()), *cells)


def _phases(study: Study) -> np.ndarray:
    """Labels of ED and ES."""
    stored = study.frame_index.tolist()
    return study.label[[stored.index(study.ed_index), stored.index(study.es_index)]]


def _dice(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """By phase and structure."""
    pairs = [[(a == s, b == s) for s in STRUCTURES] for a, b in zip(found, true, strict=True)]
    return np.array([[2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in row] for row in pairs])


def _triple(values: np.ndarray) -> str:
    return " / ".join(f"{value:.3f}" for value in values)


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table as its rows come; nothing without any."""
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        return
    print(f"\n**{title}**\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in (first, *rows):
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


if __name__ == "__main__":
    main()
