"""The nearest training subject of a heart, and whether it is nearer than people are to each other.

A distance alone misleads: a soft, average heart is near to everybody. So a heart's distance to its nearest training
subject is divided by that to its next ones (as Carlini et al., 2023, do for images): a copy is near to one alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float64]
"""Distances ``N M`` of hearts to training subjects; NaN where one of the two is unknown."""
Stack = NDArray[np.float32]

REACH_PX = 3
"""In-plane shifts, to all sides, at which images are compared: 9 mm."""
NEXT = 10
"""The next nearest training subjects, whose median distance is the yardstick."""
FEWEST_NEXT = 3
DEVIATIONS = 4.0
"""Robust standard deviations of log closeness below people's median at which nearness is no chance (1 in 30,000)."""
HALF = 0.5
"""And nobody is called a copy who is not at least twice as near to one person as to the next ones."""


def image_distance(hearts: Stack, training: Stack) -> Table:
    """1 - the largest normalised cross-correlation over shifts of `REACH_PX`; stacks ``N S P P`` and ``M S P P``."""
    size = hearts.shape[-1] - 2 * REACH_PX
    inner = unit(hearts[..., REACH_PX:-REACH_PX, REACH_PX:-REACH_PX])
    shifts = range(2 * REACH_PX + 1)
    best = np.full((len(hearts), len(training)), -1.0)
    for x in shifts:
        for y in shifts:
            best = np.maximum(best, inner @ unit(training[..., x : x + size, y : y + size]).T)
    return 1.0 - best


def mask_distance(hearts: Stack, training: Stack) -> Table:
    """1 - the mean Dice of RV, myocardium and LV; label stacks ``N S P P`` and ``M S P P``."""
    dice = [_dice((hearts == s).astype(np.float64), (training == s).astype(np.float64)) for s in (1, 2, 3)]
    unknown = [~np.isfinite(x.reshape(len(x), -1)).all(axis=1) for x in (hearts, training)]
    table = np.asarray(1.0 - np.mean(dice, axis=0), dtype=np.float64)
    table[unknown[0]] = np.nan
    table[:, unknown[1]] = np.nan
    return table


def latent_distance(hearts: Stack, training: Stack) -> Table:
    """1 - the correlation of latents ``N ...`` and ``M ...``."""
    return 1.0 - unit(hearts) @ unit(training).T


@dataclass(frozen=True)
class Nearest:
    """Of each of ``N`` hearts: the place of the nearest training subject, its distance, and its closeness, which is
    that distance over the median of the next ones'. NaN (and place 0) where a heart cannot be compared."""

    place: NDArray[np.intp]
    distance: NDArray[np.float64]
    closeness: NDArray[np.float64]

    @property
    def known(self) -> NDArray[np.float64]:
        """The closeness of the hearts that have one."""
        return np.asarray(self.closeness[np.isfinite(self.closeness)])


def nearest(away: Table) -> Nearest:
    """The nearest training subjects by a table of distances."""
    table = np.where(np.isfinite(away), away, np.inf)
    order = np.sort(table, axis=1)
    following = np.where(np.isfinite(order), order, np.nan)[:, 1 : 1 + NEXT]
    enough = np.isfinite(following).sum(axis=1) >= FEWEST_NEXT
    yardstick = np.full(len(table), np.nan)
    yardstick[enough] = np.nanmedian(following[enough], axis=1)
    distance = np.where(np.isfinite(order[:, 0]), order[:, 0], np.nan)
    return Nearest(table.argmin(axis=1), distance, np.maximum(distance, 0.0) / np.maximum(yardstick, 1e-9))


def nearest_other(away: Table) -> Nearest:
    """The same of the training subjects themselves, each compared with all others."""
    others = away.copy()
    np.fill_diagonal(others, np.nan)
    return nearest(others)


def copy_limit(people: NDArray[np.float64]) -> float:
    """The closeness below which a heart is a near-copy, from that of ``people`` to other people.

    Their median less `DEVIATIONS` robust deviations of its logarithm, and at most `HALF`. The deviation is taken from
    the median to the 16th percentile, so that twins among people, who are near-copies, do not raise the limit for all.
    """
    logs = np.log(np.maximum(people, 1e-6))
    low, median = np.percentile(logs, (16, 50))
    return float(min(np.exp(median - DEVIATIONS * (median - low)), HALF))


def unit(stacks: Stack) -> Table:
    """Stacks ``N ...`` as vectors ``N D`` of mean 0 and length 1; those of one value alone are 0."""
    flat = stacks.reshape(len(stacks), -1).astype(np.float64)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9))


def _dice(hearts: Table, training: Table) -> Table:
    a, b = (x.reshape(len(x), -1) for x in (hearts, training))
    both, total = 2 * a @ b.T, a.sum(axis=1)[:, None] + b.sum(axis=1)[None, :]
    return np.asarray(np.where(total > 0, both / np.maximum(total, 1.0), 1.0))


# --- The spaces in which generated hearts are compared with training subjects ----------------------------------------


@dataclass(frozen=True)
class Space:
    """Where hearts are compared: what is measured of each, and the distance."""

    name: str
    quantity: str
    distance: Callable[[Stack, Stack], Table]


IMAGE = Space("image", "thumbnail.image", image_distance)
MASK = Space("mask", "thumbnail.mask", mask_distance)
LATENT = Space("latent", "vae-latent.places", latent_distance)
