"""The reconstruction ceiling: what the codec alone costs on held-out patients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from cinesynth.data.geometry import slice_mask
from cinesynth.data.intensity import from_uint8
from cinesynth.data.packed import PackedDataset
from cinesynth.models.codec import Codec
from cinesynth.types import STRUCTURES, FloatArray, Label, LabelArray, covered_label


@dataclass(frozen=True)
class FrameScore:
    """One reconstructed frame: PSNR in dB, SSIM, and Dice a structure and LV volumes in mL where it was annotated."""

    subject: str
    phase: str
    psnr_db: float
    ssim: float
    dice: dict[str, float]
    lv_ml: float
    lv_reconstructed_ml: float

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


@torch.inference_mode()
def score_frame(codec: Codec, data: PackedDataset, subject: int, frame: int, phase: str) -> FrameScore:
    """Scores of one frame over its acquired slices."""
    record = data.records[subject]
    acquired = slice_mask(record.slices, data.grid.size[2])
    coverage = record.coverage[frame, acquired]
    image = from_uint8(data.image(subject, frame))
    truth = data.label(subject, frame)[..., acquired]
    mask = torch.from_numpy(acquired)[None]
    decoded = codec.decode(codec.encode(torch.from_numpy(image)[None, None], mask), mask)
    made = decoded.image[0, 0].clamp(-1, 1).numpy()[..., acquired]
    predicted = decoded.logits[0].argmax(dim=0).numpy().astype(np.uint8)[..., acquired]
    label = covered_label(predicted[None], coverage[None])[0]
    wanted = image[..., acquired]
    voxel_ml = data.grid.voxel_ml
    return FrameScore(
        record.subject,
        phase,
        float(peak_signal_noise_ratio(wanted, made, data_range=2.0)),
        mean_ssim(wanted, made),
        {s.name: dice(label == s, truth == s) for s in STRUCTURES if (truth == s).any()},
        float((truth == Label.LV).sum() * voxel_ml),
        float((label == Label.LV).sum() * voxel_ml),
    )


def mean_ssim(a: FloatArray, b: FloatArray) -> float:
    """SSIM of ``X Y Z`` images in [-1, 1], slice by slice (Wang et al., 2004)."""
    return float(np.mean([structural_similarity(a[..., z], b[..., z], data_range=2.0) for z in range(a.shape[2])]))


def dice(a: LabelArray | np.ndarray, b: LabelArray | np.ndarray) -> float:
    """Dice overlap of two masks, at least one of which is not empty."""
    return 2.0 * float(np.logical_and(a, b).sum()) / float(a.sum() + b.sum())
