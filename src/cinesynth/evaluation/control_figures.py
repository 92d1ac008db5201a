"""Scatter and Bland-Altman plots of what was asked and what came out."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cinesynth.evaluation.agreement import agreement
from cinesynth.evaluation.section import Picture

Shown = tuple[NDArray[Any], NDArray[Any], Sequence[str]]
AT_RIGHT = ("axes fraction", "data")
COLOURS = {
    "UNKNOWN": "tab:gray",
    "NOR": "tab:green",
    "DCM": "tab:red",
    "HCM": "tab:blue",
    "MINF": "tab:orange",
    "RV": "tab:purple",
}


def agreement_picture(title: str, shown: Mapping[str, Shown]) -> Picture:
    """For each quantity (requested, achieved, diagnoses): a scatter plot above its Bland-Altman plot."""
    figure = Figure(figsize=(3.6 * len(shown), 6.4), layout="constrained")
    axes = figure.subplots(2, len(shown), squeeze=False)
    for column, (name, (asked, found, groups)) in enumerate(shown.items()):
        asked, found = np.asarray(asked, dtype=np.float64), np.asarray(found, dtype=np.float64)
        _scatter(axes[0, column], name, asked, found, groups)
        _bland_altman(axes[1, column], name, asked, found, groups)
    axes[0, 0].legend(fontsize=7, loc="upper left")
    figure.suptitle(title, fontsize=10)
    return Picture(
        f"{title}: above, requested against achieved with the line of identity; below, their difference over their "
        "mean, with bias and 95 % limits of agreement.",
        to_png(figure),
    )


def _points(axis: Axes, x: NDArray[np.float64], y: NDArray[np.float64], groups: Sequence[str]) -> None:
    for group, colour in COLOURS.items():
        chosen = np.array([g == group for g in groups])
        if chosen.any():
            axis.plot(x[chosen], y[chosen], "o", ms=4, alpha=0.75, color=colour, label=group, mec="none")


def _scatter(
    axis: Axes, name: str, asked: NDArray[np.float64], found: NDArray[np.float64], groups: Sequence[str]
) -> None:
    ends = [min(asked.min(), found.min()), max(asked.max(), found.max())]
    axis.plot(ends, ends, color="0.6", lw=1, zorder=0)
    _points(axis, asked, found, groups)
    result = agreement(name, asked, found)
    axis.set_title(name if result.r is None else f"{name}: r = {result.r:.2f}", fontsize=9)
    axis.set_xlabel("requested", fontsize=8)
    axis.set_ylabel("achieved", fontsize=8)
    axis.tick_params(labelsize=7)


def _bland_altman(
    axis: Axes, name: str, asked: NDArray[np.float64], found: NDArray[np.float64], groups: Sequence[str]
) -> None:
    result = agreement(name, asked, found)
    for value, style in ((result.bias, "-"), (result.low, "--"), (result.high, "--")):
        if value is not None:
            axis.axhline(value, color="0.4", lw=1, ls=style, zorder=0)
            axis.annotate(
                f"{value:+.1f}", (1.0, value), xycoords=("axes fraction", "data"), fontsize=7, ha="right", va="bottom"
            )
    _points(axis, (asked + found) / 2, found - asked, groups)
    axis.set_xlabel("mean of both", fontsize=8)
    axis.set_ylabel("achieved - requested", fontsize=8)
    axis.tick_params(labelsize=7)


# --- Figures as bytes ------------------------------------------------------------------------------------------------


def to_png(figure: Figure) -> bytes:
    """A figure as PNG, without a display."""
    FigureCanvasAgg(figure)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()
