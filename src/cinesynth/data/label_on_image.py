"""Whether labels lie on their images: blood is bright in a cine, and myocardium dark."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cinesynth.data.label_shape import bounding_box, slices_with
from cinesynth.types import Label, LabelArray, Study

SAMPLE = 32
"""Voxels of a structure in a slice that are compared, evenly spread over it."""
FEW = 10
"""Voxels of a structure in a slice that are not compared."""

TURNS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "x reversed": lambda a: a[::-1],
    "y reversed": lambda a: a[:, ::-1],
    "x and y reversed": lambda a: a[::-1, ::-1],
    "z reversed": lambda a: a[..., ::-1],
    "x and z reversed": lambda a: a[::-1, :, ::-1],
    "y and z reversed": lambda a: a[:, ::-1, ::-1],
    "all axes reversed": lambda a: a[::-1, ::-1, ::-1],
    "x and y exchanged": lambda a: np.swapaxes(a, 0, 1),
    "x and y exchanged, x reversed": lambda a: np.swapaxes(a[::-1], 0, 1),
    "x and y exchanged, y reversed": lambda a: np.swapaxes(a[:, ::-1], 0, 1),
    "x and y exchanged and reversed": lambda a: np.swapaxes(a, 0, 1)[::-1, ::-1],
}
"""What tools do to the axes of an array of labels (``X Y Z``), undone in the image by the same change."""


class Brightness(NamedTuple):
    """How often a blood voxel is brighter than a myocardial one of the same slice: 1 always, .5 by chance."""

    as_is: float
    turned: float
    """With the labels turned so that it is most."""
    turn: str
    frames: int
    """How many frames have blood and myocardium."""


class _Sample(NamedTuple):
    """Voxels of one frame that are compared; a row is one ventricle in one slice."""

    image: NDArray[Any]  # X Y Z
    blood: tuple[NDArray[np.intp], ...]  # x, y and z, each of rows and samples
    myocardium: tuple[NDArray[np.intp], ...]

    def brighter(self, turn: Callable[[NDArray[Any]], NDArray[Any]]) -> float:
        """The mean over all rows."""
        image = turn(self.image)
        blood, myocardium = image[self.blood][:, :, None], image[self.myocardium][:, None, :]
        return float((blood > myocardium).mean() + 0.5 * (blood == myocardium).mean())


def blood_above_myocardium(study: Study, enough: float) -> Brightness | None:
    """Of ED and ES, for ventricles and slices alike; None where no frame has both, or images are uniform.

    Nothing is turned where it is ``enough`` as it is.
    """
    indices = dict.fromkeys((study.ed_index, study.es_index))
    frames = [int(np.flatnonzero(study.frame_index == index)[0]) for index in indices]
    samples = [s for frame in frames if (s := _sample(study.image[frame], study.label[frame]))]
    if not samples:
        return None
    as_is = float(np.mean([sample.brighter(lambda image: image) for sample in samples]))
    if as_is >= enough:
        return Brightness(as_is, as_is, "", len(samples))
    square = study.image.shape[1] == study.image.shape[2]
    turned = {
        name: float(np.mean([sample.brighter(turn) for sample in samples]))
        for name, turn in TURNS.items()
        if square or "exchanged" not in name
    }
    best = max(turned, key=lambda name: turned[name])
    return Brightness(as_is, turned[best], best, len(samples))


def _sample(image: NDArray[Any], label: LabelArray) -> _Sample | None:
    """The sample of one frame ``X Y Z``; None where no slice has blood and myocardium."""
    box = bounding_box(label)
    corner = np.array([side.start or 0 for side in box])
    heart = label[box]
    blood, myocardium = [], []
    for z in np.flatnonzero(slices_with(heart == Label.MYO)).tolist():
        muscle = np.argwhere(heart[..., z] == Label.MYO)
        if np.ptp(image[box][..., z]) == 0 or len(muscle) < FEW:
            continue
        for ventricle in (Label.LV, Label.RV):
            inside = np.argwhere(heart[..., z] == ventricle)
            if len(inside) >= FEW:
                blood.append(_spread(inside, z, corner))
                myocardium.append(_spread(muscle, z, corner))
    if not blood:
        return None
    return _Sample(image, tuple(np.array(blood).T.swapaxes(1, 2)), tuple(np.array(myocardium).T.swapaxes(1, 2)))


def _spread(places: NDArray[np.intp], z: int, corner: NDArray[np.intp]) -> NDArray[np.intp]:
    """`SAMPLE` of the ``places`` (``x y``) in one slice, as x, y and z of the image."""
    chosen = places[np.linspace(0, len(places) - 1, SAMPLE).round().astype(np.intp)]
    return np.column_stack([chosen, np.full(SAMPLE, z)]) + corner
