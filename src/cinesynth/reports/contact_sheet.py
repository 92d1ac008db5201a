"""The contact sheet: every slice at the phases that matter, the volume curves, and asked beside measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from cinesynth.cases.schema import achieved, requested
from cinesynth.errors import DataError
from cinesynth.io.files import atomic_path
from cinesynth.reports.pictures import RGB, Spacing, View, tile, window_of
from cinesynth.types import COLOURS, STRUCTURES, BoolArray, Cine, LabelArray, Study, for_plots, volumes_ml

DPI = 100
PANEL = 430
"""Pixels of the curves' panel."""
MAX_COLUMNS = 12
ROWS = (
    ("diagnosis", "diagnosis", ""),
    ("LV EDV", "lv_edv_ml", "mL"),
    ("LV ESV", "lv_esv_ml", "mL"),
    ("EF", "ef_percent", "%"),
    ("slices", "slices", ""),
    ("RV EDV", "rv_edv_ml", "mL"),
    ("MYO at ED", "myo_ed_ml", "mL"),
)
"""Name in the table, key in the sidecar, unit."""
ROWS_IF_ASKED = (("RV ESV", "rv_esv_ml", "mL"), ("mass", "myo_mass_g", "g"), ("vendor", "vendor", ""))


@dataclass(frozen=True)
class Timing:
    """Where in the cycle the frames of a sheet are."""

    ed_index: int
    es_index: int
    frame_time_ms: float | None = None

    def shown(self, frames: int) -> list[tuple[int, str]]:
        """ED, mid systole, ES and two frames of diastole, as far as there are so many; of one frame that."""
        if frames == 1:
            return [(0, "image")]
        systole = (self.es_index - self.ed_index) % frames
        rest = frames - systole
        steps = {0: "ED", systole // 2: "systole", systole: "ES"}
        for share in (1 / 3, 2 / 3):
            steps.setdefault(systole + round(share * rest), "diastole")
        names = {**steps, 0: "ED", systole: "ES"}
        return [((self.ed_index + step) % frames, names[step]) for step in sorted(names) if step < frames]

    def time_ms(self, frame: int, frames: int) -> float:
        """Time after ED; in frames where the frame time is unknown."""
        return ((frame - self.ed_index) % frames) * (self.frame_time_ms or 1.0)


def render_sheet(cine: Cine, path: Path, origin: str = "") -> None:
    """Write the contact sheet of a generated case as PNG; ``origin`` says what it was made from, if from anything."""
    timing = Timing(cine.ed_index, cine.es_index, cine.frame_time_ms)
    title = f"synthetic {cine.prior.diagnosis.value}{origin}, seed {cine.seed}: research use only"
    table = _table(requested(cine.prior), achieved(cine))
    render_contact_sheet(cine.image, cine.label, cine.spacing_mm, path, timing=timing, title=title, table=table)


def render_study(study: Study, path: Path) -> None:
    """Write the contact sheet of a real study as PNG, to be looked at beside generated ones."""
    stored = study.frame_index.tolist()
    if missing := {study.ed_index, study.es_index} - set(stored):
        raise DataError(f"frame {min(missing)} of {study.subject} is not stored", hint="ingest its ED and ES frames")
    whole_cycle = len(stored) == study.frames_in_cycle
    frame_time_ms = study.frame_time_ms if whole_cycle else None
    timing = Timing(stored.index(study.ed_index), stored.index(study.es_index), frame_time_ms)
    title = f"{study.dataset} {study.subject}, {study.diagnosis.value}, {study.vendor}"
    said = np.asarray(study.coverage.any(axis=1), dtype=np.bool_)
    with atomic_path(path) as temporary:
        render_contact_sheet(
            study.image, study.label, study.spacing_mm, temporary, timing=timing, title=title, said=said
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
    said: BoolArray | None = None,
    field_mm: float = 160.0,
    pixels: int = 128,
) -> None:
    """Write slices (columns, base to apex) at chosen frames (rows) of a ``T X Y Z`` cine, generated or real, as PNG.

    Frames without labels are shown without contours and left out of the curves, as are the structures that ``said``
    (``T S``) does not mark as annotated in a frame. ``table`` holds rows of name, requested and measured.
    """
    shown = timing.shown(len(image))
    slices = np.unique(np.linspace(0, image.shape[-1] - 1, MAX_COLUMNS).round().astype(int))
    view = View.of(label, image.shape, spacing_mm, field_mm, pixels)
    mosaic = _mosaic(image, label, [frame for frame, _ in shown], slices, view)
    figure, (picture, curves, words) = _layout(mosaic.shape[0], mosaic.shape[1])
    picture.imshow(mosaic, interpolation="none")
    picture.set_xticks((np.arange(len(slices)) + 0.5) * pixels, _slice_names(slices, image.shape[-1]))
    rows = [f"{name}\n{_moment(timing, frame, len(image))}" for frame, name in shown]
    picture.set_yticks((np.arange(len(shown)) + 0.5) * pixels, rows)
    _draw_curves(curves, label, said, float(np.prod(spacing_mm)) / 1000.0, timing)
    _draw_table(words, table)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=DPI, format="png", metadata={"Software": None})


