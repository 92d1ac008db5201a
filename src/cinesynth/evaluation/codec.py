"""Section "Reconstruction": what encoding and decoding alone costs on held-out patients.

No generated heart can be better than what the autoencoder (codec) makes of a real one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from cinesynth.config import parse_config
from cinesynth.data.geometry import slice_mask
from cinesynth.data.normalisation import from_uint8
from cinesynth.data.packed import PackedDataset
from cinesynth.errors import InputError
from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.measure import Measured, Measurer
from cinesynth.evaluation.overlap import overlap
from cinesynth.evaluation.section import Measurements, Metric, Section, SectionSpec, Table
from cinesynth.evaluation.statistics import known, mean_interval, mean_known
from cinesynth.io.tasks import ProgressCallback, no_progress
from cinesynth.models.build import build_codec
from cinesynth.models.codec import Codec
from cinesynth.types import STRUCTURES, BoolArray, FloatArray, Label, LabelArray, covered_label
from cinesynth.weights.folder import load_stage, stage_info
from cinesynth.weights.registry import find_bundle

TITLE = "Reconstruction"
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
"""Name, unit, key among the measurements, and position in `STRUCTURES`."""


@dataclass(frozen=True)
class FrameScore:
    """One reconstructed frame: PSNR (dB) and SSIM, Dice and HD95 (mm) of each annotated structure, LV volumes (mL)."""

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


def score_codec(codec: Codec, data: PackedDataset, progress: ProgressCallback = no_progress) -> list[FrameScore]:
    """Encode and decode the labelled ED and ES frames of every subject of ``data``."""
    frames = [
        (i, name, t)
        for i, record in enumerate(data.records)
        for name, t in (("ED", record.ed), ("ES", record.es))
        if record.labelled[t]
    ]
    scores = []
    for done, (i, name, t) in enumerate(frames, start=1):
        scores.append(score_frame(codec, data, i, t, name))
        progress("codec", done, len(frames), {})
    return scores


def score_frame(codec: Codec, data: PackedDataset, subject: int, frame: int, phase: str) -> FrameScore:
    """Scores of one frame in its acquired slices."""
    record = data.records[subject]
    acquired = slice_mask(record.slices, data.grid.size[2])
    image, truth = from_uint8(data.image(subject, frame)), data.label(subject, frame)[..., acquired]
    made, predicted = reconstruct(codec, image, acquired)
    coverage, spacing_mm = record.coverage[frame, acquired], data.grid.spacing_mm
    score = _compare(record.subject, phase, (image[..., acquired], truth), (made, predicted), coverage, spacing_mm)
    return replace(score, dataset=record.dataset, vendor=record.vendor)


@torch.inference_mode()
def reconstruct(codec: Codec, image: FloatArray, acquired: BoolArray) -> tuple[FloatArray, LabelArray]:
    """Encode and decode ``X Y Z`` in [-1, 1]: image and label of its acquired slices."""
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
    agreement = overlap(label[None], truth[None], coverage[None], spacing_mm)
    dice, hd95_mm = (
        {
            s.name: float(value)
            for s, value in zip(STRUCTURES, values[0].astype(np.float32), strict=True)
            if np.isfinite(value)
        }
        for values in (agreement.dice, agreement.hd95_mm)
    )
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    return FrameScore(
        subject,
        phase,
        float(peak_signal_noise_ratio(real[0], made[0], data_range=2.0)),
        mean_ssim(real[0], made[0]),
        dice,
        hd95_mm,
        float((truth == Label.LV).sum() * voxel_ml),
        float((label == Label.LV).sum() * voxel_ml),
    )


def mean_ssim(a: FloatArray, b: FloatArray) -> float:
    """SSIM of ``X Y Z`` images in [-1, 1], slice by slice (Wang et al., 2004)."""
    return float(np.mean([structural_similarity(a[..., z], b[..., z], data_range=2.0) for z in range(a.shape[2])]))


# --- The section of the report ---------------------------------------------------------------------------------------


def section_spec(weights: Path | None) -> SectionSpec:
    """The autoencoder of a weights folder (or of shipped weights by name) on real hearts. `WeightsError` if there is
    none."""
    folder = find_bundle(weights)
    sha256 = str(stage_info(folder, STAGE)["sha256"])
    measurer = Measurer(NAME, f"2 {sha256}", partial(measure_codec, folder, sha256))
    return SectionSpec(TITLE, (measurer,), partial(_evaluate, sha256))


def measure_codec(folder: Path, sha256: str, case: Case) -> dict[str, NDArray[np.float32]]:
    """At ED and ES: PSNR, SSIM, LV volume error (``2``), Dice and HD95 (``2 S``); NaN for generated hearts, which are
    already decoded. `InputError` if the heart is not on the codec's grid."""
    values = {key: np.full(2, np.nan, np.float32) for key in ("psnr_db", "ssim", "lv_error_percent")}
    values |= {key: np.full((2, len(STRUCTURES)), np.nan, np.float32) for key in ("dice", "hd95_mm")}
    if case.requested is not None:
        return values
    codec = _codec(folder, sha256)
    if not np.allclose(codec.grid.spacing_mm, case.spacing_mm):
        raise InputError(
            f"the codec of {folder} works at {codec.grid.spacing_mm} mm, the hearts are at {case.spacing_mm} mm",
            hint="pass the weights that generated the cohort",
        )
    for p, t in enumerate((case.ed, case.es)):
        _fill(values, p, _score_case(codec, case, t))
    return values


