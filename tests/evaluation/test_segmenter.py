"""The segmenter finds hearts in images it never saw, worse in worse images, and refuses what it cannot judge."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from cinesynth.errors import InputError, WeightsError
from cinesynth.evaluation.cases import Case, CaseSet
from cinesynth.evaluation.measure import measure
from cinesynth.evaluation.segmenter import Segmenter, look_at, measurer, section_spec
from cinesynth.types import Label
from tests.evaluation.answers import answer


def mean_dice(segmenter: Segmenter, case: Case) -> float:
    return float(np.nanmean(look_at(segmenter, case)["dice"]))


def noisy(case: Case) -> Case:
    noise = np.random.default_rng(0).normal(0, 60, case.image.shape)
    return replace(case, image=(case.image + noise).clip(0, 255).astype(np.uint8))


def blurred(case: Case) -> Case:
    return replace(case, image=ndimage.gaussian_filter(case.image, (0, 4, 4, 0)))


def shifted(case: Case) -> Case:
    return replace(case, label=np.roll(case.label, (2, 2), axis=(1, 2)))


def test_it_finds_the_hearts_of_held_out_people(segmenter: Segmenter, held_out: CaseSet) -> None:
    found = [look_at(segmenter, case) for case in held_out]
    assert np.mean([f["dice"][0, 2] for f in found]) > 0.75  # the LV at ED, by a network trained for seconds
    for case, (edv, esv, ef, slices, es_index, *_) in zip(held_out, (f["achieved"] for f in found), strict=True):
        assert edv > esv > 0
        assert ef == pytest.approx(100 * (1 - esv / edv), rel=1e-3)
        assert slices == case.image.shape[-1]
        assert 0 < es_index < len(case.image)


@pytest.mark.parametrize("corrupt", [noisy, blurred, shifted])
def test_its_agreement_falls_with_noise_blur_or_shift(segmenter: Segmenter, held_out: CaseSet, corrupt) -> None:
    case = held_out[0]
    assert mean_dice(segmenter, corrupt(case)) < mean_dice(segmenter, case) - 0.03


def test_another_spacing_is_seen_at_its_own(segmenter: Segmenter, held_out: CaseSet) -> None:
    """Every voxel cut in four: the same heart, nearly the same answer."""
    case = held_out[0]
    x, y, z = case.spacing_mm
    fine = [np.repeat(np.repeat(a[[case.ed]], 2, axis=1), 2, axis=2) for a in (case.intensity, case.label)]
    label = segmenter.segment(fine[0], (x / 2, y / 2, z))
    coarse = segmenter.segment(case.intensity[[case.ed]], case.spacing_mm)
    volumes = [(found == Label.LV).sum() for found in (label, coarse)]
    assert label.shape == fine[1].shape
    assert volumes[0] / 4 == pytest.approx(volumes[1], rel=0.1)
    with pytest.raises(InputError, match=r"pixels of 0\.5 x 0\.5 mm") as error:
        segmenter.segment(case.intensity, (0.5, 0.5, z))
    assert "cinesynth train segmenter" in error.value.hint


def test_two_workers_see_what_one_sees(segmenter: Segmenter, held_out: CaseSet) -> None:
    """And do not hang, although this process has used the network before."""
    look_at(segmenter, held_out[0])
    one, two = (measure(held_out, [measurer(segmenter)], workers=n) for n in (1, 2))
    np.testing.assert_allclose(one["segmenter.dice"], two["segmenter.dice"], atol=1e-3)


def test_an_altered_segmenter_is_refused(segmenter: Segmenter, tmp_path: Path) -> None:
    for name in ("segmenter.json", "segmenter.safetensors"):
        shutil.copy(segmenter.folder / name, tmp_path / name)
    assert measurer(Segmenter.load(tmp_path)).identity == measurer(segmenter).identity
    altered = tmp_path / "altered"
    shutil.copytree(tmp_path, altered)
    content = bytearray((altered / "segmenter.safetensors").read_bytes())
    content[-1] ^= 1
    (altered / "segmenter.safetensors").write_bytes(bytes(content))
    with pytest.raises(WeightsError, match="altered"):
        Segmenter.load(altered)
    with pytest.raises(WeightsError, match=r"segmenter\.json is missing"):
        Segmenter.load(tmp_path / "nowhere")


def test_its_own_error_stands_beside_what_is_published(
    segmenter: Segmenter, synthetic: CaseSet, train: CaseSet, held_out: CaseSet
) -> None:
    few = replace(synthetic, names=synthetic.names[:1])
    result = answer(section_spec(segmenter), few, few, held_out)
    by_name = {m.name: m for m in result.metrics}
    assert by_name["Dice LV"].count == 2 * len(held_out)
    assert "published 0.945" in by_name["Dice LV"].detail
    assert 0 < by_name["HD95 LV"].value < 30
    assert result.judgement in ("pass", "warn")
    assert "nnU-Net" in result.notes[1]
