"""Do generated hearts have what was requested: two cohorts of the same requests, with and without volume matching.

    cinesynth generate --count 200 --frames 16 --seed 2026 --no-pictures --out matched
    cinesynth generate --count 200 --frames 16 --seed 2026 --no-pictures --no-match-volumes --out unmatched
    cinesynth train segmenter --preset compact --dataset hearts --run segmenter
    python benchmarks/control.py --matched matched --unmatched unmatched --dataset hearts --segmenter segmenter \\
        --out control

Prints how EDV, ESV and EF of the masks, and of the images as segmented, follow the request, beside the segmenter's own
error on held-out subjects. Writes ``control.png``, a scatter plot of each, and ``worst.png``: ED and ES of the hearts
that were not accepted, and of those furthest from their request, in masks or images. ``--unmatched``, the segmenter and
the rest of a cohort may be missing.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cinesynth.config import parse_config
from cinesynth.data.geometry import Grid
from cinesynth.data.packed import prepare
from cinesynth.evaluation.agreement import QUANTITIES, Agreement, agreement
from cinesynth.evaluation.cases import Case, CaseSet, cohort, patients, without_phantoms
from cinesynth.evaluation.control import DIAGNOSES, MEASURER, PairedValues
from cinesynth.evaluation.measure import measure
from cinesynth.evaluation.segmenter import NAME as SEGMENTER
from cinesynth.evaluation.segmenter import Segmenter, measurer
from cinesynth.reports.plots import DIAGNOSIS_COLOURS
from cinesynth.reports.slices import View, tile, window_of
from cinesynth.weights.folder import stage_info
from cinesynth.weights.registry import find_bundle

SHOWN = ("EDV", "ESV", "EF")
WORST, SLICES, PIXELS = 20, 8, 110


def agreement_of(source: PairedValues, quantity: str) -> Agreement:
    return agreement(quantity, *source.pairs(quantity))


def row(source: PairedValues) -> str:
    cells = [f"{a.r:.4f} | {a.bias:+.2f} | {a.mae:.2f}" for a in (agreement_of(source, q) for q in SHOWN)]
    return f"| {source.title} | {len(source.requested)} | {' | '.join(cells)} |"


def error_of(source: PairedValues) -> NDArray[np.float64]:
    """How far each heart is from its request: the largest of EDV and ESV in mL and EF in points."""
    places = [QUANTITIES.index(quantity) for quantity in SHOWN]
    error = np.abs(source.achieved[:, places] - source.requested[:, places]).max(axis=1)
    return np.asarray(np.nan_to_num(error, nan=np.inf), dtype=np.float64)


def ed_and_es(case: Case) -> Case:
    """``case`` at the two frames that a request describes."""
    frames = [case.ed, case.es]
    image, label, coverage = case.image[frames], case.label[frames], case.coverage[frames]
    return replace(case, image=image, label=label, coverage=coverage, ed=0, es=1, whole_cycle=False)


def sources_of(
    name: str, cases: CaseSet, segmenter: Segmenter | None, cache: Path, real: bool = False
) -> list[PairedValues]:
    """Masks and images; of real subjects the images alone, compared with their masks."""
    cases = cases.changed("ED and ES", ed_and_es)
    found = measure(cases, [MEASURER, *([measurer(segmenter)] if segmenter else [])], cache, workers=1)
    groups = found["control.diagnosis"]
    masks = found["control.achieved"]
    asked = masks if real else found["control.requested"]
    sources = [] if real else [PairedValues(f"{name}, masks", asked, masks, groups)]
    if segmenter is not None:
        sources.append(PairedValues(f"{name}, images", asked, found[f"{SEGMENTER}.achieved"], groups))
    return sources


def draw_scatter(sources: list[PairedValues], path: Path) -> None:
    figure = Figure(figsize=(3.4 * len(SHOWN), 3.1 * len(sources)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(sources), len(SHOWN), squeeze=False)
    for line, source in zip(grid, sources, strict=True):
        for axes, quantity in zip(line, SHOWN, strict=True):
            asked, found = source.pairs(quantity)
            ends = [min(asked.min(), found.min()), max(asked.max(), found.max())]
            axes.plot(ends, ends, color="0.6", linewidth=1, zorder=0)
            for place, diagnosis in enumerate(DIAGNOSES):
                x, y = source.pairs(quantity, place)
                if len(x):
                    colour = DIAGNOSIS_COLOURS[diagnosis.value]
                    axes.plot(x, y, "o", ms=3.5, alpha=0.7, mec="none", color=colour, label=diagnosis.value)
            result = agreement_of(source, quantity)
            axes.set_title(f"{quantity}: r = {result.r:.3f}, MAE {result.mae:.1f}", fontsize=9)
            axes.tick_params(labelsize=7)
        line[0].set_ylabel(source.title, fontsize=9)
    grid[0][0].legend(fontsize=7)
    figure.savefig(path, dpi=100, metadata={"Software": None})


def draw_worst(cases: CaseSet, sources: list[PairedValues], rejected: set[str], path: Path) -> list[str]:
    """The worst hearts, first those that the rules reject; their names and why."""
    away = np.max([error_of(source) for source in sources], axis=0)
    was_rejected = np.array([name in rejected for name in cases.names])
    order = np.lexsort((-away, ~was_rejected))[:WORST]
    figure = Figure(figsize=(2 * SLICES * PIXELS / 100 + 1.6, len(order) * PIXELS / 100))
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(order), 1, squeeze=False)[:, 0]
    described = []
    for axes, i in zip(grid, order, strict=True):
        why = "was_rejected, " if was_rejected[i] else ""
        described.append(f"{cases.names[i]}: {why}{away[i]:.1f} off")
        axes.imshow(_strip(cases[int(i)]), interpolation="none")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_ylabel(f"{cases.names[i][-4:]}\n{away[i]:.0f}{' R' if was_rejected[i] else ''}", fontsize=7)
    figure.subplots_adjust(0.04, 0, 1, 1, 0, 0.02)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    return described


def _strip(case: Case) -> NDArray[np.uint8]:
    """Slices from base to apex at ED, and at ES."""
    slices = np.unique(np.linspace(0, case.image.shape[-1] - 1, SLICES).round().astype(int))
    view, window = View.of(case.label, case.label.shape, case.spacing_mm, 120.0, PIXELS), window_of(case.image)
    tiles = [
        tile(case.image[t, ..., z], case.label[t, ..., z], view, window) for t in (case.ed, case.es) for z in slices
    ]
    return np.hstack(tiles)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--matched", type=Path, required=True)
    parser.add_argument("--unmatched", type=Path)
    parser.add_argument("--dataset", type=Path, help="dataset on whose test subjects the segmenter is tested")
    parser.add_argument("--segmenter", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    segmenter = Segmenter.load(arguments.segmenter) if arguments.segmenter else None
    cache = arguments.out / "cache"
    matched = cohort(arguments.matched)
    matched_sources = sources_of("matched", matched, segmenter, cache)
    sources = list(matched_sources)
    if arguments.unmatched:
        sources += sources_of("not matched", cohort(arguments.unmatched), segmenter, cache)
    if segmenter and arguments.dataset:
        grid = Grid.from_config(parse_config(stage_info(find_bundle(arguments.weights), "vae")["config"]).grid)
        subjects = without_phantoms(prepare(arguments.dataset, grid).split("test"))
        sources += sources_of("real subjects", patients(subjects, "real subjects"), segmenter, cache, real=True)
    print(f"| | n |{''.join(f' {q} r | bias | MAE |' for q in SHOWN)}\n|---{'|---' * (1 + 3 * len(SHOWN))}|")
    print("\n".join(row(source) for source in sources))
    draw_scatter(sources, arguments.out / "control.png")
    rejected = _rejected(arguments.matched)
    print(f"\naccepted: {len(matched) - len(rejected)} of {len(matched)}; the worst:")
    print("\n".join(draw_worst(matched, matched_sources, rejected, arguments.out / "worst.png")))


def _rejected(folder: Path) -> set[str]:
    with (folder / "manifest.csv").open(newline="") as file:
        return {row["case"] for row in csv.DictReader(file) if row["accepted"] != "True"}


if __name__ == "__main__":
    main()
