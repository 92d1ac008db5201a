"""What a study shows: gains against the ratio, and the persons that are segmented worst."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cinesynth.data.dataset_table import SubjectRow
from cinesynth.data.packed import load_study
from cinesynth.io.files import atomic_path
from cinesynth.reports.slices import RGB, View, tile, window_of
from cinesynth.study.metrics import COLUMNS, MEAN, Results, judged
from cinesynth.study.run import LABELS, StudyRun
from cinesynth.study.runs import BASELINE, Cell, arms_of
from cinesynth.study.spec import StudySpec
from cinesynth.study.subjects import name_of
from cinesynth.types import LabelArray, Study

DPI = 100
WORST = 6
PIXELS = 150
PLOTTED = (("dice", "Dice, points", 100.0), ("hd95_mm", "HD95, mm", 1.0))


def draw_gains(spec: StudySpec, results: Results, out: Path) -> list[Path]:
    """A picture a group: gain of each structure (columns) in Dice and HD95 (rows) against the ratio, a line a size."""
    paths = []
    for group in spec.tests:
        figure = Figure(figsize=(3.2 * len(COLUMNS), 5.6), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(len(PLOTTED), len(COLUMNS), squeeze=False, sharex=True)
        for axes_row, (metric, title, factor) in zip(grid, PLOTTED, strict=True):
            for axes, column in zip(axes_row, COLUMNS, strict=True):
                _draw_lines(axes, spec, results, group, metric, column, factor)
            axes_row[0].set_ylabel(title)
        for axes, column in zip(grid[0], COLUMNS, strict=True):
            axes.set_title(column)
        for axes in grid[-1]:
            axes.set_xlabel("generated hearts a labelled person")
        handles, labels = grid[0][-1].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, title="labelled people", loc="outside right center", frameon=False)
        figure.suptitle(f"{group}: change from real people with augmentation, interval of 95 %")
        paths.append(_save(figure, out / f"gains-{group}.png"))
    return paths


def _draw_lines(
    axes: Axes, spec: StudySpec, results: Results, group: str, metric: str, column: str, factor: float
) -> None:
    axes.axhline(0.0, color="0.6", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    for number, people in enumerate(spec.people):
        found = {
            arm.ratio: effect
            for arm in arms_of(spec)
            if arm.generated and arm.real
            if (effect := results.gain(group, people, arm.name, BASELINE, metric).get(column))
        }
        if not found:
            continue
        ratios, effects = np.array(list(found)), list(found.values())
        values = factor * np.array([[e.value, e.value - e.low, e.high - e.value] for e in effects]).T
        apart = ratios * (1 + 0.04 * (number - (len(spec.people) - 1) / 2))
        axes.errorbar(apart, values[0], yerr=values[1:], marker="o", capsize=3, label=str(people), linewidth=1.2)
    axes.set_xscale("log", base=2)
    axes.set_xticks(spec.ratios, [f"{ratio:g}" for ratio in spec.ratios])
    axes.minorticks_off()


def draw_worst(run: StudyRun, results: Results, out: Path) -> list[Path]:
    """A picture a group: the persons whom the judged arm segments worst, truth beside both arms (first seed and size).

    Rows are persons at the frame and in the slice where the two segmenters differ most.
    """
    spec, people, seed = run.spec, run.spec.people[0], run.spec.seeds[0]
    arms = {arm.name: arm for arm in arms_of(spec)}
    cells = [Cell(people, arms[name], seed) for name in (BASELINE, f"x{spec.judged_ratio:g}")]
    if any(cell not in results.found for cell in cells):
        return []
    folders = [run.task(cell).folder / LABELS for cell in cells]
    paths = []
    for group, rows in run.people.tests.items():
        dice = results.found[cells[1]][group]["dice"][:, COLUMNS.index(MEAN)]
        worst = [(rows[i], float(dice[i])) for i in np.argsort(dice)[:WORST]]
        paths.append(_draw_persons(run, group, worst, folders, [cell.arm.title for cell in cells], out))
    return paths


def _draw_persons(
    run: StudyRun,
    group: str,
    worst: Sequence[tuple[SubjectRow, float]],
    folders: Sequence[Path],
    titles: Sequence[str],
    out: Path,
) -> Path:
    columns = ("image", "annotated", *titles)
    figure = Figure(figsize=(2.2 * len(columns), 2.2 * len(worst)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(worst), len(columns), squeeze=False)
    for axes_row, (row, dice) in zip(grid, worst, strict=True):
        study = judged(load_study(run.people.data, row))
        found = [_labels(folder / f"{group}_{name_of(row)}.npz") for folder in folders]
        for axes, picture in zip(axes_row, _person(study, found), strict=True):
            axes.imshow(picture, interpolation="none")
            axes.set_xticks([])
            axes.set_yticks([])
        axes_row[0].set_ylabel(f"{row.subject}\nDice {dice:.2f}", fontsize=8)
    for axes, title in zip(grid[0], columns, strict=True):
        axes.set_title(title, fontsize=9)
    return _save(figure, out / f"worst-{group}.png")


def _person(study: Study, found: Sequence[LabelArray]) -> list[RGB]:
    """Image, annotation and both labels, where the two labels are furthest apart (or the heart is, if they agree)."""
    apart = (found[0] != found[1]).sum(axis=(1, 2)) + 1e-3 * (study.label > 0).sum(axis=(1, 2))  # T Z
    t, z = np.unravel_index(int(apart.argmax()), apart.shape)
    view = View.of(study.label, study.label.shape, study.spacing_mm, field_mm=150.0, pixels=PIXELS)
    window = window_of(study.image)
    labels = [None, study.label[t, ..., z], *(label[t, ..., z] for label in found)]
    return [tile(study.image[t, ..., z], label, view, window) for label in labels]


def _labels(path: Path) -> LabelArray:
    with np.load(path, allow_pickle=False) as content:
        return np.asarray(content["label"], dtype=np.uint8)


def _save(figure: Figure, path: Path) -> Path:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=DPI, format="png", metadata={"Software": None})
    return path
