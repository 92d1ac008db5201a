"""Random views of a frame, as nnU-Net augments: `augment` draws and applies them, in millimetres, at one strength.

Image and label share one geometry; the appearance (`appearance`) changes the image alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from cinesynth.io.reproducibility import uniform
from cinesynth.training.appearance import degrade, draw_appearance, nodes_along, upsample_nodes
from cinesynth.types import Volume, VolumeView

Item = dict[str, Tensor]


@dataclass(frozen=True)
class ViewRanges:
    """How far random views of a frame may differ from the frame, and how often."""

    near_heart_probability: float = 0.6
    near_heart_mm: float = 15.36  # most crops are centred at most this far from the grid's centre, where the heart is
    max_rotation: float = 0.3  # radians
    max_log_scale: float = 0.18
    max_log_aspect: float = 0.05
    bend_probability: float = 0.3
    bend_nodes_mm: float = 32.0  # distance between nodes
    bend_share: float = 1 / 8  # largest shift of a node, of that distance: 4 mm; never folds, even if nodes alternate
    cut_probability: float = 0.15
    cut_mm: float = 20.0  # most that is cut off either end of the stack; at least half of the acquired slices stay


@dataclass(frozen=True)
class CopyRanges:
    """How far an affine copy of a whole heart may differ from it. Copies train the latent models."""

    shift_mm: float = 6.0
    rotation: float = 0.15  # radians
    log_scale: float = 0.22  # a quarter larger or smaller
    log_aspect: float = 0.06


VIEWS = ViewRanges()
COPIES = CopyRanges()


@dataclass(frozen=True)
class View:
    """An in-plane view of ``size`` voxels (``X Y``) of ``spacing_mm``, at ``centre_mm`` from the grid's centre."""

    size: tuple[int, int]
    centre_mm: tuple[float, float] = (0.0, 0.0)
    rotation: float = 0.0  # radians
    scale: tuple[float, float] = (1.0, 1.0)  # above 1: the heart appears larger
    spacing_mm: tuple[float, float] = (1.0, 1.0)
    bend_mm: Tensor | None = field(default=None, compare=False)  # 2 nodes nodes, added to where the view samples

    @property
    def area_factor(self) -> float:
        """Factor by which the view changes areas, and so volumes of thick slices; bends are not counted."""
        return self.scale[0] * self.scale[1]


def augment(
    item: Item,
    size: tuple[int, int],
    spacing_mm: tuple[float, float, float],
    generator: torch.Generator,
    strength: float,
) -> Item:
    """A frame as another scanner might show another heart, in ``size`` voxels of the plane.

    ``item`` holds image ``1 X Y Z`` in [-1, 1], label ``1 X Y Z``, coverage ``Z S`` and slice mask ``Z``. The result
    holds the same for the view, the label as float. ``strength`` scales every amount; at 0 only the crop moves.
    """
    _, width, height, _ = item["image"].shape
    plane = spacing_mm[:2]
    view = draw_view(generator, (width, height), size, plane, strength)
    extent = (size[0] * plane[0], size[1] * plane[1])
    appearance = draw_appearance(generator, extent, strength)
    cut = draw_cut(generator, int(item["slice_mask"].sum()), spacing_mm[2], strength)
    points = sampling_points(view, (width, height))
    image = degrade(sample(item["image"], points), appearance, plane, generator)
    label = sample(item["label"].float(), points, nearest=True)
    seen = cut_stack({**item, "image": image, "label": label}, *cut)
    return {**seen, "image": torch.where(seen["slice_mask"], seen["image"], -1.0)}


def draw_view(
    generator: torch.Generator,
    grid: tuple[int, int],
    size: tuple[int, int],
    spacing_mm: tuple[float, float],
    strength: float,
) -> View:
    """A view of random position, rotation, scale and bend; at ``strength`` 0 only the position is random."""
    # How far the crop's centre can move before its border leaves the grid, in mm.
    reach = [(g - s) / 2 * step for g, s, step in zip(grid, size, spacing_mm, strict=True)]
    near_heart = uniform(generator) < VIEWS.near_heart_probability
    span = [min(r, VIEWS.near_heart_mm) if near_heart else r for r in reach]
    x, y = (uniform(generator, -s, s) for s in span)
    common = math.exp(uniform(generator, -VIEWS.max_log_scale, VIEWS.max_log_scale) * strength)
    aspect = math.exp(uniform(generator, -VIEWS.max_log_aspect, VIEWS.max_log_aspect) * strength)
    rotation = uniform(generator, -VIEWS.max_rotation, VIEWS.max_rotation) * strength
    bent = uniform(generator) < VIEWS.bend_probability and strength > 0
    bend = draw_bend(generator, size, spacing_mm, strength) if bent else None
    return View(size, (x, y), rotation, (common * aspect, common / aspect), spacing_mm, bend)


