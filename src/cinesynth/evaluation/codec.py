"""The reconstruction ceiling: what the codec alone costs on held-out patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from cinesynth.config import parse_config
from cinesynth.data.geometry import slice_mask
from cinesynth.data.intensity import from_uint8
from cinesynth.data.packed import PackedDataset
from cinesynth.errors import InputError
from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.measure import Measured, Measurer
from cinesynth.evaluation.section import Evidence, Listing, Measure, Question, Section
from cinesynth.evaluation.statistics import interval, known, mean_known
from cinesynth.evaluation.surfaces import dice, overlaps
from cinesynth.models.build import build_codec
from cinesynth.models.codec import Codec
from cinesynth.types import STRUCTURES, BoolArray, FloatArray, Label, LabelArray, covered_label
from cinesynth.weights.folder import find_bundle, load_stage, stage_info

__all__ = ["FrameScore", "dice", "mean_ssim", "question", "score_codec", "score_frame"]

TITLE = "The codec's ceiling"
NAME = "codec"
STAGE = "vae"
ORDER = tuple(reversed(tuple(enumerate(STRUCTURES))))
QUANTITIES: tuple[tuple[str, str, str, int | None], ...] = (
    ("PSNR", "dB", "psnr_db", None),
    ("SSIM", "", "ssim", None),
    *((f"Dice {s.name}", "", "dice", i) for i, s in ORDER),
    *((f"HD95 {s.name}", "mm", "hd95_mm", i) for i, s in ORDER),
    ("LV volume |error|", "%", "lv_error_percent", None),
)
"""Name, unit, measured quantity, and place among `STRUCTURES`."""


@dataclass(frozen=True, eq=False)
class Row:
    """A quantity of the people of two splits at ED and ES, each ``N 2``."""

    name: str
    unit: str
    held_out: NDArray[np.float64]
    train: NDArray[np.float64]


@dataclass(frozen=True)
class FrameScore:
    """One reconstructed frame: PSNR in dB, SSIM, and Dice and HD95 (mm) a structure and LV volumes in mL where it was
    annotated."""

    subject: str
    phase: str
    psnr_db: float
    ssim: float
    dice: dict[str, float]
    hd95_mm: dict[str, float]
    lv_ml: float
    lv_reconstructed_ml: float
    dataset: str = ""
    vendor: str = ""

    @property
    def lv_error_percent(self) -> float:
        """Relative error of the LV volume."""
        return 100.0 * (self.lv_reconstructed_ml / self.lv_ml - 1.0)


def score_codec(codec: Codec, data: PackedDataset, progress: Callable[[int, int], None]) -> list[FrameScore]:
    """Encode and decode the labelled ED and ES frames of every subject of ``data``."""
    todo = [
        (i, name, t)
        for i, record in enumerate(data.records)
        for name, t in (("ED", record.ed), ("ES", record.es))
        if record.labelled[t]
    ]
    scores = []
    for done, (i, name, t) in enumerate(todo, start=1):
        scores.append(score_frame(codec, data, i, t, name))
        progress(done, len(todo))
    return scores


def score_frame(codec: Codec, data: PackedDataset, subject: int, frame: int, phase: str) -> FrameScore:
    """Scores of one frame over its acquired slices."""
    record = data.records[subject]
    acquired = slice_mask(record.slices, data.grid.size[2])
    image, truth = from_uint8(data.image(subject, frame)), data.label(subject, frame)[..., acquired]
    made, predicted = reconstruct(codec, image, acquired)
    coverage, spacing_mm = record.coverage[frame, acquired], data.grid.spacing_mm
    score = _compare(record.subject, phase, (image[..., acquired], truth), (made, predicted), coverage, spacing_mm)
    return replace(score, dataset=record.dataset, vendor=record.vendor)


@torch.inference_mode()
def reconstruct(codec: Codec, image: FloatArray, acquired: BoolArray) -> tuple[FloatArray, LabelArray]:
    """``X Y Z`` in [-1, 1] through the codec and back: its acquired slices, image and label."""
    mask = torch.from_numpy(acquired)[None]
    decoded = codec.decode(codec.encode(torch.from_numpy(np.ascontiguousarray(image))[None, None], mask), mask)
    label = codec.labels(decoded.logits, mask)[0]
    return decoded.image[0, 0].clamp(-1, 1).numpy()[..., acquired], label[..., acquired]


def _compare(
    subject: str,
    phase: str,
    real: tuple[FloatArray, LabelArray],
    made: tuple[FloatArray, LabelArray],
    coverage: BoolArray,
    spacing_mm: tuple[float, float, float],
) -> FrameScore:
    truth, label = real[1], covered_label(made[1][None], coverage[None])[0]
    overlap, distance = (f[0] for f in overlaps(label[None], truth[None], coverage[None], spacing_mm))
    annotated = [(i, s) for i, s in enumerate(STRUCTURES) if (truth == s).any()]
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    return FrameScore(
        subject,
        phase,
        float(peak_signal_noise_ratio(real[0], made[0], data_range=2.0)),
        mean_ssim(real[0], made[0]),
        {s.name: float(overlap[i]) for i, s in annotated},
        {s.name: float(distance[i]) for i, s in annotated if np.isfinite(distance[i])},
        float((truth == Label.LV).sum() * voxel_ml),
        float((label == Label.LV).sum() * voxel_ml),
    )


def mean_ssim(a: FloatArray, b: FloatArray) -> float:
    """SSIM of ``X Y Z`` images in [-1, 1], slice by slice (Wang et al., 2004)."""
    return float(np.mean([structural_similarity(a[..., z], b[..., z], data_range=2.0) for z in range(a.shape[2])]))


def question(weights: Path | None) -> Question:
    """What the codec of a weights folder (or a name of those that ship) makes of real people, before anything is
    generated. `WeightsError` if there is none."""
    folder = find_bundle(weights)
    info = stage_info(folder, STAGE)
    measurer = Measurer(NAME, f"1 {info['sha256']}", partial(measure_codec, folder, str(info["sha256"])))
    return Question(TITLE, (measurer,), partial(_answer, str(info["sha256"])))


def measure_codec(folder: Path, sha256: str, case: Case) -> dict[str, NDArray[np.float32]]:
    """At ED and ES: PSNR, SSIM, LV volume error (``2``), Dice and HD95 (``2 S``); NaN for generated hearts, which came
    out of a codec already. `InputError` if the heart is not on the codec's grid."""
    found = {
        "psnr_db": np.full(2, np.nan, np.float32),
        "ssim": np.full(2, np.nan, np.float32),
        "lv_error_percent": np.full(2, np.nan, np.float32),
        "dice": np.full((2, len(STRUCTURES)), np.nan, np.float32),
        "hd95_mm": np.full((2, len(STRUCTURES)), np.nan, np.float32),
    }
    if case.requested is not None:
        return found
    codec = _codec(folder, sha256)
    if not np.allclose(codec.grid.spacing_mm, case.spacing_mm):
        raise InputError(
            f"the codec of {folder} works at {codec.grid.spacing_mm} mm, the hearts are at {case.spacing_mm} mm",
            hint="give the weights that the cohort was generated with",
        )
    for p, t in enumerate((case.ed, case.es)):
        _fill(found, p, _score_case(codec, case, t))
    return found


