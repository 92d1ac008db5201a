"""The independent segmenter, trained on real images alone, and the section on how far it can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cinesynth.config import parse_config
from cinesynth.errors import InputError
from cinesynth.evaluation.agreement import achieved, overlap
from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.comparison import mean_of_frames
from cinesynth.evaluation.measure import Measurer
from cinesynth.evaluation.section import Measurements, Metric, Section, SectionSpec
from cinesynth.evaluation.statistics import mean_known
from cinesynth.models.precision import resolve_precision
from cinesynth.training.stages.segmenter import SliceUNet, with_neighbours
from cinesynth.types import STRUCTURES, BoolArray, FloatArray, Label, LabelArray, covered_label
from cinesynth.weights.folder import load_stage, stage_info

NAME = "segmenter"
TITLE = "The independent segmenter"
MAX_ZOOM = 3.0
"""Largest ratio of an image's pixels to the segmenter's, either way."""
PUBLISHED_DICE = {Label.RV: 0.911, Label.MYO: 0.900, Label.LV: 0.945}
"""Dice of nnU-Net on ACDC, at full resolution and on another split (as quoted by arXiv 2606.26764)."""


@dataclass(frozen=True)
class Segmenter:
    """A trained segmenter: ``segmenter.safetensors`` and ``segmenter.json`` of a folder."""

    folder: Path
    sha256: str
    spacing_mm: tuple[float, float]
    trained_on: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path | str) -> Segmenter:
        """The segmenter of a run (or any folder), its hash verified; `WeightsError` says what is missing or altered."""
        folder = Path(folder)
        info = stage_info(folder, NAME)
        _network(folder, str(info["sha256"]))
        x, y, _ = parse_config(info["config"]).grid.spacing_mm
        return cls(folder, info["sha256"], (x, y), info["trained_on"])

    def segment(self, image: FloatArray, spacing_mm: tuple[float, float, float]) -> LabelArray:
        """Label frames ``T X Y Z`` in [-1, 1] (acquired slices, base first), each on its own.

        Frames of another in-plane spacing are resampled to that of training and the logits back, both bilinearly.
        `InputError` where the two differ by more than a factor of three.
        """
        zoom = [found / own for found, own in zip(spacing_mm, self.spacing_mm, strict=False)]
        if any(not 1 / MAX_ZOOM <= z <= MAX_ZOOM for z in zoom):
            raise InputError(
                f"pixels of {spacing_mm[0]:g} x {spacing_mm[1]:g} mm differ too much from the segmenter's of "
                f"{self.spacing_mm[0]:g} x {self.spacing_mm[1]:g} mm",
                hint="train one on this grid: cinesynth train segmenter --preset PRESET",
            )
        x, y = (n if abs(z - 1) < 0.01 else round(n * z) for n, z in zip(image.shape[1:3], zoom, strict=True))
        frames = torch.from_numpy(np.ascontiguousarray(image))
        return np.stack([self._frame(frame, (x, y)) for frame in frames])

    @torch.inference_mode()
    def _frame(self, frame: Tensor, size: tuple[int, int]) -> LabelArray:
        network = _network(self.folder, self.sha256)
        planes = _resize(with_neighbours(frame, network.neighbours), size)
        # 24 slices a call keep matrix units busy and fit into a cache
        with torch.autocast("cpu", torch.bfloat16, enabled=_precision() == "bf16"):
            logits = torch.cat([network(part).float() for part in torch.split(planes, 24)])
        label = _resize(logits, (frame.shape[0], frame.shape[1])).max(dim=1).indices
        return label.permute(1, 2, 0).numpy().astype(np.uint8)  # Z X Y -> X Y Z


@lru_cache(maxsize=2)
def _network(folder: Path, sha256: str) -> SliceUNet:
    network = SliceUNet(parse_config(stage_info(folder, NAME)["config"]).segmenter)
    load_stage(folder, NAME, network)
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


@lru_cache(maxsize=1)
def _precision() -> str:
    return resolve_precision("auto")


def _resize(planes: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(planes.shape[-2:]) == size:
        return planes
    return F.interpolate(planes, size, mode="bilinear", align_corners=False, antialias=True)


def measurer(segmenter: Segmenter) -> Measurer:
    """The measurer of `look_at`; it has one name for all sections, so that every heart is segmented once."""
    return Measurer(NAME, f"3 {segmenter.sha256} {_precision()}", partial(look_at, segmenter))


def look_at(segmenter: Segmenter, case: Case) -> dict[str, Any]:
    """``achieved`` (as in `agreement.achieved`), Dice and HD95 (``2 S``, ED and ES) against the heart's own label, and
    ``dice_cycle`` (``S``, mean over annotated frames), each in the slices that the label covers.
    """
    judged: BoolArray = np.asarray(case.coverage.any(axis=(1, 2)))
    judged[[case.ed, case.es]] = True
    frames = np.flatnonzero(judged)
    part = replace(
        case,
        image=case.image[frames],
        label=case.label[frames],
        coverage=case.coverage[frames],
        ed=int(np.searchsorted(frames, case.ed)),
        es=int(np.searchsorted(frames, case.es)),
        whole_cycle=case.whole_cycle and bool(judged.all()),
    )
    label = covered_label(segmenter.segment(part.intensity, case.spacing_mm), part.coverage)
    agreement = overlap(label, part.label, part.coverage, case.spacing_mm)
    both = [part.ed, part.es]
    return {
        "achieved": achieved(replace(part, label=label)),
        "dice": agreement.dice[both],
        "hd95_mm": agreement.hd95_mm[both],
        "dice_cycle": mean_known(agreement.dice, axis=0),
    }


def section_spec(segmenter: Segmenter) -> SectionSpec:
    """The segmenter's own error on held-out subjects, beside the published one of nnU-Net."""
    return SectionSpec(TITLE, (measurer(segmenter),), partial(_evaluate, segmenter))


