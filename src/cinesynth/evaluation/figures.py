"""The plots of a report, as PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from cinesynth.evaluation.agreement import agreement
from cinesynth.evaluation.section import Figure
from cinesynth.types import STRUCTURES

Numbers = NDArray[np.float64]
Plotted = tuple[NDArray[Any], NDArray[Any], Sequence[str]]
"""Requested, achieved, and the diagnosis of each heart."""
DIAGNOSIS_COLOURS = {
    "UNKNOWN": "tab:gray",
    "NOR": "tab:green",
    "DCM": "tab:red",
    "HCM": "tab:blue",
    "MINF": "tab:orange",
    "RV": "tab:purple",
}


def to_png(canvas: Canvas) -> bytes:
    """A plot as PNG, without a display."""
    FigureCanvasAgg(canvas)
    stream = io.BytesIO()
    canvas.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    return stream.getvalue()


# --- Requested against achieved --------------------------------------------------------------------------------------


def agreement_figure(title: str, plotted: Mapping[str, Plotted]) -> Figure:
    """For each quantity a scatter plot above its Bland-Altman plot."""
    canvas = Canvas(figsize=(3.6 * len(plotted), 6.4), layout="constrained")
    axes = canvas.subplots(2, len(plotted), squeeze=False)
    for column, (name, (requested, achieved, groups)) in enumerate(plotted.items()):
        pair = np.asarray(requested, dtype=np.float64), np.asarray(achieved, dtype=np.float64)
        _scatter(axes[0, column], name, *pair, groups)
        _bland_altman(axes[1, column], name, *pair, groups)
    axes[0, 0].legend(fontsize=7, loc="upper left")
    canvas.suptitle(title, fontsize=10)
    return Figure(
        f"{title}: above, requested against achieved with the line of identity; below, their difference over their "
        "mean, with bias and 95 % limits of agreement.",
        to_png(canvas),
    )


def _points(axes: Axes, x: Numbers, y: Numbers, groups: Sequence[str]) -> None:
    for group, colour in DIAGNOSIS_COLOURS.items():
        chosen = np.array([g == group for g in groups])
        if chosen.any():
            axes.plot(x[chosen], y[chosen], "o", ms=4, alpha=0.75, color=colour, label=group, mec="none")


def _scatter(axes: Axes, name: str, requested: Numbers, achieved: Numbers, groups: Sequence[str]) -> None:
    ends = [min(requested.min(), achieved.min()), max(requested.max(), achieved.max())]
    axes.plot(ends, ends, color="0.6", lw=1, zorder=0)
    _points(axes, requested, achieved, groups)
    r = agreement(name, requested, achieved).r
    axes.set_title(name if r is None else f"{name}: r = {r:.2f}", fontsize=9)
    _label(axes, "requested", "achieved")


def _bland_altman(axes: Axes, name: str, requested: Numbers, achieved: Numbers, groups: Sequence[str]) -> None:
    result = agreement(name, requested, achieved)
    for value, style in ((result.bias, "-"), (result.low, "--"), (result.high, "--")):
        if value is not None:
            axes.axhline(value, color="0.4", lw=1, ls=style, zorder=0)
            at_right = ("axes fraction", "data")
            axes.annotate(f"{value:+.1f}", (1.0, value), xycoords=at_right, fontsize=7, ha="right", va="bottom")
    _points(axes, (requested + achieved) / 2, achieved - requested, groups)
    _label(axes, "mean of both", "achieved - requested")


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=7)


# --- Distributions ---------------------------------------------------------------------------------------------------


def distributions(titles: Sequence[str], quantities: Mapping[str, Sequence[NDArray[Any]]]) -> Figure:
    """For each quantity the hearts of each set as points, with median and quartiles."""
    columns = 3
    rows = -(-len(quantities) // columns)
    canvas = Canvas(figsize=(3.2 * columns, 2.6 * rows), layout="constrained")
    panels = canvas.subplots(rows, columns, squeeze=False).ravel()
    for axes, (name, sets) in zip(panels, quantities.items(), strict=False):
        _strip(axes, titles, sets)
        axes.set_title(name, fontsize=9)
    for axes in panels[len(quantities) :]:
        axes.set_visible(False)
    return Figure(
        "Walls and edges of generated and of real hearts: one point per heart, median and quartiles.", to_png(canvas)
    )


def dice_figure(titles: Sequence[str], dice: Sequence[NDArray[Any]]) -> Figure:
    """Dice ``N 2 S`` of the segmenter and each set's labels, one panel per structure."""
    canvas = Canvas(figsize=(3.2 * len(STRUCTURES), 2.8), layout="constrained")
    for i, (axes, structure) in enumerate(zip(canvas.subplots(1, len(STRUCTURES)), STRUCTURES, strict=True)):
        _strip(axes, titles, [d[:, :, i][np.isfinite(d[:, :, i])] for d in dice])
        axes.set_title(f"Dice {structure.name}", fontsize=9)
    return Figure(
        "The independent segmenter against the masks of generated images and the annotations of real ones, ED and ES.",
        to_png(canvas),
    )


