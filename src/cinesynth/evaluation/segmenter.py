"""The independent segmenter: what an eye that never saw a generated image finds in one."""

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
from cinesynth.evaluation.agreement import achieved
from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.measure import Measurer
from cinesynth.evaluation.section import Evidence, Measure, Question, Section
from cinesynth.evaluation.statistics import interval, known, mean_known
from cinesynth.evaluation.surfaces import overlaps
from cinesynth.models.layers import resolve_precision
from cinesynth.models.segmenter import SliceUNet, with_neighbours
from cinesynth.types import STRUCTURES, BoolArray, FloatArray, Label, LabelArray, covered_label
from cinesynth.weights.folder import load_stage, stage_info

NAME = "segmenter"
TITLE = "The independent segmenter"
TOLERATED_DICE = 0.05
"""What a small network on a coarse grid may lose against a published ensemble."""
BATCH = 24
"""Slices of one network call: enough to keep matrix units busy, little enough for a cache."""
LARGEST_ZOOM = 3.0
"""Spacings that differ more than this from the one trained at are refused."""
SAME_SPACING = 0.01
PUBLISHED_DICE = {Label.RV: 0.911, Label.MYO: 0.900, Label.LV: 0.945}
PUBLISHED = "nnU-Net on ACDC, as arXiv 2606.26764 quotes it"


@dataclass(frozen=True)
class Segmenter:
    """A trained segmenter: ``segmenter.safetensors`` and ``segmenter.json`` of a folder."""

    folder: Path
    sha256: str
    spacing_mm: tuple[float, float]
    trained_on: Mapping[str, Any]
    data_hash: str

    @classmethod
    def load(cls, folder: Path | str) -> Segmenter:
        """The segmenter of a run (or any folder), its hash verified; `WeightsError` says what is missing or altered."""
        folder = Path(folder)
        info = stage_info(folder, NAME)
        _network(folder, str(info["sha256"]))
        x, y, _ = parse_config(info["config"]).grid.spacing_mm
        return cls(folder, info["sha256"], (x, y), info["trained_on"], info["data_hash"])

    @property
    def identity(self) -> str:
        """What its labels depend on: weights, and the precision of this machine."""
        return f"{self.sha256} {_precision()}"

    def segment(self, image: FloatArray, spacing_mm: tuple[float, float, float]) -> LabelArray:
        """Label frames ``T X Y Z`` in [-1, 1] (acquired slices, base first), each on its own.

        Frames of another in-plane spacing are seen (bilinear) and answered (logits, bilinear) at the spacing that was
        trained at. `InputError` where it is more than three times finer or coarser.
        """
        size = self._size(image.shape[1:3], spacing_mm)
        frames = torch.from_numpy(np.ascontiguousarray(image))
        return np.stack([self._frame(frame, size) for frame in frames])

    def _size(self, size: tuple[int, int], spacing_mm: tuple[float, float, float]) -> tuple[int, int]:
        zoom = [found / own for found, own in zip(spacing_mm, self.spacing_mm, strict=False)]
        if any(not 1 / LARGEST_ZOOM <= z <= LARGEST_ZOOM for z in zoom):
            raise InputError(
                f"pixels of {spacing_mm[0]:g} x {spacing_mm[1]:g} mm are not the segmenter's of "
                f"{self.spacing_mm[0]:g} x {self.spacing_mm[1]:g} mm",
                hint="train one on this grid: cinesynth train segmenter --preset PRESET",
            )
        x, y = (n if abs(z - 1) < SAME_SPACING else round(n * z) for n, z in zip(size, zoom, strict=True))
        return x, y

    @torch.inference_mode()
    def _frame(self, frame: Tensor, size: tuple[int, int]) -> LabelArray:
        network = _network(self.folder, self.sha256)
        planes = _resize(with_neighbours(frame, network.neighbours), size)
        with torch.autocast("cpu", torch.bfloat16, enabled=_precision() == "bf16"):
            logits = torch.cat([network(part).float() for part in torch.split(planes, BATCH)])
        label = _resize(logits, (frame.shape[0], frame.shape[1])).argmax(dim=1)
        return label.permute(1, 2, 0).numpy().astype(np.uint8)  # Z X Y -> X Y Z


@lru_cache(maxsize=2)
def _network(folder: Path, sha256: str) -> SliceUNet:
    """The network of a folder in this process."""
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
    """What the segmenter sees in each heart; named alike wherever it is asked for, so that it looks once."""
    return Measurer(NAME, f"2 {segmenter.identity}", partial(look_at, segmenter))


def look_at(segmenter: Segmenter, case: Case) -> dict[str, Any]:
    """``achieved`` (as in `agreement.achieved`), Dice and HD95 (``2 S``, ED and ES) against the heart's own label, and
    ``dice_cycle`` (``S``, mean over annotated frames). Only what the label covers counts, so that volumes are of the
    same slices.
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
    dice_all, hd95 = overlaps(label, part.label, part.coverage, case.spacing_mm)
    ed, es = part.ed, part.es
    return {
        "achieved": achieved(replace(part, label=label)),
        "dice": dice_all[[ed, es]],
        "hd95_mm": hd95[[ed, es]],
        "dice_cycle": mean_known(dice_all, axis=0),
    }


def question(segmenter: Segmenter) -> Question:
    """How far the segmenter can be trusted: its own error on held-out people, beside what nnU-Net reaches."""
    return Question(TITLE, (measurer(segmenter),), partial(_answer, segmenter))


def _answer(segmenter: Segmenter, evidence: Evidence) -> Section:
    held = evidence.held_out
    measures = [_dice_measure(s, held[f"{NAME}.dice"][:, :, i]) for i, s in enumerate(STRUCTURES)]
    measures += [_distance_measure(s, held[f"{NAME}.hd95_mm"][:, :, i]) for i, s in enumerate(STRUCTURES)]
    return Section(
        TITLE,
        "Can the segmenter that checks images against masks be trusted? Its error on real held-out people is the floor "
        "of every comparison that uses it.",
        measures,
        notes=(
            f"A plain 2D U-Net (MONAI), trained on {_people(segmenter.trained_on)} (annotated frames, training split), "
            f"never on a generated image; weights {segmenter.sha256[:12]}.",
            f"The published Dice beside it is that of {PUBLISHED}: at full resolution, on another split.",
        ),
    )


def _people(trained_on: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} of {dataset}" for dataset, count in trained_on["subjects"].items())


def _dice_measure(structure: Label, values: FloatArray) -> Measure:
    name, found, published = f"Dice {structure.name}", known(values), PUBLISHED_DICE[structure]
    if not len(found):
        return Measure.unknown(name, f"no held-out frame has {structure.name} annotated")
    low, high = interval(mean_known(values, axis=1))  # over people, not frames
    return Measure(
        name,
        float(found.mean()),
        "",
        len(found),
        low,
        high,
        limit=f"at least the published {published:g} - {TOLERATED_DICE:g}",
        judgement="pass" if found.mean() >= published - TOLERATED_DICE else "warn",
        detail=f"frames at ED and ES; median {np.median(found):.3f}; published {published:g}",
    )


def _distance_measure(structure: Label, values: FloatArray) -> Measure:
    name, found = f"HD95 {structure.name}", known(values)
    if not len(found):
        return Measure.unknown(name, f"no held-out frame has {structure.name} annotated and found", unit="mm")
    low, high = interval(mean_known(values, axis=1))
    return Measure(
        name, float(found.mean()), "mm", len(found), low, high, detail=f"3D surfaces; median {np.median(found):.2f} mm"
    )
