"""The spaces in which generated hearts are compared with training subjects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cinesynth.data.likeness.nearest import Stack, Table, image_distance, latent_distance, mask_distance


@dataclass(frozen=True)
class Space:
    """Where hearts are compared: what is measured of each, and the distance."""

    name: str
    quantity: str
    distance: Callable[[Stack, Stack], Table]


IMAGE = Space("image", "likeness.image", image_distance)
MASK = Space("mask", "likeness.mask", mask_distance)
LATENT = Space("latent", "vae-latent.places", latent_distance)
