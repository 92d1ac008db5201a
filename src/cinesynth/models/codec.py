"""The codec: a trained VAE with the scale of its latents, which is measured and stored with its weights.

All later stages see latents of unit scale that are zero on slices that were not acquired. Decoded masks are
post-processed here (`clean_mask`), from the likeliest class of each voxel to one heart as experts segment it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cinesynth.config.schema import GridConfig, VAEConfig
from cinesynth.models.layers import broadcast_mask
from cinesynth.models.vae import VAE, Decoded
from cinesynth.types import STRUCTURES, BoolArray, Image, Label, LabelArray, LabelBatch, Latent, Logits, SliceMask


class Codec(nn.Module):
    """Encodes images as latents of unit scale and decodes latents to images and masks, on one voxel grid."""

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: VAEConfig, grid: GridConfig) -> None:
        super().__init__()
        self.config = config
        self.grid = grid
        self.vae = VAE(config)
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latent_std", torch.ones(config.latent_channels))

    @property
    def latent_size(self) -> tuple[int, int, int]:
        """``x y Z`` of the latent grid."""
        x, y, z = self.grid.size
        return x // self.config.stride, y // self.config.stride, z

    def encode(self, image: Image, slice_mask: SliceMask) -> Latent:
        """Posterior mean of images, at unit scale, zero on slices that were not acquired."""
        raw = self.vae.encode(image, slice_mask).mean
        unit = (raw - _per_channel(self.latent_mean)) / _per_channel(self.latent_std)
        return unit * broadcast_mask(slice_mask, unit)

    def decode(self, latent: Latent, slice_mask: SliceMask) -> Decoded:
        """Image and mask logits of latents of unit scale."""
        raw = latent * _per_channel(self.latent_std) + _per_channel(self.latent_mean)
        return self.vae.decode(raw * broadcast_mask(slice_mask, raw), slice_mask)

    def labels(self, logits: Logits, slice_mask: SliceMask) -> LabelBatch:
        """Post-processed masks of mask logits (`clean_mask`); background on slices that were not acquired."""
        return self.masks(logits, slice_mask)[0]

    def masks(self, logits: Logits, slice_mask: SliceMask) -> tuple[LabelBatch, BoolArray]:
        """`labels`, and the voxels ``B X Y Z`` whose likeliest class post-processing changed."""
        # On a CPU `argmax` over the channels takes eight times as long.
        classes = logits.max(dim=1).indices.to(torch.uint8).movedim(-1, 1).contiguous()  # B Z X Y
        likeliest: LabelArray = classes.movedim(1, -1).cpu().numpy()  # B X Y Z
        labels, pixel_mm2 = np.zeros_like(likeliest), math.prod(self.grid.spacing_mm[:2])
        for label, found, acquired in zip(labels, likeliest, slice_mask.cpu().numpy(), strict=True):
            label[..., acquired] = clean_mask(found[..., acquired], pixel_mm2)
        return labels, labels != likeliest

    @torch.no_grad()
    def measure_scale(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Set mean and deviation of each latent channel from images and slice masks; `ValueError` without any slice."""
        count = 0.0  # voxels of acquired slices
        total = torch.zeros_like(self.latent_mean, dtype=torch.float64)
        squares = torch.zeros_like(total)
        for image, slice_mask in batches:
            raw = self.vae.encode(image, slice_mask).mean.double()  # B C x y z
            kept = raw * broadcast_mask(slice_mask, raw)
            total += kept.sum(dim=(0, 2, 3, 4))
            squares += kept.square().sum(dim=(0, 2, 3, 4))
            count += float(slice_mask.sum()) * raw.shape[2] * raw.shape[3]
        if count == 0:
            raise ValueError("no acquired slice to measure the latent scale on")
        # var = E[x^2] - E[x]^2, in float64
        mean = total / count
        self.latent_mean.copy_(mean)
        self.latent_std.copy_((squares / count - mean.square()).clamp(min=1e-12).sqrt())


def _per_channel(values: Tensor) -> Tensor:
    return values[None, :, None, None, None]  # 1 C 1 1 1


# --- Post-processing of masks ----------------------------------------------------------------------------------------


class SectionLimits(NamedTuple):
    """The smallest sections of a structure that are not fragments.

    The limits lie below nearly all of 526 annotated frames of 154 subjects (ACDC, M&Ms, Najman; 144 with an RV). In all
    but a few of them the myocardium begins in the same slice as the LV, where the LV has at least 530 mm² and
    .46 of its next section, and the myocardium 365 mm². The RV begins there or below, with at least 595 mm² and .31 of
    its next section. Towards the apex the LV ends with the myocardium or before; an RV may go on. The last sections
    have at least 13 mm² (LV), 9.7 mm² (RV) and 98 mm² (myocardium).
    """

    base_mm2: float
    base_share: float  # of the structure's next section
    apex_mm2: float


SECTIONS = {
    Label.LV: SectionLimits(450.0, 0.5, 12.0),  # one in a hundred annotated frames has a smaller share
    Label.MYO: SectionLimits(300.0, 0.0, 90.0),
    Label.RV: SectionLimits(500.0, 0.3, 9.0),
}
_IN_PLANE = np.zeros((3, 3, 3), dtype=np.bool_)  # neighbours in Z X Y
_IN_PLANE[1] = [[False, True, False], [True, True, True], [False, True, False]]
_IN_PLANE_AND_DIAGONALS = np.zeros_like(_IN_PLANE)
_IN_PLANE_AND_DIAGONALS[1] = True