def _score_case(codec: Codec, case: Case, frame: int) -> FrameScore:
    image = case.intensity[frame]
    made = reconstruct(codec, image, np.ones(image.shape[-1], dtype=np.bool_))
    return _compare(case.name, "", (image, case.label[frame]), made, case.coverage[frame], case.spacing_mm)


def _fill(values: dict[str, NDArray[np.float32]], phase: int, score: FrameScore) -> None:
    values["psnr_db"][phase], values["ssim"][phase] = score.psnr_db, score.ssim
    if score.lv_ml > 0:
        values["lv_error_percent"][phase] = score.lv_error_percent
    for i, structure in enumerate(STRUCTURES):
        values["dice"][phase, i] = score.dice.get(structure.name, np.nan)
        values["hd95_mm"][phase, i] = score.hd95_mm.get(structure.name, np.nan)


@lru_cache(maxsize=2)
def _codec(folder: Path, sha256: str) -> Codec:
    """Loaded once in each process that uses it."""
    codec = build_codec(parse_config(stage_info(folder, STAGE)["config"]))
    load_stage(folder, STAGE, codec)
    return codec.eval().requires_grad_(False)


def _evaluate(sha256: str, measurements: Measurements) -> Section:
    rows = [
        (name, unit, _values(measurements.held_out, key, place), _values(measurements.train, key, place))
        for name, unit, key, place in QUANTITIES
    ]
    return Section(
        TITLE,
        "How good can a generated heart be at best: what is lost when real hearts are only encoded and decoded?",
        [_metric(name, unit, held_out) for name, unit, held_out, _ in rows],
        [
            Table(
                "Mean / median / SD (frames)",
                ("", "unit", "held out", "train"),
                [(name, unit, _summary(held_out), _summary(train)) for name, unit, held_out, train in rows],
            )
        ],
        notes=(
            f"Weights of the codec: {sha256[:12]}. ED and ES of each subject, acquired slices. Not judged: it is the "
            "upper bound for the models behind the codec.",
        ),
    )


def _values(measured: Measured, key: str, structure: int | None) -> NDArray[np.float64]:
    """A quantity of each heart at ED and ES, ``N 2``; errors without their sign."""
    array = measured[f"{NAME}.{key}"]
    chosen = array if structure is None else array[..., structure]
    return np.abs(chosen) if key == "lv_error_percent" else chosen.astype(np.float64)


def _metric(name: str, unit: str, values: NDArray[np.float64]) -> Metric:
    frames = known(values)
    if not len(frames):
        return Metric.unknown(name, "not annotated in any held-out subject", unit=unit)
    low, high = mean_interval(mean_known(values, axis=1))  # over subjects, not frames
    return Metric(name, float(frames.mean()), unit, len(frames), low, high, detail="frames at ED and ES")


def _summary(values: NDArray[np.float64]) -> str:
    v = known(values)
    return f"{v.mean():.3g} / {np.median(v):.3g} / {v.std():.2g} ({len(v)})" if len(v) else "-"