def _strip(axes: Axes, titles: Sequence[str], sets: Sequence[NDArray[Any]]) -> None:
    rng = np.random.default_rng(0)
    for place, values in enumerate(sets):
        if len(values) == 0:
            continue
        across = place + rng.uniform(-0.15, 0.15, len(values))
        colour = ("tab:red", "tab:blue", "tab:green")[place % 3]
        axes.plot(across, values, "o", ms=3, alpha=0.5, color=colour, mec="none")
        low, middle, high = np.percentile(values, (25, 50, 75))
        axes.vlines(place + 0.28, low, high, color="0.3", lw=1.5)
        axes.hlines(middle, place + 0.2, place + 0.36, color="0.3", lw=1.5)
    axes.set_xticks(range(len(titles)), [f"{t}\n({len(v)})" for t, v in zip(titles, sets, strict=True)], fontsize=7)
    axes.tick_params(axis="y", labelsize=7)
    axes.margins(x=0.15)


# --- Volume curves ---------------------------------------------------------------------------------------------------


def draw_curves(generated: Sequence[Numbers], real: Sequence[Numbers], shown: int = 60) -> bytes:
    """LV volume over EDV against the fraction of the cycle: a thin line for each of the first ``shown`` hearts of a
    set, a thick one for its median."""
    canvas = Canvas(figsize=(7.0, 3.4), layout="constrained")
    axes = canvas.add_subplot()
    for curves, colour, name in ((real, "#2f6fa8", "real"), (generated, "#b3430f", "generated")):
        if len(curves):
            closed = np.array([[*curve, curve[0]] for curve in curves])
            times = np.linspace(0.0, 1.0, closed.shape[1])
            axes.plot(times, closed[:shown].T, color=colour, linewidth=0.6, alpha=0.3)
            axes.plot(times, np.median(closed, axis=0), color=colour, linewidth=2.2, label=f"{name}, median")
    axes.set(xlabel="fraction of the cycle after ED", ylabel="LV volume / EDV", xlim=(0, 1), ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    return to_png(canvas)


# --- Images ----------------------------------------------------------------------------------------------------------


def draw_pairs(pairs: Sequence[tuple[tuple[str, NDArray[np.float32]], tuple[str, NDArray[np.float32]]]]) -> bytes:
    """Pairs of titled slices ``X Y`` in [-1, 1], the first of each above the second."""
    canvas = Canvas(figsize=(2.4 * len(pairs), 5.4), layout="constrained")
    axes = canvas.subplots(2, len(pairs), squeeze=False)
    for column, pair in enumerate(pairs):
        for row, (title, view) in enumerate(pair):
            axes[row, column].imshow(view.T, cmap="gray", vmin=-1, vmax=1)
            axes[row, column].set_title(title, fontsize=8)
            axes[row, column].set_axis_off()
    return to_png(canvas)
