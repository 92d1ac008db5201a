"""Volume curves as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

GENERATED, PEOPLE = "#b3430f", "#2f6fa8"
SHOWN = 60
"""Curves of a set that are drawn."""

Curves = Sequence[NDArray[np.float64]]


def draw_curves(generated: Curves, people: Curves) -> bytes:
    """LV volumes over EDV against the share of the cycle, as PNG: thin lines for hearts, thick ones for medians."""
    figure = Figure(figsize=(7.0, 3.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for curves, colour, name in ((people, PEOPLE, "people"), (generated, GENERATED, "generated")):
        if len(curves):
            whole = np.array([[*curve, curve[0]] for curve in curves])
            times = np.linspace(0.0, 1.0, whole.shape[1])
            axes.plot(times, whole[:SHOWN].T, color=colour, linewidth=0.6, alpha=0.3)
            axes.plot(times, np.median(whole, axis=0), color=colour, linewidth=2.2, label=f"{name}, median")
    axes.set(xlabel="share of the cycle after ED", ylabel="LV volume / EDV", xlim=(0, 1), ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()
