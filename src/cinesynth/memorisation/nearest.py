"""The nearest training subject of a heart, and whether it is nearer than real people are to each other.

Distance alone misleads: a soft, average heart is near to everybody. The distance to the nearest training subject is
therefore divided by the median distance to the next ones (as Carlini et al., 2023, do for images): a copy is near to
one subject only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

Distances = NDArray[np.float64]
"""Distances ``N M`` of hearts to training subjects; NaN where one of the two is unknown."""
Stack = NDArray[np.float32]

REACH_PX = 3
"""Images are compared at in-plane shifts of up to this many thumbnail pixels (9 mm) in each direction."""
NEIGHBOURS = 10
"""The distance to the nearest training subject is divided by the median distance to this many next ones."""


def image_distance(hearts: Stack, training: Stack) -> Distances:
    """1 - the largest normalised cross-correlation over shifts of `REACH_PX`; stacks ``N S P P`` and ``M S P P``."""
    size = hearts.shape[-1] - 2 * REACH_PX
    inner = unit(hearts[..., REACH_PX:-REACH_PX, REACH_PX:-REACH_PX])
    shifts = range(2 * REACH_PX + 1)
    best = np.full((len(hearts), len(training)), -1.0)
    for x in shifts:
        for y in shifts:
            best = np.maximum(best, products(inner, unit(training[..., x : x + size, y : y + size])))
    return 1.0 - best


def mask_distance(hearts: Stack, training: Stack) -> Distances:
    """1 - the mean Dice of RV, myocardium and LV; label stacks ``N S P P`` and ``M S P P``."""
    flat, known = (x.reshape(len(x), -1) for x in (hearts, training))
    dice = []
    for structure in (1, 2, 3):
        a, b = (flat == structure).astype(np.float64), (known == structure).astype(np.float64)
        both, total = 2 * products(a, b), a.sum(axis=1)[:, None] + b.sum(axis=1)[None, :]
        dice.append(np.where(total > 0, both / np.maximum(total, 1.0), 1.0))
    table = np.asarray(1.0 - np.mean(dice, axis=0), dtype=np.float64)
    table[~np.isfinite(flat).all(axis=1)] = np.nan
    table[:, ~np.isfinite(known).all(axis=1)] = np.nan
    return table


class Space(NamedTuple):
    """Where hearts are compared: a name, the measured quantity (as of `evaluation.measure`), and a distance."""

    name: str
    quantity: str
    distance: Callable[[Stack, Stack], Distances]


IMAGE = Space("image", "thumbnail.image", image_distance)
MASK = Space("mask", "thumbnail.mask", mask_distance)
LATENT = Space("latent", "vae-latent.places", lambda hearts, training: 1.0 - products(unit(hearts), unit(training)))


class Nearest(NamedTuple):
    """The nearest training subject of each of ``N`` hearts.

    ``place`` is its index, ``distance`` its distance, and ``closeness`` that distance divided by the median distance
    to the next subjects, so that small means near. Hearts that cannot be compared have NaN (and place 0).
    """

    place: NDArray[np.intp]
    distance: NDArray[np.float64]
    closeness: NDArray[np.float64]

    @property
    def known(self) -> NDArray[np.float64]:
        """The closeness of the hearts that have one."""
        return np.asarray(self.closeness[np.isfinite(self.closeness)])


def nearest(distances: Distances, min_neighbours: int = 3) -> Nearest:
    """The nearest training subjects; closeness is NaN where fewer than ``min_neighbours`` next ones are known."""
    table = np.where(np.isfinite(distances), distances, np.inf)
    order = np.sort(table, axis=1)
    following = np.where(np.isfinite(order), order, np.nan)[:, 1 : 1 + NEIGHBOURS]
    enough = np.isfinite(following).sum(axis=1) >= min_neighbours
    scale = np.full(len(table), np.nan)
    scale[enough] = np.nanmedian(following[enough], axis=1)
    distance = np.where(np.isfinite(order[:, 0]), order[:, 0], np.nan)
    return Nearest(table.argmin(axis=1), distance, np.maximum(distance, 0.0) / np.maximum(scale, 1e-9))


def nearest_other(distances: Distances) -> Nearest:
    """The same for the training subjects themselves, each compared with all others."""
    others = distances.copy()
    np.fill_diagonal(others, np.nan)
    return nearest(others)


def copy_limit(real: NDArray[np.float64], deviations: float = 4.0, at_most: float = 0.5) -> float:
    """The closeness below which a heart is a near-duplicate, from the closeness of ``real`` subjects to other subjects.

    The limit lies ``deviations`` robust standard deviations of log closeness below the median; a real subject falls
    below it with a chance of 1 in 30,000. It is ``at_most`` a half: a copy is at least twice as near to one subject
    as to the next ones. The deviation is the distance from the median to the 16th percentile, so that subjects who
    appear twice do not raise the limit.
    """
    logs = np.log(np.maximum(real, 1e-6))
    low, median = np.percentile(logs, (16, 50))
    return float(min(np.exp(median - deviations * (median - low)), at_most))


def products(hearts: Distances, training: Distances) -> Distances:
    """Dot products ``N M`` of vectors ``N D`` and ``M D``.

    By torch: in a worker process it keeps to one thread, where numpy's library would have one for every core.
    """
    return np.asarray((torch.from_numpy(hearts) @ torch.from_numpy(training).T).numpy())


def unit(stacks: Stack) -> Distances:
    """Stacks ``N ...`` as vectors ``N D`` of mean 0 and length 1; constant stacks become 0."""
    flat = stacks.reshape(len(stacks), -1).astype(np.float64)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9))


# --- The search among a set of generated hearts ----------------------------------------------------------------------


class NearDuplicates(NamedTuple):
    """The nearest training subjects in one space: of generated hearts, held-out subjects and training subjects."""

    space: Space
    synthetic: Nearest
    held_out: Nearest
    train: Nearest

    @property
    def real(self) -> NDArray[np.float64]:
        """The closeness of real people to other people in training."""
        return np.concatenate([self.held_out.known, self.train.known])

    @property
    def limit(self) -> float:
        """The closeness below which a heart is a near-duplicate."""
        return copy_limit(self.real)

    @property
    def copies(self) -> int:
        """The number of generated hearts that are near-duplicates."""
        return int((self.synthetic.known < self.limit).sum())

    @property
    def missing(self) -> str:
        """Why near-duplicates cannot be determined; empty if they can."""
        if len(self.real) < 6:  # the limit is set by percentiles
            return f"only {len(self.real)} real people can be compared with others; 6 are needed"
        return "" if len(self.synthetic.known) else "no generated heart can be compared"


def find_near_duplicates(space: Space, synthetic: Stack, train: Stack, held_out: Stack) -> NearDuplicates:
    """Search the training subjects of every heart in one space; arrays are ``N ...``, ``M ...`` and ``K ...``."""
    made, others = (nearest(space.distance(hearts, train)) for hearts in (synthetic, held_out))
    return NearDuplicates(space, made, others, nearest_other(space.distance(train, train)))
