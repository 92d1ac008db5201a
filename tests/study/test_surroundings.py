"""A heart pasted on a real background: its own voxels in the centre, the subject's background it, all in place."""

from dataclasses import replace

import numpy as np
import pytest

from cinesynth.cases.schema import to_stored
from cinesynth.data.geometry import Grid, place
from cinesynth.data.phantom import phantom_study
from cinesynth.study.generation import BLEND_MM, paste_heart
from cinesynth.types import Label, Study, volumes_ml
from tests.places import grid_affine

SPACING_MM = (2.0, 2.0, 10.0)


@pytest.fixture(scope="module")
def heart() -> Study:
    """A heart as a generator with a small field makes it: 80 voxels of 2 mm, intensities 0 to 1000."""
    study = phantom_study(1, frames=6).study
    placement = place(study, Grid((80, 80, study.image.shape[3]), SPACING_MM))
    image = placement.image_to_grid(study.image)
    unit = (image - image.min()) / (image.max() - image.min())
    affine = grid_affine(placement)
    label = placement.label_to_grid(study.label)
    return replace(study, image=to_stored(2.0 * unit - 1.0), label=label, affine=affine, dataset="generated")


def test_the_heart_keeps_its_voxels_volume_and_place(heart: Study) -> None:
    subject = phantom_study(2, frames=6).study
    pasted = paste_heart(heart, subject)
    assert pasted.image.shape[1:] == (120, 120, heart.image.shape[3])
    inner = (slice(None), slice(20, 100), slice(20, 100))
    assert np.array_equal(pasted.label[inner], heart.label)
    assert np.array_equal(
        volumes_ml(pasted.label, Label.LV, pasted.voxel_ml), volumes_ml(heart.label, Label.LV, heart.voxel_ml)
    )
    before, after = heart.affine @ [3, 5, 2, 1], pasted.affine @ [3 + 20, 5 + 20, 2, 1]
    assert after == pytest.approx(before)
    rim = round(BLEND_MM / 2)
    middle = (slice(None), slice(20 + rim, 100 - rim), slice(20 + rim, 100 - rim))
    own = heart.image[:, rim:-rim, rim:-rim].astype(float)
    bright = own > 50  # one gain for all voxels
    gains = pasted.image[middle][bright] / own[bright]
    unclipped = pasted.image[middle][bright] < 1000
    assert np.ptp(gains[unclipped]) < 0.03


def test_the_background_is_the_subject_at_ed_in_every_frame(heart: Study) -> None:
    subject = phantom_study(2, frames=6).study
    pasted = paste_heart(heart, subject)
    outside = np.ones(pasted.image.shape[1:3], dtype=bool)
    outside[20:100, 20:100] = False
    background = pasted.image[:, outside]
    assert np.ptp(background, axis=0).max() == 0
    brighter = replace(subject, image=subject.image * 3 + 7)
    assert np.abs(paste_heart(heart, brighter).image[:, outside].astype(int) - background).max() <= 1
    other = paste_heart(heart, phantom_study(3, frames=6).study)
    assert np.abs(other.image[:, outside].astype(int) - background).mean() > 10
