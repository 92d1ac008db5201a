"""One study as a picture: slices over time with their contours, and the volume curves beside them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from cinesynth.data.geometry import crop_pad
from cinesynth.data.heart import heart_centre
from cinesynth.data.quality import volume_curve
from cinesynth.types import COLOURS, BoolArray, Label, Study, for_plots

FIELD_MM = 150.0
COLUMNS = 8
WINDOW_PERCENTILES = (0.5, 99.5)
DPI = 100
TILE_PX, CURVES_PX, MARGIN_PX = 100, 270, 46
GREYS = 52
"""Shades of the PNG, white and black among them; with those of the contours they fill a small palette."""
EDGES = (30.0, 120.0, 255.0)
"""Greys that a contour's edge blends into."""

Tile = tuple[int, int]
"""Position among the stored frames, and slice."""


def render_subject(study: Study) -> bytes:
    """The contact sheet of a study as PNG.

    Of a cycle, three slices (rows) at up to eight frames (columns) from ED on; of two or three frames, these (rows)
    and up to eight slices from base to apex (columns).
    """
    tiles, names = _layout(study)
    height, width = TILE_PX * len(tiles) + 2 * MARGIN_PX, TILE_PX * len(tiles[0]) + CURVES_PX + 3 * MARGIN_PX
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    picture = figure.add_axes(
        (MARGIN_PX / width, MARGIN_PX / height, TILE_PX * len(tiles[0]) / width, TILE_PX * len(tiles) / height)
    )
    curves = figure.add_axes(
        (1 - (CURVES_PX + 0.4 * MARGIN_PX) / width, MARGIN_PX / height, CURVES_PX / width, 1 - 2 * MARGIN_PX / height)
    )
    _draw_tiles(picture, study, tiles, names)
    _draw_curves(curves, study)
    return _png(figure)


def time_order(study: Study) -> NDArray[np.intp]:
    """Positions of the stored frames in the order of time from ED on, shape ``T``."""
    return np.argsort((study.frame_index - study.ed_index) % study.frames_in_cycle, kind="stable")


def _layout(study: Study) -> tuple[list[list[Tile]], tuple[list[str], list[str]]]:
    """The tiles by row and column, and the names of the rows and the columns."""
    frames, depth = _shown_frames(study), study.image.shape[3]
    if len(frames) > 3:
        slices = _shown_slices(study, 3)
        tiles = [[(t, z) for t in frames] for z in slices]
        return tiles, ([_slice_name(z, depth) for z in slices], [_frame_name(study, t) for t in frames])
    slices = [int(z) for z in np.unique(np.linspace(0, depth - 1, COLUMNS).round())]
    tiles = [[(t, z) for z in slices] for t in frames]
    return tiles, ([_frame_name(study, t) for t in frames], [_slice_name(z, depth) for z in slices])


def _shown_frames(study: Study) -> list[int]:
    """Up to eight frames spread over time, ED first, ES among them."""
    order = time_order(study)
    shown = np.unique(np.linspace(0, len(order) - 1, COLUMNS).round().astype(int))
    es = int(np.flatnonzero(study.frame_index[order] == study.es_index)[0])
    if es not in shown:
        shown[1 + np.abs(shown[1:] - es).argmin()] = es
    return [int(t) for t in order[shown]]


def _shown_slices(study: Study, count: int) -> list[int]:
    """Slices in the middle of ``count`` equal parts of the labelled heart, or of a stack without labels."""
    labelled = np.flatnonzero((study.label > 0).any(axis=(0, 1, 2)))
    first, last = (labelled[0], labelled[-1]) if len(labelled) else (0, study.image.shape[3] - 1)
    shares = (np.arange(count) + 0.5) / count
    return sorted({round(float(first + share * (last - first))) for share in shares})


def _draw_tiles(axes: Axes, study: Study, tiles: list[list[Tile]], names: tuple[list[str], list[str]]) -> None:
    """The first axis of an image runs to the right and the second downwards, in true proportions."""
    spacing, depth = study.spacing_mm, study.image.shape[3]
    size = (round(FIELD_MM / spacing[0]), round(FIELD_MM / spacing[1]), depth)
    corner = [round(centre - (n - 1) / 2) for centre, n in zip(heart_centre(study), size, strict=False)]
    offset = (corner[0], corner[1], 0)
    image = crop_pad(study.image, offset, size, fill=float(study.image.min()))
    label = crop_pad(study.label, offset, size)
    low, high = _window(image, label)
    extent = (0, len(tiles[0]), len(tiles), 0)
    axes.imshow(_mosaic(image, tiles), cmap="gray", vmin=low, vmax=high, extent=extent, aspect="auto")
    for structure, mask in _outlined(_mosaic(label, tiles)):
        if mask.any():
            axes.contour(mask, [0.5], colors=[for_plots(structure)], linewidths=0.8, extent=extent, origin="upper")
    rows, columns = names
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns)
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows, rotation=90, va="center")
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)