def _evaluate(segmenter: Segmenter, measurements: Measurements) -> Section:
    held = measurements.held_out
    dice = [_dice_metric(structure, held[f"{NAME}.dice"][:, :, i]) for i, structure in enumerate(STRUCTURES)]
    detail = "3D surfaces; median {median:.2f} mm"
    distances = [
        mean_of_frames(f"HD95 {s.name}", held[f"{NAME}.hd95_mm"][:, :, i], _nowhere(s), unit="mm", detail=detail)
        for i, s in enumerate(STRUCTURES)
    ]
    subjects = ", ".join(f"{count} of {dataset}" for dataset, count in segmenter.trained_on["subjects"].items())
    return Section(
        TITLE,
        "Can the segmenter that checks images against masks be trusted? Its error on real held-out subjects is the "
        "floor of every comparison that uses it.",
        [*dice, *distances],
        notes=(
            f"A plain 2D U-Net (MONAI), trained on {subjects} (annotated frames, training split), never on a generated "
            f"image; weights {segmenter.sha256[:12]}.",
            "The published Dice is that of nnU-Net on ACDC, as arXiv 2606.26764 quotes it: at full resolution, on "
            "another split.",
        ),
    )


def _nowhere(structure: Label) -> str:
    return f"no held-out frame has {structure.name} annotated"


def _dice_metric(structure: Label, values: FloatArray, tolerance: float = 0.05) -> Metric:
    """Dice, judged by the published one less what a small network on a coarse grid may lose."""
    published = PUBLISHED_DICE[structure]
    detail = f"frames at ED and ES; median {{median:.3f}}; published {published:g}"
    found = mean_of_frames(f"Dice {structure.name}", values, _nowhere(structure), detail=detail)
    if found.value is None:
        return found
    limit = f"at least the published {published:g} - {tolerance:g}"
    return replace(found, limit=limit, judgement="pass" if found.value >= published - tolerance else "warn")
