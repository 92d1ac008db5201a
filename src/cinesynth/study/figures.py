"""The figures of a study: change against ratio, and the subjects that are segmented worst."""

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
from cinesynth.study.metrics import COLUMNS, MEAN, Results, ed_es_frames
from cinesynth.study.run import StudyRun, label_file
from cinesynth.study.runs import BASELINE, SegmenterTask, TrainingRun, arms_of
from cinesynth.study.spec import StudySpec
from cinesynth.types import LabelArray, Study


def draw_gains(spec: StudySpec, results: Results, out: Path) -> list[Path]:
    """A figure per group: change of Dice and HD95 (rows) by structure (columns) against the ratio of generated hearts.

    Each line is a number of labelled subjects.
    """
    plotted = (("dice", "Dice, points", 100.0), ("hd95_mm", "HD95, mm", 1.0))
    paths = []
    for group in spec.tests:
        figure = Figure(figsize=(3.2 * len(COLUMNS), 5.6), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(len(plotted), len(COLUMNS), squeeze=False, sharex=True)
        for axes_row, (metric, title, factor) in zip(grid, plotted, strict=True):
            for axes, column in zip(axes_row, COLUMNS, strict=True):
                _draw_lines(axes, spec, results, group, metric, column, factor)
            axes_row[0].set_ylabel(title)
        for axes, column in zip(grid[0], COLUMNS, strict=True):
            axes.set_title(column)
        for axes in grid[-1]:
            axes.set_xlabel("generated hearts per labelled subject")
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
    for number, n_labelled in enumerate(spec.n_labelled):
        gains = {
            arm.ratio: gain
            for arm in arms_of(spec)
            if arm.generated and arm.real
            if (gain := results.gain(group, n_labelled, arm.name, BASELINE, metric).get(column))
        }
        if not gains:
            continue
        ratios, estimates = np.array(list(gains)), list(gains.values())
        values = factor * np.array([[e.value, e.value - e.low, e.high - e.value] for e in estimates]).T
        # Lines are shifted by 4 % of the ratio each, so that their intervals do not overlap.
        shifted = ratios * (1 + 0.04 * (number - (len(spec.n_labelled) - 1) / 2))
        axes.errorbar(shifted, values[0], yerr=values[1:], marker="o", capsize=3, label=str(n_labelled), linewidth=1.2)
    axes.set_xscale("log", base=2)
    axes.set_xticks(spec.ratios, [f"{ratio:g}" for ratio in spec.ratios])
    axes.minorticks_off()


def draw_worst(run: StudyRun, results: Results, out: Path, count: int = 6) -> list[Path]:
    """A figure per group: the ``count`` subjects with the lowest Dice in the primary arm, annotation beside both arms.

    Shown are the first seed and number of labelled subjects. Rows are subjects, at the frame and in the slice where
    the two segmenters differ most.
    """
    spec, n_labelled, seed = run.spec, run.spec.n_labelled[0], run.spec.seeds[0]
    arms = {arm.name: arm for arm in arms_of(spec)}
    runs = [TrainingRun(n_labelled, arms[name], seed) for name in (BASELINE, f"x{spec.primary_ratio:g}")]
    if any(each not in results.scores for each in runs):
        return []
    tasks = [run.task(each) for each in runs]
    paths = []
    for group, rows in run.subjects.tests.items():
        dice = results.scores[runs[1]][group]["dice"][:, COLUMNS.index(MEAN)]
        worst = [(rows[i], float(dice[i])) for i in np.argsort(dice)[:count]]
        paths.append(_draw_subjects(run, group, worst, tasks, [each.arm.title for each in runs], out))
    return paths


def _draw_subjects(
    run: StudyRun,
    group: str,
    worst: Sequence[tuple[SubjectRow, float]],
    tasks: Sequence[SegmenterTask],
    titles: Sequence[str],
    out: Path,
) -> Path:
    columns = ("image", "annotation", *titles)
    figure = Figure(figsize=(2.2 * len(columns), 2.2 * len(worst)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(worst), len(columns), squeeze=False)
    for axes_row, (row, dice) in zip(grid, worst, strict=True):
        study = ed_es_frames(load_study(run.subjects.data, row))
        predicted = [_read_label(label_file(task, group, row)) for task in tasks]
        for axes, picture in zip(axes_row, _tiles(study, predicted), strict=True):
            axes.imshow(picture, interpolation="none")
            axes.set_xticks([])
            axes.set_yticks([])
        axes_row[0].set_ylabel(f"{row.subject}\nDice {dice:.2f}", fontsize=8)
    for axes, title in zip(grid[0], columns, strict=True):
        axes.set_title(title, fontsize=9)
    return _save(figure, out / f"worst-{group}.png")


def _tiles(study: Study, predicted: Sequence[LabelArray]) -> list[RGB]:
    """Image, annotation and both predictions, where the predictions differ most (or the heart is largest)."""
    differing = (predicted[0] != predicted[1]).sum(axis=(1, 2))  # T Z
    t, z = np.unravel_index(int((differing + 1e-3 * (study.label > 0).sum(axis=(1, 2))).argmax()), differing.shape)
    view = View.of(study.label, study.label.shape, study.spacing_mm, field_mm=150.0, pixels=150)
    window = window_of(study.image)
    labels = [None, study.label[t, ..., z], *(label[t, ..., z] for label in predicted)]
    return [tile(study.image[t, ..., z], label, view, window) for label in labels]


def _read_label(path: Path) -> LabelArray:
    with np.load(path, allow_pickle=False) as content:
        return np.asarray(content["label"], dtype=np.uint8)


def _save(figure: Figure, path: Path) -> Path:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png", metadata={"Software": None})
    return path
