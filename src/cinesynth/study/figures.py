"""The figures of a study: change against ratio, and the subjects that are segmented worst."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cinesynth.data.packed import load_study
from cinesynth.io.files import write_bytes
from cinesynth.reports.plots import new_figure, to_png
from cinesynth.reports.slices import RGB, PlaneView, tile, window_of
from cinesynth.study.metrics import COLUMNS, MEAN, Results, ed_es_frames
from cinesynth.study.plan import BASELINE, TrainingRun, arms_of
from cinesynth.study.run import StudyRun
from cinesynth.study.spec import StudySpec
from cinesynth.types import LabelArray, Study

PLOTTED = (("dice", "Dice, points", 100.0), ("hd95_mm", "HD95, mm", 1.0))
"""Metric, title and factor of each row of `draw_gains`."""


def draw_gains(spec: StudySpec, results: Results, out: Path) -> list[Path]:
    """A figure per group: change of Dice and HD95 by structure against the ratio, a line per ``n_labelled``."""
    paths = []
    for group in spec.tests:
        figure = new_figure(320 * len(COLUMNS), 560, "constrained")
        grid = figure.subplots(len(PLOTTED), len(COLUMNS), squeeze=False, sharex=True)
        for axes_row, (metric, title, factor) in zip(grid, PLOTTED, strict=True):
            for axes, column in zip(axes_row, COLUMNS, strict=True):
                _draw_lines(axes, spec, results, group, metric, column, factor)
            axes_row[0].set_ylabel(title)
        for above, below, column in zip(grid[0], grid[-1], COLUMNS, strict=True):
            above.set_title(column)
            below.set_xlabel("generated hearts per labelled subject")
        handles, labels = grid[0][-1].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, title="labelled subjects", loc="outside right center", frameon=False)
        figure.suptitle(f"{group}: change from real subjects with augmentation, 95 % interval")
        paths.append(_save(figure, out / f"gains-{group}.png"))
    return paths


def _draw_lines(
    axes: Axes, spec: StudySpec, results: Results, group: str, metric: str, column: str, factor: float
) -> None:
    axes.axhline(0.0, color="0.6", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    arms = [arm for arm in arms_of(spec) if arm.generated and arm.real]
    for number, n_labelled in enumerate(spec.n_labelled):
        by_arm = [(a.ratio, results.estimates(group, n_labelled, metric, a.name, BASELINE).get(column)) for a in arms]
        known = [(ratio, e.value, e.value - e.low, e.high - e.value) for ratio, e in by_arm if e is not None]
        if not known:
            continue
        ratios, *values = np.array(known).T
        # Lines are shifted by 4 % of the ratio each, so that their intervals do not overlap.
        shifted = ratios * (1 + 0.04 * (number - (len(spec.n_labelled) - 1) / 2))
        middle, *errors = (factor * each for each in values)
        axes.errorbar(shifted, middle, yerr=errors, marker="o", capsize=3, label=str(n_labelled), linewidth=1.2)
    axes.set_xscale("log", base=2)
    axes.set_xticks(spec.ratios, [f"{ratio:g}" for ratio in spec.ratios])
    axes.minorticks_off()


def draw_worst(run: StudyRun, results: Results, out: Path, count: int = 6) -> list[Path]:
    """A figure per group: the ``count`` subjects with the lowest Dice in the primary arm, annotation beside both arms.

    Shown are the first seed and number of labelled subjects. Rows are subjects, at the frame and in the slice where
    the two segmenters differ most.
    """
    arms = {arm.name: arm for arm in arms_of(run.spec)}
    compared = [arms[name] for name in (BASELINE, f"x{run.spec.primary_ratio:g}")]
    runs = [TrainingRun(run.spec.n_labelled[0], arm, run.spec.seeds[0]) for arm in compared]
    if any(each not in results.scores for each in runs):
        return []
    tasks, paths = [run.task(each) for each in runs], []
    columns = ("image", "annotation", *(each.arm.title for each in runs))
    for group, rows in run.subjects.tests.items():
        dice = results.scores[runs[1]][group]["dice"][:, COLUMNS.index(MEAN)]
        worst = np.argsort(dice)[:count]
        figure = new_figure(220 * len(columns), 220 * len(worst), "constrained")
        grid = figure.subplots(len(worst), len(columns), squeeze=False)
        for axes_row, i in zip(grid, worst, strict=True):
            study = ed_es_frames(load_study(run.subjects.data, rows[i]))
            predicted = []
            for task in tasks:
                with np.load(task.label_file(group, rows[i]), allow_pickle=False) as content:
                    predicted.append(np.asarray(content["label"], dtype=np.uint8))
            for axes, picture in zip(axes_row, _tiles(study, predicted), strict=True):
                axes.imshow(picture, interpolation="none")
                axes.set_xticks([])
                axes.set_yticks([])
            axes_row[0].set_ylabel(f"{rows[i].subject}\nDice {dice[i]:.2f}", fontsize=8)
        for axes, title in zip(grid[0], columns, strict=True):
            axes.set_title(title, fontsize=9)
        paths.append(_save(figure, out / f"worst-{group}.png"))
    return paths


def _tiles(study: Study, predicted: Sequence[LabelArray]) -> list[RGB]:
    """Image, annotation and both predictions, where the predictions differ most (or the heart is largest)."""
    differing = (predicted[0] != predicted[1]).sum(axis=(1, 2))  # T Z
    t, z = np.unravel_index(int((differing + 1e-3 * (study.label > 0).sum(axis=(1, 2))).argmax()), differing.shape)
    view = PlaneView.of(study.label, study.label.shape, study.spacing_mm, field_mm=150.0, pixels=150)
    window = window_of(study.image)
    labels = [None, study.label[t, ..., z], *(label[t, ..., z] for label in predicted)]
    return [tile(study.image[t, ..., z], label, view, window) for label in labels]


def _save(figure: Figure, path: Path) -> Path:
    write_bytes(path, to_png(figure))
    return path