def _window(image: NDArray[Any], label: NDArray[Any]) -> tuple[float, float]:
    """Darkest and brightest value to show: where the heart is labelled it is the brightest, not the fat near a coil."""
    low, high = np.percentile(image, WINDOW_PERCENTILES)
    if label.any():
        high = np.percentile(image[label > 0], WINDOW_PERCENTILES[1])
    return float(low), float(max(high, low + 1e-6))


def _outlined(label: NDArray[Any]) -> list[tuple[Label, BoolArray]]:
    """The areas that lines go around; that of the myocardium holds the cavity, so that they share one line."""
    return [(Label.RV, label == Label.RV), (Label.MYO, label >= Label.MYO), (Label.LV, label == Label.LV)]


def _mosaic(volumes: NDArray[Any], tiles: list[list[Tile]]) -> NDArray[Any]:
    return np.vstack([np.hstack([volumes[t, :, :, z].T for t, z in row]) for row in tiles])


def _draw_curves(axes: Axes, study: Study) -> None:
    order, step = time_order(study), study.frame_time_ms or 1.0
    times = ((study.frame_index[order] - study.ed_index) % study.frames_in_cycle) * step
    for structure in COLOURS:
        volumes = volume_curve(study, structure)[order]
        known = np.isfinite(volumes)
        if known.any():
            colour, name = for_plots(structure), structure.name
            axes.plot(times[known], volumes[known], color=colour, marker=".", linewidth=1.2, label=name)
    es = ((study.es_index - study.ed_index) % study.frames_in_cycle) * step
    axes.axvline(es, color="0.6", linestyle=":", linewidth=1)
    axes.set_xlim(-0.03 * study.frames_in_cycle * step, study.frames_in_cycle * step)
    axes.set_ylim(bottom=0)
    _name_times(axes, study, es)
    axes.set_title("mL", fontsize=8, loc="left")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))


def _name_times(axes: Axes, study: Study, es: float) -> None:
    if study.frames_in_cycle == 2:  # ED and ES of a cycle that nobody counted
        axes.set_xticks([0.0, es], ["ED", "ES"])
        axes.set_xlim(-0.15 * es, 1.15 * es)
    elif study.frame_time_ms:
        axes.set_xlabel("ms after ED", fontsize=8)
    else:
        axes.set_xlabel("frames after ED", fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _frame_name(study: Study, position: int) -> str:
    frame = int(study.frame_index[position])
    name = {study.ed_index: "ED, ", study.es_index: "ES, "}.get(frame, "")
    return f"{name}frame {frame}"


def _slice_name(z: int, depth: int) -> str:
    return f"slice {z}" + {0: ", base", depth - 1: ", apex"}.get(z, "")


def _png(figure: Figure) -> bytes:
    """``figure`` as PNG with a fixed palette: half the size, and contours keep their colours."""
    pixels, packed = io.BytesIO(), io.BytesIO()
    figure.savefig(pixels, format="rgba", dpi=DPI)
    picture = Image.frombytes("RGBA", figure.canvas.get_width_height(), pixels.getvalue()).convert("RGB")
    picture.quantize(palette=_palette(), dither=Image.Dither.NONE).save(packed, format="PNG", optimize=True)
    return packed.getvalue()


def _palette() -> Image.Image:
    lines = [np.array(colour, dtype=np.float64) for colour in COLOURS.values()]
    edges = [share * line + (1 - share) * grey for line in lines for grey in EDGES for share in (0.35, 0.7)]
    shades = np.append(np.linspace(0.0, 245.0, GREYS - 1), 255.0)  # the search for a shade is coarse: keep white apart
    greys = shades[:, None].repeat(3, axis=1)
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.vstack([greys, *lines, *edges]).round().astype(np.uint8).ravel().tolist())
    return palette