def draw_bend(
    generator: torch.Generator, size: tuple[int, int], spacing_mm: tuple[float, float], strength: float
) -> Tensor:
    """Shifts in mm of the nodes of a smooth elastic deformation, the same in every slice: ``2 nodes nodes``."""
    extents = [n * step for n, step in zip(size, spacing_mm, strict=True)]
    x, y = (nodes_along(extent, VIEWS.bend_nodes_mm) for extent in extents)
    # Nodes of small planes lie closer together; the shift is a share of their real distance, so that nothing folds.
    apart = min(VIEWS.bend_nodes_mm, extents[0] / (x - 1), extents[1] / (y - 1))
    return (2 * torch.rand(2, x, y, generator=generator) - 1) * VIEWS.bend_share * apart * min(1.0, strength)


def draw_copy(generator: torch.Generator, size: tuple[int, int], spacing_mm: tuple[float, float]) -> View:
    """An affine copy of a whole heart: scaled by up to a quarter in each direction, slightly turned and moved."""
    common = math.exp(uniform(generator, -COPIES.log_scale, COPIES.log_scale))
    aspect = math.exp(uniform(generator, -COPIES.log_aspect, COPIES.log_aspect))
    x, y = (uniform(generator, -COPIES.shift_mm, COPIES.shift_mm) for _ in range(2))
    rotation = uniform(generator, -COPIES.rotation, COPIES.rotation)
    return View(size, (x, y), rotation, (common * aspect, common / aspect), spacing_mm)


def draw_cut(generator: torch.Generator, acquired: int, slice_mm: float, strength: float) -> tuple[int, int]:
    """Slices to take off the two ends of a stack of ``acquired``.

    Scanners, too, make stacks that start later or stop earlier. Leaving out every second slice would instead make a
    stack of other spacing, which the grid could not tell from a heart of half the length.
    """
    chosen = uniform(generator) < VIEWS.cut_probability
    first, last = (int(uniform(generator, 0, 1 + VIEWS.cut_mm / slice_mm) * min(1.0, strength)) for _ in range(2))
    if not chosen:
        return 0, 0
    first = min(first, acquired // 2)
    return first, min(last, acquired // 2 - first)


def cut_stack(item: Item, first: int, last: int) -> Item:
    """``item`` without its first and last acquired slices.

    They become slices that were not acquired: background that counts as annotated for every structure of the frame.
    """
    if first == last == 0:
        return item
    acquired = item["slice_mask"].nonzero()[:, 0].tolist()
    gone = acquired[:first] + acquired[len(acquired) - last :]
    label, coverage, mask = (item[name].clone() for name in ("label", "coverage", "slice_mask"))
    label[..., gone], mask[gone] = 0, False
    left = [z for z in range(len(mask)) if z not in gone]
    coverage[gone] = coverage[left].any(dim=0)
    return {**item, "label": label, "coverage": coverage, "slice_mask": mask}


def look(volume: Volume, view: View, nearest: bool = False) -> VolumeView:
    """``C X Y Z`` through a view, ``C x y Z``; outside the grid the border voxels are repeated."""
    _, width, height, _ = volume.shape
    return sample(volume, sampling_points(view, (width, height)), nearest)


def sampling_points(view: View, grid: tuple[int, int]) -> Tensor:
    """Where the voxels of a view lie on a grid of ``X Y``, for `torch.nn.functional.grid_sample`: ``1 x y 2``."""
    cos, sin = math.cos(view.rotation), math.sin(view.rotation)
    x, y = (
        (torch.arange(n, dtype=torch.float32) - (n - 1) / 2) * step
        for n, step in zip(view.size, view.spacing_mm, strict=True)
    )
    u = (cos * x[:, None] - sin * y[None]) / view.scale[0] + view.centre_mm[0]  # mm from the grid's centre
    v = (sin * x[:, None] + cos * y[None]) / view.scale[1] + view.centre_mm[1]
    if view.bend_mm is not None:
        bend = upsample_nodes(view.bend_mm, view.size)
        u, v = u + bend[0], v + bend[1]
    # Voxels to [-1, 1] from border to border, as align_corners=False means it.
    across, along = (2 * p / (step * n) for p, step, n in zip((u, v), view.spacing_mm, grid, strict=True))
    return torch.stack([along, across], dim=-1)[None]  # last axis first


def sample(volume: Volume, points: Tensor, nearest: bool = False) -> VolumeView:
    """``C X Y Z`` at ``1 x y 2`` points of every slice: ``C x y Z``."""
    channels, width, height, depth = volume.shape
    flat = volume.permute(0, 3, 1, 2).reshape(1, channels * depth, width, height)  # 1 (C Z) X Y
    mode = "nearest" if nearest else "bilinear"
    seen = F.grid_sample(flat, points, mode=mode, padding_mode="border", align_corners=False)
    return seen.reshape(channels, depth, *points.shape[1:3]).permute(0, 2, 3, 1)  # C x y Z
