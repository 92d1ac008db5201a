"""What is measured of people's texture: how much of it stays over a cycle, and how much detail there is.

Texture is what the codec loses of a frame, less its means over squares of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import scipy
import torch
import torch.nn.functional as F
from torch import Tensor

from cinesynth.data.subject_prior import vendor_of_record
from cinesynth.models.codec import Codec
from cinesynth.models.conditioning import ConditionSet
from cinesynth.models.texture import FRAMES
from cinesynth.models.vae import Decoded
from cinesynth.training.frames import Batch, FrameSampler, collate
from cinesynth.training.losses import acquired_slices, detail_db
from cinesynth.types import PerSlice

COARSE = 4
"""Pixels along each axis over which texture does not change the mean."""
FEW = 5
"""Subjects of a vendor below which their detail says nothing of it."""
FAR_MM = 25.0
"""Distance from the heart beyond which the chest is taken to stay where it is."""
NEIGHBOURS = 6
"""Frames from ED on whose neighbours are compared."""


def persistence(codec: Codec, frames: FrameSampler, subjects: Sequence[int]) -> float:
    """How much of the texture of people stays where it is from ED to ES: the correlation of what the codec loses.

    Measured far from the heart, where little moves: the mean over subjects, at least 0; 1 without subjects.
    """
    pairs = ((subject, (frames.record(subject).ed, frames.record(subject).es)) for subject in subjects)
    found = [c for subject, pair in pairs if (c := _correlation(*_texture(codec, frames, subject, pair))) is not None]
    return max(0.0, sum(found) / len(found)) if found else 1.0


def continuity(codec: Codec, frames: FrameSampler, subjects: Sequence[int], persisting: float) -> float:
    """The correlation of neighbours among `FRAMES` frames beyond the share that is ``persisting``, from 0 to .5.

    Measured as `persistence` is, in subjects with whole cycles; 0 without them.
    """
    found = []
    for subject in subjects:
        record = frames.record(subject)
        count = len(record.phases)
        if count != record.frames_in_cycle or count <= NEIGHBOURS:
            continue
        lost = _texture(codec, frames, subject, [(record.ed + k) % count for k in range(NEIGHBOURS + 1)])
        each = [c for a, b in pairwise(lost) if (c := _correlation(a, b)) is not None]
        beyond = (sum(each) / len(each) - persisting) / (1.0 - persisting) if each and persisting < 1.0 else 0.0
        found.append(max(0.0, beyond) ** (count / FRAMES))
    return min(0.5, sum(found) / len(found)) if found else 0.0


def detail_of_people(codec: Codec, frames: FrameSampler, subjects: Sequence[int], vendors: ConditionSet) -> Tensor:
    """Mean and standard deviation of the detail of people at ED beyond what the codec gives, dB (`Texture.detail_db`).

    A vendor of fewer than `FEW` subjects has those of all.
    """
    found: dict[int, list[float]] = {}
    for subject in subjects:
        record = frames.record(subject)
        batch = collate([frames.item(subject, record.ed)], codec.latent_mean.device)
        decoded = reconstructed(codec, batch)
        value = float(missing_detail_db(decoded.image, batch)[0])
        for index in {0, vendors.vendor_index(vendor_of_record(record))}:
            found.setdefault(index, []).append(value)
    groups = (found.get(index, []) for index in range(1 + len(vendors.vendors)))
    each = [torch.tensor(values if len(values) >= FEW else found[0]) for values in groups]
    return torch.stack([torch.stack([values.mean(), values.std(correction=0)]) for values in each])


@torch.no_grad()
def reconstructed(codec: Codec, batch: Batch) -> Decoded:
    """What the codec makes of a batch of frames."""
    return codec.decode(codec.encode(batch["image"], batch["slice_mask"]), batch["slice_mask"])


def _texture(codec: Codec, frames: FrameSampler, subject: int, times: Sequence[int]) -> list[Tensor]:
    """The texture of frames of a subject, far from the heart in all of them; as many numbers of each."""
    items = [frames.item(subject, t) for t in times]
    around = far_from(torch.stack([item["label"][0] for item in items]).any(dim=0), codec.grid.spacing_mm)
    lost = []
    for item in items:
        batch = collate([item], codec.latent_mean.device)
        slices = acquired_slices(batch["image"] - reconstructed(codec, batch).image, batch["slice_mask"])
        coarse = F.interpolate(F.avg_pool2d(slices, COARSE), scale_factor=COARSE)
        lost.append((slices - coarse)[:, 0].cpu()[:, around].flatten().double())
    return lost


def _correlation(a: Tensor, b: Tensor) -> float | None:
    norms = float(a.norm() * b.norm())
    return float(a @ b) / norms if norms else None


def missing_detail_db(decoded: Tensor, batch: Batch) -> PerSlice:
    """What decoded images ``B 1 X Y Z`` of a batch lack, dB: of each acquired slice, that of its case."""
    slices, real = (acquired_slices(x, batch["slice_mask"]) for x in (decoded, batch["image"]))
    return detail_db(slices, real, batch["slice_mask"])


def far_from(heart: Tensor, spacing_mm: tuple[float, float, float]) -> Tensor:
    """Pixels ``X Y`` that are far from a heart ``X Y Z`` in the plane."""
    shadow = heart.any(dim=2).numpy()
    if not shadow.any():
        return torch.ones(shadow.shape, dtype=torch.bool)
    return torch.from_numpy(scipy.ndimage.distance_transform_edt(~shadow, spacing_mm[:2]) > FAR_MM)
