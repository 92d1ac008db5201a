"""How every figure of this package is set up, coloured and saved; the plots of hearts and of sets of hearts."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from cinesynth.reports.slices import COLOURS, for_plots
from cinesynth.types import Label

DPI, PAGE_DPI = 100, 110
"""Dots per inch; those of the page of an evaluation."""
Values = NDArray[Any]
Curve = tuple[Values, Values]
"""Times and values of one curve."""
DIAGNOSIS_COLOURS = {
    "UNKNOWN": "tab:gray",
    "NOR": "tab:green",
    "DCM": "tab:red",
    "HCM": "tab:blue",
    "MINF": "tab:orange",
    "RV": "tab:purple",
}


def new_figure(width_px: float, height_px: float, layout: Any = None) -> Figure:
    """A figure of this size at 100 dots per inch that draws without a display."""
    figure = Figure(figsize=(width_px / DPI, height_px / DPI), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def axes_at(figure: Figure, left_px: float, bottom_px: float, width_px: float, height_px: float) -> Axes:
    """Axes at this place of ``figure``, counted in pixels from its lower left corner."""
    width, height = figure.get_size_inches() * DPI
    return figure.add_axes((left_px / width, bottom_px / height, width_px / width, height_px / height))


def save_png(figure: Figure, target: Path | io.BytesIO, dpi: int = DPI) -> None:
    """Write ``figure`` as PNG without the name of the software, so that equal figures are equal bytes."""
    # Level 3 takes half the time of zlib's usual 6, and contact sheets are no larger.
    figure.savefig(target, dpi=dpi, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": 3})


def to_png(figure: Figure, dpi: int = DPI) -> bytes:
    """``figure`` as the bytes of a PNG file."""
    buffer = io.BytesIO()
    save_png(figure, buffer, dpi)
    return buffer.getvalue()


def to_palette_png(figure: Figure) -> bytes:
    """``figure`` as PNG with a fixed palette of greys and contour colours, which halves its size."""
    pixels, packed = io.BytesIO(), io.BytesIO()
    figure.savefig(pixels, format="rgba", dpi=DPI)
    picture = Image.frombytes("RGBA", figure.canvas.get_width_height(), pixels.getvalue()).convert("RGB")
    picture.quantize(palette=_palette(), dither=Image.Dither.NONE).save(packed, format="PNG", optimize=True)
    return packed.getvalue()


def _palette(greys: int = 52) -> Image.Image:
    lines = [np.array(colour, dtype=np.float64) for colour in COLOURS.values()]
    # The antialiased edge of a contour blends its colour into dark, medium or white surroundings.
    edges = [
        share * line + (1 - share) * grey for line in lines for grey in (30.0, 120.0, 255.0) for share in (0.35, 0.7)
    ]
    shades = np.append(np.linspace(0.0, 245.0, greys - 1), 255.0)  # Pillow's search is coarse: keep white apart
    ramp = shades[:, None].repeat(3, axis=1)
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.vstack([ramp, *lines, *edges]).round().astype(np.uint8).ravel().tolist())
    return palette


def draw_volume_curves(
    axes: Axes, curves: Mapping[Label, Curve], es_time: float, *, width: float = 1.5, es_width: float = 1.5
) -> None:
    """Draw the volume of each structure over time and a dotted line at ES; widths of the lines in points."""
    for structure, (times, volumes_ml) in curves.items():
        axes.plot(times, volumes_ml, color=for_plots(structure), marker=".", linewidth=width, label=structure.name)
    axes.axvline(es_time, color="0.6", linestyle=":", linewidth=es_width)
    axes.set_ylim(bottom=0)


def name_time_axis(axes: Axes, in_ms: bool, **text: Any) -> None:
    """Label the horizontal axis as time after ED, in milliseconds or in whole frames."""
    axes.set_xlabel("ms after ED" if in_ms else "frames after ED", **text)
    if not in_ms:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)


# --- Sets of hearts, as PNG for the page of an evaluation ------------------------------------------------------------


def agreement_plots(
    title: str, panels: Mapping[str, tuple[Values, Values, Sequence[str], str, Sequence[float | None]]]
) -> bytes:
    """For each quantity a scatter plot of achieved over requested, and below it its Bland-Altman plot.

    ``panels`` holds, by name, the requested and achieved values, the diagnoses, the upper plot's title, and what the
    lower one marks: bias, lower and upper limit of agreement.
    """
    figure = new_figure(360 * len(panels), 640, layout="constrained")
    axes = figure.subplots(2, len(panels), squeeze=False)
    for (above, below), (requested, achieved, diagnoses, name, limits) in zip(axes.T, panels.values(), strict=True):
        ends = [min(requested.min(), achieved.min()), max(requested.max(), achieved.max())]
        above.plot(ends, ends, color="0.6", lw=1, zorder=0)
        _points(above, requested, achieved, diagnoses, ("requested", "achieved"))
        above.set_title(name, fontsize=9)
        for value, style in zip(limits, ("-", "--", "--"), strict=True):
            if value is not None:
                below.axhline(value, color="0.4", lw=1, ls=style, zorder=0)
                at_right = ("axes fraction", "data")
                below.annotate(f"{value:+.1f}", (1.0, value), xycoords=at_right, fontsize=7, ha="right", va="bottom")
        _points(
            below, (requested + achieved) / 2, achieved - requested, diagnoses, ("mean of both", "achieved - requested")
        )
    axes[0, 0].legend(fontsize=7, loc="upper left")
    figure.suptitle(title, fontsize=10)
    return to_png(figure, PAGE_DPI)


def _points(axes: Axes, x: Values, y: Values, diagnoses: Sequence[str], labels: tuple[str, str]) -> None:
    for diagnosis, colour in DIAGNOSIS_COLOURS.items():
        chosen = np.array([d == diagnosis for d in diagnoses])
        if chosen.any():
            axes.plot(x[chosen], y[chosen], "o", ms=4, alpha=0.75, color=colour, label=diagnosis, mec="none")
    axes.set_xlabel(labels[0], fontsize=8)
    axes.set_ylabel(labels[1], fontsize=8)
    axes.tick_params(labelsize=7)


def strip_plots(titles: Sequence[str], quantities: Mapping[str, Sequence[Values]], panel_height_px: int) -> bytes:
    """For each quantity the hearts of each set as points, with median and quartiles; three panels a row."""
    columns = 3
    rows = -(-len(quantities) // columns)
    figure = new_figure(320 * columns, panel_height_px * rows, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (name, sets) in zip(panels, quantities.items(), strict=False):
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
        counted = [f"{title}\n({len(values)})" for title, values in zip(titles, sets, strict=True)]
        axes.set_xticks(range(len(titles)), counted, fontsize=7)
        axes.tick_params(axis="y", labelsize=7)
        axes.margins(x=0.15)
        axes.set_title(name, fontsize=9)
    for axes in panels[len(quantities) :]:
        axes.set_visible(False)
    return to_png(figure, PAGE_DPI)


def cycle_plot(generated: Sequence[Values], real: Sequence[Values], shown: int = 60) -> bytes:
    """LV volume over EDV against the fraction of the cycle: a thin line for each of the first ``shown`` hearts of a
    set, a thick one for its median."""
    figure = new_figure(700, 340, layout="constrained")
    axes = figure.add_subplot()
    for curves, colour, name in ((real, "#2f6fa8", "real"), (generated, "#b3430f", "generated")):
        if len(curves):
            closed = np.array([[*curve, curve[0]] for curve in curves])
            times = np.linspace(0.0, 1.0, closed.shape[1])
            axes.plot(times, closed[:shown].T, color=colour, linewidth=0.6, alpha=0.3)
            axes.plot(times, np.median(closed, axis=0), color=colour, linewidth=2.2, label=f"{name}, median")
    axes.set(xlabel="fraction of the cycle after ED", ylabel="LV volume / EDV", xlim=(0, 1), ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    return to_png(figure, PAGE_DPI)


def paired_slices(pairs: Sequence[Sequence[tuple[str, Values]]]) -> bytes:
    """Pairs of titled slices ``X Y`` in [-1, 1], the first of each above the second."""
    figure = new_figure(240 * len(pairs), 540, layout="constrained")
    for column, pair in zip(figure.subplots(2, len(pairs), squeeze=False).T, pairs, strict=True):
        for axes, (title, plane) in zip(column, pair, strict=True):
            axes.imshow(plane.T, cmap="gray", vmin=-1, vmax=1)
            axes.set_title(title, fontsize=8)
            axes.set_axis_off()
    return to_png(figure, PAGE_DPI)
