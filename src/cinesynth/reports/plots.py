"""How every figure of this package is set up, coloured and saved."""

from __future__ import annotations

import io
from collections.abc import Mapping
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

DPI = 100
Curve = tuple[NDArray[Any], NDArray[Any]]
"""Times and values of one curve."""


def new_figure(width_px: float, height_px: float, layout: Any = None) -> Figure:
    """A figure of this size at 100 dots per inch that draws without a display."""
    figure = Figure(figsize=(width_px / DPI, height_px / DPI), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def axes_at(figure: Figure, left_px: float, bottom_px: float, width_px: float, height_px: float) -> Axes:
    """Axes at this place of ``figure``, counted in pixels from its lower left corner."""
    width, height = figure.get_size_inches() * DPI
    return figure.add_axes((left_px / width, bottom_px / height, width_px / width, height_px / height))


def save_png(figure: Figure, target: Path | io.BytesIO) -> None:
    """Write ``figure`` as PNG without the name of the software, so that equal figures are equal bytes."""
    figure.savefig(target, dpi=DPI, format="png", metadata={"Software": None})


def to_png(figure: Figure) -> bytes:
    """``figure`` as the bytes of a PNG file."""
    buffer = io.BytesIO()
    save_png(figure, buffer)
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