def _score_case(codec: Codec, case: Case, frame: int) -> FrameScore:
    image = case.intensity[frame]
    made = reconstruct(codec, image, np.ones(image.shape[-1], dtype=np.bool_))
    return _compare(case.name, "", (image, case.label[frame]), made, case.coverage[frame], case.spacing_mm)


def _fill(found: dict[str, NDArray[np.float32]], phase: int, score: FrameScore) -> None:
    found["psnr_db"][phase], found["ssim"][phase] = score.psnr_db, score.ssim
    if score.lv_ml > 0:
        found["lv_error_percent"][phase] = score.lv_error_percent
    for i, structure in enumerate(STRUCTURES):
        found["dice"][phase, i] = score.dice.get(structure.name, np.nan)
        found["hd95_mm"][phase, i] = score.hd95_mm.get(structure.name, np.nan)


@lru_cache(maxsize=2)
def _codec(folder: Path, sha256: str) -> Codec:
    """The codec of a folder in this process."""
    codec = build_codec(parse_config(stage_info(folder, STAGE)["config"]))
    load_stage(folder, STAGE, codec)
    return codec.eval().requires_grad_(False)


def _answer(sha256: str, evidence: Evidence) -> Section:
    rows = [
        Row(name, unit, _values(evidence.held_out, key, structure), _values(evidence.train, key, structure))
        for name, unit, key, structure in QUANTITIES
    ]
    return Section(
        TITLE,
        "How good can a generated heart be at best: what is lost when real people pass through the codec alone?",
        [_measure(row) for row in rows],
        [_listing(rows)],
        notes=(
            f"Weights of the codec: {sha256[:12]}. ED and ES of each person, acquired slices; nothing is judged, it is "
            "the ceiling of what the models behind the codec can reach.",
        ),
    )


def _values(people: Measured, key: str, structure: int | None) -> NDArray[np.float64]:
    """A quantity of each person at ED and ES, ``N 2``; errors without their sign."""
    array = people[f"{NAME}.{key}"]
    chosen = array if structure is None else array[..., structure]
    return np.abs(chosen) if key == "lv_error_percent" else chosen.astype(np.float64)


def _measure(row: Row) -> Measure:
    found = known(row.held_out)
    if not len(found):
        return Measure.unknown(row.name, "nobody of the held-out people has it annotated", unit=row.unit)
    low, high = interval(mean_known(row.held_out, axis=1))  # over people, not frames
    return Measure(row.name, float(found.mean()), row.unit, len(found), low, high, detail="frames at ED and ES")


def _listing(rows: Sequence[Row]) -> Listing:
    shown = [(row.name, row.unit, _figures(row.held_out), _figures(row.train)) for row in rows]
    return Listing("Mean / median / SD (frames)", ("", "unit", "held out", "train"), shown)


def _figures(values: NDArray[np.float64]) -> str:
    v = known(values)
    return f"{v.mean():.3g} / {np.median(v):.3g} / {v.std():.2g} ({len(v)})" if len(v) else "-"