def _mosaic(
    image: NDArray[np.generic], label: LabelArray | None, frames: Sequence[int], slices: NDArray[np.int64], view: View
) -> RGB:
    window = window_of(image)
    rows = [
        np.hstack([tile(image[t, ..., z], None if label is None else label[t, ..., z], view, window) for z in slices])
        for t in frames
    ]
    return np.vstack(rows)


def _layout(height: int, width: int) -> tuple[Figure, tuple[Axes, Axes, Axes]]:
    """A figure in which the mosaic keeps its pixels, with room for words around it and the panel at its right."""
    left, top, bottom, gap = 80, 40, 40, 80
    total_width, total_height = left + width + gap + PANEL + 20, top + max(height, 420) + bottom
    figure = Figure(figsize=(total_width / DPI, total_height / DPI))
    FigureCanvasAgg(figure)

    def axes(x: float, y: float, w: float, h: float) -> Axes:
        return figure.add_axes((x / total_width, y / total_height, w / total_width, h / total_height))

    inner = total_height - top - bottom
    picture = axes(left, total_height - top - height, width, height)
    curves = axes(left + width + gap, bottom + 0.45 * inner, PANEL, 0.55 * inner)
    words = axes(left + width + gap, bottom, PANEL, 0.33 * inner)
    for each in (picture, words):
        each.tick_params(length=0, labelsize=9)
        each.spines[:].set_visible(False)
    words.set_axis_off()
    return figure, (picture, curves, words)


def _draw_curves(axes: Axes, label: LabelArray | None, said: BoolArray | None, voxel_ml: float, timing: Timing) -> None:
    axes.set_xlabel("ms after ED" if timing.frame_time_ms else "frames after ED")
    if not timing.frame_time_ms:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("mL")
    axes.spines[["top", "right"]].set_visible(False)
    labelled = [] if label is None else [t for t in range(len(label)) if label[t].any()]
    if label is None or not labelled:
        return
    labelled.sort(key=lambda t: timing.time_ms(t, len(label)))
    for structure in COLOURS:
        frames = [t for t in labelled if said is None or said[t, STRUCTURES.index(structure)]]
        if frames:
            times = [timing.time_ms(t, len(label)) for t in frames]
            volumes = volumes_ml(label[frames], structure, voxel_ml)
            axes.plot(times, volumes, color=for_plots(structure), marker=".", label=structure.name)
    axes.axvline(timing.time_ms(timing.es_index, len(label)), color="0.6", linestyle=":")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)


def _draw_table(axes: Axes, rows: Sequence[tuple[str, str, str]]) -> None:
    if not rows:
        return
    table = axes.table(
        cellText=[list(row) for row in rows],
        colLabels=["", "requested", "measured"],
        edges="horizontal",
        loc="center",
        cellLoc="right",
    )
    table.auto_set_font_size(False)
    table.set_fontsize(9)
    table.scale(1.0, 1.3)


def _table(asked: dict[str, object], found: dict[str, float | int | None]) -> list[tuple[str, str, str]]:
    rows = [*ROWS, *(row for row in ROWS_IF_ASKED if row[1] in asked)]
    return [(name, _cell(asked.get(key), unit), _cell(found.get(key), unit)) for name, key, unit in rows]


def _cell(value: object, unit: str) -> str:
    if value is None:
        return "-"
    return f"{float(str(value)):.1f} {unit}" if unit else str(value)


def _slice_names(slices: NDArray[np.int64], depth: int) -> list[str]:
    names = [str(z) for z in slices]
    names[0] = "base"
    if depth > 1:
        names[-1] = "apex"
    return names


def _moment(timing: Timing, frame: int, frames: int) -> str:
    return f"{timing.time_ms(frame, frames):.0f} ms" if timing.frame_time_ms else f"frame {frame}"
