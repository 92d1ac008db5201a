"""Where a model's grid lies in space."""

import numpy as np

from cinesynth.data.geometry import Placement
from cinesynth.types import Affine


def grid_affine(placement: Placement) -> Affine:
    """Affine of the grid, ``4 4``, voxel to millimetre; a point has the same coordinates as on the native grid."""
    x, y, z = placement._axes()
    to_native = np.diag([x.step, y.step, z.step, 1.0])
    first = np.flatnonzero(placement.slice_mask)[0]
    to_native[:3, 3] = x.start, y.start, z.start - z.step * first
    return np.asarray(placement.affine @ to_native, dtype=np.float64)
