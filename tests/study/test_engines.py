"""The U-Net engine segments whole images: a heart at the border is found, in the scanner's voxels."""

from dataclasses import replace
from typing import Any

import numpy as np
import yaml

from cinesynth.config import dump_config, parse_config
from cinesynth.data.phantom import phantom_study
from cinesynth.study.engines import segment_whole_field
from cinesynth.study.spec import UNetSpec
from cinesynth.types import Label, Study


class Bright:
    """Labels every bright voxel as LV."""

    def segment(self, image: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
        return np.where(image > 0.5, Label.LV, 0).astype(np.uint8)


def bright(at: tuple[int, int], size: tuple[int, int, int] = (120, 100, 7)) -> Study:
    """A bright block of 20 x 16 x 4 voxels somewhere, and a small one far from it."""
    study, (x, y) = phantom_study(0, frames=6).study, at
    image = np.zeros((2, *size), dtype=np.int16)
    image[:, x : x + 20, y : y + 16, 2:6] = 1000
    image[:, 60:63, 50:53, 2:6] = 1000
    label = np.zeros(image.shape, dtype=np.uint8)
    label[:, x : x + 20, y : y + 16, 2:6] = Label.LV
    changed: dict[str, Any] = {"image": image, "label": label, "coverage": np.ones((2, size[2], 3), dtype=np.bool_)}
    return replace(study, **changed, frame_index=np.array([0, 3]), affine=np.diag([1.25, 1.25, 10.0, 1.0]))


def test_the_field_is_wider_than_a_crop() -> None:
    config = UNetSpec(preset="compact").config
    assert (config.grid.size, config.training.segmenter.crop) == ((288, 288, 16), (192, 192, 16))
    own = UNetSpec(preset="compact", set=("grid.size=[160, 160, 16]", "training.segmenter.crop=[64, 64, 16]")).config
    assert (own.grid.size, own.training.segmenter.crop) == ((160, 160, 16), (64, 64, 16))
    odd = UNetSpec(preset="compact", set=("grid.size=[160, 160, 16]",)).config
    assert odd.grid.size == (256, 256, 16)  # 240 is no grid of these networks
    assert parse_config(yaml.safe_load(dump_config(odd))) == odd  # a finished segmenter can be read


def test_a_heart_anywhere_is_found_and_nothing_else() -> None:
    for at in ((0, 0), (50, 42), (98, 80)):
        study = bright(at)
        found = segment_whole_field(Bright(), (1.25, 1.25, 10.0), study)  # type: ignore[arg-type]
        if at != (50, 42):
            assert np.array_equal(found, study.label)
        finer = segment_whole_field(Bright(), (1.0, 1.0, 10.0), study)  # type: ignore[arg-type]
        assert finer.shape == study.label.shape
        agree = 2 * ((finer > 0) & (study.label > 0)).sum() / ((finer > 0).sum() + (study.label > 0).sum())
        assert agree > 0.93
