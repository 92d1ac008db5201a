"""Contact sheets: slices at chosen frames with contours, and volume curves.

`render_contact_sheet` draws a cine, generated or real, with a table of requested and measured values.
`render_subject` draws the smaller sheet of a subject on the quality-control page of a dataset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cinesynth.data.geometry import crop_pad
from cinesynth.data.normalisation import heart_centre
from cinesynth.data.quality import volume_curve
from cinesynth.errors import DataError
from cinesynth.io.files import atomic_path
from cinesynth.reports.plots import axes_at, draw_volume_curves, name_time_axis, new_figure, save_png, to_palette_png
from cinesynth.reports.slices import (
    COLOURS,
    RGB,
    PlaneView,
    Spacing,
    for_plots,
    heart_window,
    slices_of_heart,
    tile,
    window_of,
)
from cinesynth.types import STRUCTURES, BoolArray, Label, LabelArray, Study, volumes_ml


@dataclass(frozen=True)
class Timing:
    """Where in the cycle the frames of a sheet are; without a frame time they are counted."""

    ed_index: int
    es_index: int
    frame_time_ms: float | None = None

    def shown(self, frames: int) -> list[tuple[int, str]]:
        """The frames to show with their names: ED, mid systole, ES and two of diastole, if there are that many."""
        if frames == 1:
            return [(0, "image")]
        systole = (self.es_index - self.ed_index) % frames
        rest = frames - systole
        steps = {0: "ED", systole // 2: "systole", systole: "ES"}
        for share in (1 / 3, 2 / 3):
            steps.setdefault(systole + round(share * rest), "diastole")
        names = {**steps, 0: "ED", systole: "ES"}
        return [((self.ed_index + step) % frames, names[step]) for step in sorted(names) if step < frames]

    def time(self, frame: int, frames: int) -> float:
        """Time of ``frame`` after ED in milliseconds, or in frames if the frame time is unknown."""
        return ((frame - self.ed_index) % frames) * (self.frame_time_ms or 1.0)


def render_study(study: Study, path: Path) -> None:
    """Write the contact sheet of a real study as PNG; `DataError` if its ED or ES frame is not stored."""
    stored = study.frame_index.tolist()
    if missing := {study.ed_index, study.es_index} - set(stored):
        raise DataError(f"frame {min(missing)} of {study.subject} is not stored", hint="ingest its ED and ES frames")
    whole_cycle = len(stored) == study.frames_in_cycle
    frame_time_ms = study.frame_time_ms if whole_cycle else None
    timing = Timing(stored.index(study.ed_index), stored.index(study.es_index), frame_time_ms)
    title = f"{study.dataset} {study.subject}, {study.diagnosis.value}, {study.vendor}"
    annotated = np.asarray(study.coverage.any(axis=1), dtype=np.bool_)  # T S
    with atomic_path(path) as temporary:
        render_contact_sheet(
            study.image, study.label, study.spacing_mm, temporary, timing=timing, title=title, annotated=annotated
        )


def render_contact_sheet(
    image: NDArray[np.generic],
    label: LabelArray | None,
    spacing_mm: Spacing,
    path: Path,
    *,
    timing: Timing,
    title: str = "",
    table: Sequence[tuple[str, str, str]] = (),
    annotated: BoolArray | None = None,
    field_mm: float = 160.0,
    pixels: int = 128,
) -> None:
    """Write slices (columns, base to apex) at chosen frames (rows) of a ``T X Y Z`` cine as PNG.

    Frames without labels get no contours and no points in the curves, and neither do structures that ``annotated``
    (``T S``) marks as not annotated in a frame. ``table`` holds rows of name, requested and measured value.
    """
    shown, depth = timing.shown(len(image)), image.shape[-1]
    slices = np.unique(np.linspace(0, depth - 1, 12).round().astype(int))  # 12 columns at most
    view, window = PlaneView.of(label, image.shape, spacing_mm, field_mm, pixels), window_of(image)
    tiles = [
        [tile(image[t, ..., z], None if label is None else label[t, ..., z], view, window) for z in slices]
        for t, _ in shown
    ]
    mosaic = np.vstack([np.hstack(row) for row in tiles])
    figure, picture, curves, words = _layout(mosaic)
    columns = [{depth - 1: "apex", 0: "base"}.get(z, str(z)) for z in slices.tolist()]
    picture.set_xticks((np.arange(len(slices)) + 0.5) * pixels, columns)
    moments = [f"{timing.time(t, len(image)):.0f} ms" if timing.frame_time_ms else f"frame {t}" for t, _ in shown]
    names = [f"{name}\n{moment}" for (_, name), moment in zip(shown, moments, strict=True)]
    picture.set_yticks((np.arange(len(shown)) + 0.5) * pixels, names)
    _draw_curves(curves, label, annotated, float(np.prod(spacing_mm)) / 1000.0, timing)
    if table:
        drawn = words.table(
            [[*row] for row in table],
            colLabels=["", "requested", "measured"],
            edges="horizontal",
            loc="center",
            cellLoc="right",
        )
        drawn.auto_set_font_size(False)
        drawn.set_fontsize(9)
        drawn.scale(1.0, 1.3)
    figure.suptitle(title, fontsize=11)
    save_png(figure, path)


def _layout(mosaic: RGB) -> tuple[Figure, Axes, Axes, Axes]:
    """A figure that shows a mosaic of slices unscaled, with axes for their names and, at its right, curves and table.

    The image belongs to the figure: in axes it would be resampled, a third of the work.
    """
    height, width = mosaic.shape[:2]
    left, top, bottom, gap, panel = 80, 40, 40, 80, 430  # pixels
    figure = new_figure(left + width + gap + panel + 20, top + max(height, 420) + bottom)
    inner, right = max(height, 420), left + width + gap
    figure.figimage(mosaic, left, bottom + inner - height, origin="upper")
    picture = axes_at(figure, left, bottom + inner - height, width, height)
    picture.set(facecolor="none", xlim=(0, width), ylim=(height, 0))
    curves = axes_at(figure, right, bottom + 0.45 * inner, panel, 0.55 * inner)
    words = axes_at(figure, right, bottom, panel, 0.33 * inner)
    for each in (picture, words):
        each.tick_params(length=0, labelsize=9)
        each.spines[:].set_visible(False)
    words.set_axis_off()
    return figure, picture, curves, words


def _draw_curves(
    axes: Axes, label: LabelArray | None, annotated: BoolArray | None, voxel_ml: float, timing: Timing
) -> None:
    name_time_axis(axes, timing.frame_time_ms is not None)
    axes.set_ylabel("mL")
    labelled = [] if label is None else [t for t in range(len(label)) if label[t].any()]
    if label is None or not labelled:
        return
    labelled.sort(key=lambda t: timing.time(t, len(label)))
    curves = {}
    for structure in COLOURS:
        frames = [t for t in labelled if annotated is None or annotated[t, STRUCTURES.index(structure)]]
        if frames:
            times = np.array([timing.time(t, len(label)) for t in frames])
            curves[structure] = times, volumes_ml(label[frames], structure, voxel_ml)
    draw_volume_curves(axes, curves, timing.time(timing.es_index, len(label)))
    axes.legend(frameon=False, fontsize=8)


# --- The sheet of a subject on the quality-control page --------------------------------------------------------------

Tile = tuple[int, int]
"""Position among the stored frames, and slice."""
MAX_COLUMNS = 8


def render_subject(study: Study, tile_px: int = 100, curves_px: int = 270, margin_px: int = 46) -> bytes:
    """The contact sheet of a study as PNG.

    A cycle is shown as three slices (rows) at up to eight frames (columns) from ED on. If only two or three frames
    are stored, they are the rows and up to eight slices from base to apex the columns.
    """
    tiles, names = _tiles(study)
    rows, columns = tile_px * len(tiles), tile_px * len(tiles[0])
    width, height = columns + curves_px + 3 * margin_px, rows + 2 * margin_px
    figure = new_figure(width, height)
    _draw_tiles(axes_at(figure, margin_px, margin_px, columns, rows), study, tiles, names)
    left = width - curves_px - 0.4 * margin_px
    _draw_study_curves(axes_at(figure, left, margin_px, curves_px, height - 2 * margin_px), study)
    return to_palette_png(figure)


def time_order(study: Study) -> NDArray[np.intp]:
    """Positions of the stored frames in order of time from ED on, shape ``T``."""
    return np.argsort((study.frame_index - study.ed_index) % study.frames_in_cycle, kind="stable")


def _tiles(study: Study) -> tuple[list[list[Tile]], tuple[list[str], list[str]]]:
    """The tiles by row and column, and the names of the rows and the columns."""
    order, depth = time_order(study), study.image.shape[3]
    # up to eight frames spread over time: ED first, ES among them
    shown = np.unique(np.linspace(0, len(order) - 1, MAX_COLUMNS).round().astype(int))
    es = int(np.flatnonzero(study.frame_index[order] == study.es_index)[0])
    if es not in shown:
        shown[1 + np.abs(shown[1:] - es).argmin()] = es
    frames = [int(t) for t in order[shown]]
    cycle = len(frames) > 3
    if cycle:
        slices = sorted(set(slices_of_heart(study.label, (1 / 6, 3 / 6, 5 / 6))))
    else:
        slices = [int(z) for z in np.unique(np.linspace(0, depth - 1, MAX_COLUMNS).round())]
    phases, ends = {study.ed_index: "ED, ", study.es_index: "ES, "}, {0: ", base", depth - 1: ", apex"}
    frame_names = [f"{phases.get(t, '')}frame {t}" for t in study.frame_index[frames].tolist()]
    slice_names = [f"slice {z}{ends.get(z, '')}" for z in slices]
    if cycle:
        return [[(t, z) for t in frames] for z in slices], (slice_names, frame_names)
    return [[(t, z) for z in slices] for t in frames], (frame_names, slice_names)


def _draw_tiles(axes: Axes, study: Study, tiles: list[list[Tile]], names: tuple[list[str], list[str]]) -> None:
    spacing, depth, field_mm = study.spacing_mm, study.image.shape[3], 150.0
    size = (round(field_mm / spacing[0]), round(field_mm / spacing[1]), depth)
    corner = [round(centre - (n - 1) / 2) for centre, n in zip(heart_centre(study), size, strict=False)]
    offset = (corner[0], corner[1], 0)
    image = crop_pad(study.image, offset, size, fill=float(study.image.min()))
    label = crop_pad(study.label, offset, size)
    low, high = heart_window(image, label)
    extent = (0, len(tiles[0]), len(tiles), 0)
    axes.imshow(_mosaic(image, tiles), cmap="gray", vmin=low, vmax=high, extent=extent, aspect="auto")
    drawn = _mosaic(label, tiles)
    # The myocardium's outline includes the cavity, so that the two share one endocardial line.
    for structure, mask in ((s, drawn >= s if s is Label.MYO else drawn == s) for s in STRUCTURES):
        if mask.any():
            axes.contour(mask, [0.5], colors=[for_plots(structure)], linewidths=0.8, extent=extent, origin="upper")
    rows, columns = names
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns)
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows, rotation=90, va="center")
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)


def _mosaic(volumes: NDArray[Any], tiles: list[list[Tile]]) -> NDArray[Any]:
    return np.vstack([np.hstack([volumes[t, :, :, z].T for t, z in row]) for row in tiles])


def _draw_study_curves(axes: Axes, study: Study) -> None:
    order, step = time_order(study), study.frame_time_ms or 1.0
    times = ((study.frame_index[order] - study.ed_index) % study.frames_in_cycle) * step
    curves = {structure: volume_curve(study, structure)[order] for structure in COLOURS}
    known = {s: (times[np.isfinite(v)], v[np.isfinite(v)]) for s, v in curves.items() if np.isfinite(v).any()}
    es = ((study.es_index - study.ed_index) % study.frames_in_cycle) * step
    name_time_axis(axes, study.frame_time_ms is not None, fontsize=8)
    draw_volume_curves(axes, known, es, width=1.2, es_width=1)
    axes.set_xlim(-0.03 * study.frames_in_cycle * step, study.frames_in_cycle * step)
    if study.frames_in_cycle == 2:  # ED and ES alone: how many frames the cycle has is unknown
        axes.set_xlabel("")
        axes.set_xticks([0.0, es], ["ED", "ES"])
        axes.set_xlim(-0.15 * es, 1.15 * es)
    axes.set_title("mL", fontsize=8, loc="left")
    axes.tick_params(labelsize=8)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