def clean_mask(label: LabelArray, pixel_mm2: float) -> LabelArray:
    """A label ``X Y Z``, base first, reduced to one heart without fragments and holes; pixels have ``pixel_mm2``.

    A decoder sees heart where there is liver, and leaves fragments above the valve plane while it passes through a
    slice. Experts segment one heart: in each slice a structure is one part without holes, and either whole or absent.
    """
    cleaned = np.zeros_like(label)  # in the memory order of label
    if label.any():
        found = _around(label)
        kept = one_heart(label[found])
        box = _around(kept)  # all further work is done here, in a small part of the field
        sections = np.moveaxis(kept[box], 2, 0).copy()  # Z X Y
        _clean_sections(sections)
        cleaned[found][box] = _without_fragments(np.moveaxis(sections, 0, 2), pixel_mm2)
    return cleaned


def _around(label: LabelArray) -> tuple[slice, slice]:
    """The box in the plane of all labels of ``X Y Z``, and one pixel more where there is one."""
    shadow = np.asarray(label.any(axis=2))
    x, y = np.flatnonzero(shadow.any(axis=1)), np.flatnonzero(shadow.any(axis=0))
    return slice(max(x[0] - 1, 0), x[-1] + 2), slice(max(y[0] - 1, 0), y[-1] + 2)


def one_heart(label: LabelArray) -> LabelArray:
    """The largest connected part of all structures together, ``X Y Z``; the rest is liver or chest wall."""
    parts, count = scipy.ndimage.label(np.moveaxis(label, 2, 0) > 0)  # along rows is twice as fast as across slices
    if count < 2:
        return label
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    kept = np.moveaxis(parts == sizes.argmax(), 0, 2)
    return np.where(kept, label, Label.BACKGROUND).astype(label.dtype)


def _clean_sections(sections: LabelArray) -> None:
    """Keep the largest part of each structure in each section of ``Z X Y`` and fill holes, in place."""
    for structure in STRUCTURES:
        mask = sections == structure
        parts, count = scipy.ndimage.label(mask, structure=_IN_PLANE_AND_DIAGONALS)
        if count > mask.any(axis=(1, 2)).sum():
            sections[mask & ~_largest(parts, count)[parts]] = Label.BACKGROUND
    background = sections == Label.BACKGROUND
    sections[background & _filled(sections == Label.LV)] = Label.LV
    # Holes between cavity and wall become wall.
    left = (sections == Label.LV) | (sections == Label.MYO)
    sections[(sections == Label.BACKGROUND) & _filled(left)] = Label.MYO


def _largest(parts: NDArray[np.integer[Any]], count: int) -> BoolArray:
    """Which of ``count`` parts, numbered section by section in ``Z X Y``, are the largest of their section."""
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    largest = np.zeros(count + 1, dtype=np.bool_)
    ends = np.maximum.accumulate(parts.max(axis=(1, 2)))  # Z, the last part of this section or of those before
    for first, last in zip(np.append(0, ends), ends, strict=False):
        if last > first:
            largest[first + 1 + sizes[first + 1 : last + 1].argmax()] = True
    return largest


def _filled(mask: BoolArray) -> BoolArray:
    """``Z X Y`` without holes in its sections, which are parts of the background that reach no edge."""
    parts, count = scipy.ndimage.label(~mask, structure=_IN_PLANE)
    outside = np.zeros(count + 1, dtype=np.bool_)
    for edge in (parts[:, 0], parts[:, -1], parts[..., 0], parts[..., -1]):
        outside[edge] = True
    outside[0] = False  # the mask itself
    return np.asarray(~outside[parts])


def _without_fragments(label: LabelArray, pixel_mm2: float) -> LabelArray:
    """Structures from their first whole section to their last; the label as it is if no section of the LV is whole."""
    areas = {s: (label == s).sum(axis=(0, 1)) * pixel_mm2 for s in STRUCTURES}  # Z each, base first
    whole = {
        s: (areas[s] >= limits.base_mm2) & (areas[s] >= limits.base_share * np.append(areas[s][1:], 0.0))
        for s, limits in SECTIONS.items()
    }
    left = whole[Label.LV] & whole[Label.MYO]
    if not left.any():
        return label
    first = dict.fromkeys(STRUCTURES, int(left.argmax()))
    if whole[Label.RV][first[Label.RV] :].any():  # otherwise the rules of anatomy judge the RV
        first[Label.RV] += int(whole[Label.RV][first[Label.RV] :].argmax())
    last = {s: max(np.flatnonzero(areas[s] >= SECTIONS[s].apex_mm2), default=-1) for s in STRUCTURES}
    last[Label.LV] = min(last[Label.LV], last[Label.MYO])
    for structure in STRUCTURES:
        for beyond in (label[..., : first[structure]], label[..., last[structure] + 1 :]):
            beyond[beyond == structure] = Label.BACKGROUND
    return label
