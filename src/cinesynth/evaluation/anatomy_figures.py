"""Distributions of hearts beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cinesynth.evaluation.control_figures import to_png
from cinesynth.evaluation.section import Picture
from cinesynth.types import STRUCTURES

COLOURS = ("tab:red", "tab:blue", "tab:green")
COLUMNS = 3


def distributions(titles: Sequence[str], shown: Mapping[str, Sequence[NDArray[Any]]]) -> Picture:
    """Of each quantity the hearts of each set as points, with their quartiles."""
    rows = -(-len(shown) // COLUMNS)
    figure = Figure(figsize=(3.2 * COLUMNS, 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axis, (name, sets) in zip(axes, shown.items(), strict=False):
        _strip(axis, titles, sets)
        axis.set_title(name, fontsize=9)
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    return Picture(
        "Walls and edges of generated and of real hearts: a point a heart, median and quartiles.", to_png(figure)
    )


def overlaps_picture(titles: Sequence[str], dice: Sequence[NDArray[Any]]) -> Picture:
    """Dice ``N 2 S`` of the segmenter and each set's labels, a panel a structure."""
    figure = Figure(figsize=(3.2 * len(STRUCTURES), 2.8), layout="constrained")
    for i, (axis, structure) in enumerate(zip(figure.subplots(1, len(STRUCTURES)), STRUCTURES, strict=True)):
        _strip(axis, titles, [d[:, :, i][np.isfinite(d[:, :, i])] for d in dice])
        axis.set_title(f"Dice {structure.name}", fontsize=9)
    return Picture(
        "The independent segmenter against the masks of generated images and the annotations of real ones, ED and ES.",
        to_png(figure),
    )


def _strip(axis: Axes, titles: Sequence[str], sets: Sequence[NDArray[Any]]) -> None:
    rng = np.random.default_rng(0)
    for place, values in enumerate(sets):
        if len(values) == 0:
            continue
        across = place + rng.uniform(-0.15, 0.15, len(values))
        axis.plot(across, values, "o", ms=3, alpha=0.5, color=COLOURS[place % len(COLOURS)], mec="none")
        low, middle, high = np.percentile(values, (25, 50, 75))
        axis.vlines(place + 0.28, low, high, color="0.3", lw=1.5)
        axis.hlines(middle, place + 0.2, place + 0.36, color="0.3", lw=1.5)
    axis.set_xticks(range(len(titles)), [f"{t}\n({len(v)})" for t, v in zip(titles, sets, strict=True)], fontsize=7)
    axis.tick_params(axis="y", labelsize=7)
    axis.margins(x=0.15)
