"""The phantom is an oracle only if its own millilitres are right: they are checked by counting and by quadrature."""

from __future__ import annotations

import numpy as np
import pytest

from cinesynth.data.phantom import PhantomStudy, make_phantom_heart, phantom_study
from cinesynth.data.phantom.anatomy import GROUPS, PHI, Heart, ejected_at
from cinesynth.data.phantom.scanner import TISSUES, VENDORS, bssfp_signal, signals
from cinesynth.data.phantom.scene import angle_index, label_plane, sections
from cinesynth.errors import InputError
from cinesynth.physiology import LV_BY_DIAGNOSIS
from cinesynth.types import STRUCTURES, Diagnosis, Label, LabelArray, volumes_ml

DISEASES = list(GROUPS)


@pytest.fixture(scope="module")
def normal() -> PhantomStudy:
    return phantom_study(7, diagnosis=Diagnosis.NOR, frames=12, vendor="phantom-A", field_mm=200.0)


def thickness(heart: Heart, frame: int, height: float) -> np.ndarray:
    """Wall thickness around the heart, at ``height`` (0 base, 1 apex) along the cavity."""
    s = heart.base[frame] + height * heart.length[frame]
    cut = sections(heart, np.array([frame]), np.array([s]))
    return (cut.epi - cut.endo)[0, 0]


def rasterize_labels(heart: Heart, frame: int, spacing_mm: tuple[float, float, float]) -> LabelArray:
    """Labels ``X Y Z`` of one frame, sampled at voxel centers on a box that holds the whole heart.

    The long axis lies in the middle of the box, without tilt.
    """
    dx, dy, dz = spacing_mm
    s = np.arange(0.5 * dz, heart.apex, dz)
    cut = sections(heart, np.array([frame]), s)
    reach = float(cut.rv.max()) + max(dx, dy)
    nx, ny = int(np.ceil(reach / dx)), int(np.ceil(reach / dy))
    columns, rows = np.arange(-nx, nx + 1) * dx, np.arange(-ny, ny + 1) * dy
    x, y = np.meshgrid(columns.astype(np.float32), rows.astype(np.float32), indexing="ij")
    index, radius = angle_index(x, y), np.hypot(x, y)
    planes = [
        label_plane(endo[index], epi[index], rv[index], radius)
        for endo, epi, rv in zip(cut.endo[0], cut.epi[0], cut.rv[0], strict=True)
    ]
    return np.stack(planes, axis=-1)


def toward(angle: float) -> int:
    return int(np.argmax(np.cos(angle - PHI)))


@pytest.mark.parametrize("diagnosis", DISEASES)
@pytest.mark.parametrize("seed", [3, 11])
def test_voxels_hold_the_analytic_volumes(diagnosis: Diagnosis, seed: int) -> None:
    heart = make_phantom_heart(seed, diagnosis=diagnosis)
    for frame in (0, heart.beat.es_index):
        label = rasterize_labels(heart, frame, (1.0, 1.0, 1.0))
        counted = [np.count_nonzero(label == k) * 1e-3 for k in STRUCTURES]
        np.testing.assert_allclose(counted, heart.volumes_ml[frame], rtol=0.01)


@pytest.mark.parametrize("diagnosis", DISEASES)
def test_quadrature_of_the_walls_gives_the_volumes_of_every_frame(diagnosis: Diagnosis) -> None:
    heart = make_phantom_heart(5, diagnosis=diagnosis, frames=20)
    step, frames = 0.25, np.arange(0, 20, 4)
    cut = sections(heart, frames, np.arange(step / 2, heart.apex, step))
    area = [
        0.5 * (outer.astype(float) ** 2 - inner**2).mean(axis=2) * 2 * np.pi
        for outer, inner in ((cut.rv, cut.epi), (cut.epi, cut.endo), (cut.endo, 0.0 * cut.endo))
    ]
    volume = np.stack(area, axis=-1).sum(axis=1) * step / 1000.0
    np.testing.assert_allclose(volume, heart.volumes_ml[frames], rtol=0.006)
    assert (cut.epi >= cut.endo).all()
    assert (cut.rv >= cut.epi - 1e-4).all()


@pytest.mark.parametrize("diagnosis", DISEASES)
@pytest.mark.parametrize(("edv", "ef"), [(60.0, 85.0), (130.0, 55.0), (400.0, 10.0)])
def test_requested_volumes_are_met_exactly(diagnosis: Diagnosis, edv: float, ef: float) -> None:
    heart = make_phantom_heart(2, diagnosis=diagnosis, lv_edv_ml=edv, ef_percent=ef)
    lv = heart.volumes_ml[:, 2]
    assert lv[0] == pytest.approx(edv)
    assert lv[heart.beat.es_index] == pytest.approx(edv * (1 - ef / 100))
    label = rasterize_labels(heart, heart.beat.es_index, (1.0, 1.0, 0.5))
    counted = np.count_nonzero(label == Label.LV) * 0.5e-3
    assert counted == pytest.approx(edv * (1 - ef / 100), rel=0.02)


def test_the_beat_is_physiological_and_closes() -> None:
    for seed in range(30):
        heart = make_phantom_heart(seed)
        lv, myo = heart.volumes_ml[:, 2], heart.volumes_ml[:, 1]
        es, frames = heart.beat.es_index, len(lv)
        assert 20 <= frames <= 30
        assert int(np.argmin(lv)) == es
        assert int(np.argmax(lv)) == 0
        assert 0.30 <= es / frames <= 0.45
        assert np.ptp(myo) == 0.0
        steps = np.abs(np.diff(lv, append=lv[0]))
        assert steps[-1] <= 1.05 * steps[:-1].max()
        assert 500.0 < heart.beat.frame_time_ms * frames < 1500.0
    ends = ejected_at(np.array([0.0, 1.0, 0.9999]), 0.36, 0.2)
    np.testing.assert_allclose(ends, 0.0, atol=1e-6)


def test_base_descends_and_walls_thicken() -> None:
    heart = make_phantom_heart(0, diagnosis=Diagnosis.NOR)
    es = heart.beat.es_index
    assert 8.0 < heart.base[es] < 20.0
    assert thickness(heart, es, 0.4).mean() > 1.25 * thickness(heart, 0, 0.4).mean()


def test_groups_follow_the_statistics_of_acdc() -> None:
    for group in GROUPS:
        (mean_edv, sd_edv), _, (mean_ef, sd_ef) = LV_BY_DIAGNOSIS[group.value]
        hearts = [make_phantom_heart(s, diagnosis=group, frames=20) for s in range(60)]
        edv = np.array([h.patient.lv_edv_ml for h in hearts])
        ef = np.array([100 * (1 - h.patient.lv_esv_ml / h.patient.lv_edv_ml) for h in hearts])
        assert abs(edv.mean() - mean_edv) < 0.45 * sd_edv
        assert abs(ef.mean() - mean_ef) < 0.45 * sd_ef


def test_hypertrophy_is_septal() -> None:
    sick = make_phantom_heart(1, diagnosis=Diagnosis.HCM, lv_edv_ml=130.0)
    well = make_phantom_heart(1, diagnosis=Diagnosis.NOR, lv_edv_ml=130.0)
    walls = thickness(sick, 0, 0.4)
    septal, lateral = walls[toward(sick.septum)], walls[toward(sick.septum + np.pi)]
    assert septal > 13.0
    assert septal > 1.4 * lateral
    assert thickness(well, 0, 0.4).max() < 11.0


def test_the_right_ventricle_of_its_group_is_large_and_weak() -> None:
    def right(diagnosis: Diagnosis) -> tuple[float, float]:
        patients = [make_phantom_heart(s, diagnosis=diagnosis).patient for s in range(20)]
        edv = np.mean([p.rv_edv_ml for p in patients])
        return float(edv), float(np.mean([1 - p.rv_esv_ml / p.rv_edv_ml for p in patients]))

    assert right(Diagnosis.RV)[0] > 1.2 * right(Diagnosis.NOR)[0]
    assert right(Diagnosis.RV)[1] < 0.40 < 0.50 < right(Diagnosis.NOR)[1]


def test_an_infarct_neither_moves_nor_thickens() -> None:
    for seed in range(5):
        heart = make_phantom_heart(seed, diagnosis=Diagnosis.MINF, ef_percent=35.0)
        es, height = heart.beat.es_index, heart.infarct_center
        s = heart.base + height * heart.length
        endo = [sections(heart, np.array([t]), s[t : t + 1]).endo[0, 0] for t in (0, es)]
        inward = endo[0] - endo[1]
        scar, remote = toward(heart.infarct.angle), toward(heart.infarct.angle + np.pi)
        assert abs(inward[scar]) < 1.0
        assert inward[remote] > 3.0
        thickening = thickness(heart, es, height) / thickness(heart, 0, height)
        assert thickening[scar] < 1.15 < thickening[remote]
        assert thickness(heart, 0, height)[scar] < 0.7 * thickness(heart, 0, height)[remote]


def test_signal_matches_the_long_t1_limit() -> None:
    blood = TISSUES["lv_blood"]
    got = bssfp_signal(blood, field_t=1.5, flip_deg=60.0, tr_ms=0.01)
    ratio = blood.t1_ms[0] / blood.t2_ms[0]
    expected = blood.density * np.sin(np.pi / 3) / (1 + np.cos(np.pi / 3) + (1 - np.cos(np.pi / 3)) * ratio)
    assert got == pytest.approx(expected, rel=1e-3)
    cine = signals(field_t=1.5, flip_deg=60.0, tr_ms=3.0)
    assert cine["fat"] > 1.3 > 1.0 > cine["rv_blood"] > 0.7 > 0.5 > cine["myocardium"] > 3 * cine["lung"]


def test_a_study_is_whole(normal: PhantomStudy) -> None:
    study = normal.study
    assert study.image.shape == study.label.shape
    assert study.image.dtype == np.int16
    assert study.image.shape[0] == 12
    assert study.labelled.all()
    assert study.frame_index.tolist() == list(range(12))
    assert (study.subject, study.dataset, study.vendor) == ("phantom00007", "phantom", "phantom-A")
    assert set(np.unique(study.label)) == {0, 1, 2, 3}
    assert np.count_nonzero(study.affine - np.diag(np.diagonal(study.affine))) == 0
    border = study.label[:, [0, -1]].any() or study.label[:, :, [0, -1]].any()
    assert not border


def test_slices_run_from_base_to_apex_with_the_rv_at_low_x(normal: PhantomStudy) -> None:
    label = normal.study.label[0]
    area = (label == Label.LV).sum(axis=(0, 1))
    labelled = np.flatnonzero(area)
    assert area[labelled[0]] > 4 * area[labelled[-1]]
    right, left = (np.argwhere(label == k).mean(axis=0)[:2] for k in (Label.RV, Label.LV))
    assert right[0] < left[0] - 10.0 / normal.study.spacing_mm[0]


def test_basal_slices_lose_the_ventricle_in_systole() -> None:
    study = phantom_study(0, frames=10, spacing_mm=2.0).study
    slices = (study.label == Label.LV).any(axis=(1, 2))
    first = slices.argmax(axis=1)
    assert first[study.es_index] > first[0]


def test_labels_lie_on_the_image() -> None:
    clean = phantom_study(10, frames=8, spacing_mm=1.6, noise=False, vendor="phantom-B").study
    for frame in range(8):
        middle = clean.image.shape[3] // 2
        image, label = clean.image[frame, :, :, middle].astype(float), clean.label[frame, :, :, middle]
        means = {k: image[label == k].mean() for k in STRUCTURES}
        assert means[Label.LV] > 1.6 * means[Label.MYO]
        assert means[Label.RV] > 1.4 * means[Label.MYO]
        # A border that is off by two voxels loses contrast.
        for shift in ((2, 0), (-2, 0), (0, 2), (0, -2)):
            moved = np.roll(label, shift, axis=(0, 1))
            assert image[moved == Label.LV].mean() < means[Label.LV]


def test_thick_slices_count_about_the_true_volume() -> None:
    error = []
    for seed in range(6):
        made = phantom_study(seed, frames=6, spacing_mm=2.2, field_mm=220.0)
        counted = volumes_ml(made.study.label, Label.LV, made.study.voxel_ml)
        error.append(counted[0] / made.volumes_ml[0, 2] - 1.0)
    assert np.abs(error).max() < 0.04


def test_deterministic_by_seed(normal: PhantomStudy) -> None:
    again = phantom_study(7, diagnosis=Diagnosis.NOR, frames=12, vendor="phantom-A", field_mm=200.0)
    other = phantom_study(8, diagnosis=Diagnosis.NOR, frames=12, vendor="phantom-A", field_mm=200.0)
    assert np.array_equal(again.study.image, normal.study.image)
    assert np.array_equal(again.volumes_ml, normal.volumes_ml)
    assert not np.array_equal(other.volumes_ml, normal.volumes_ml)


def test_noise_and_shifts_leave_the_rest_alone(normal: PhantomStudy) -> None:
    quiet = phantom_study(7, diagnosis=Diagnosis.NOR, frames=12, vendor="phantom-A", field_mm=200.0, noise=False)
    assert np.array_equal(quiet.study.label, normal.study.label)
    assert quiet.study.image[:, :5, :5].std() < normal.study.image[:, :5, :5].std()
    still = phantom_study(7, frames=6, spacing_mm=2.0, shifts=False)
    moved = phantom_study(7, frames=6, spacing_mm=2.0)
    assert np.array_equal(still.volumes_ml, moved.volumes_ml)
    assert not np.array_equal(still.study.label, moved.study.label)


def test_vendors_differ() -> None:
    studies = [phantom_study(4, vendor=v, frames=6, field_mm=220.0).study for v in VENDORS]
    assert len({s.spacing_mm for s in studies}) == len(VENDORS) >= 4
    assert {s.vendor for s in studies} == {"phantom-A", "phantom-B", "phantom-C", "phantom-D"}
    contrast = [s.image[s.label == Label.MYO].mean() / s.image[s.label == Label.LV].mean() for s in studies]
    assert np.ptp(contrast) > 0.03
    assert all(1.2 <= s.spacing_mm[0] <= 1.8 and 8.0 <= s.spacing_mm[2] <= 10.0 for s in studies)
    assert len({round(float(s.image.mean())) for s in studies}) == len(VENDORS)


def test_seeds_run_through_groups_and_vendors() -> None:
    assert {make_phantom_heart(s).patient.diagnosis for s in range(5)} == set(Diagnosis) - {Diagnosis.UNKNOWN}


@pytest.mark.parametrize(
    "request_",
    [
        {"diagnosis": Diagnosis.UNKNOWN},
        {"vendor": "phantom-Z"},
        {"frames": 2},
        {"lv_edv_ml": 5.0},
        {"ef_percent": 99.0},
        {"spacing_mm": 40.0},
        {"field_mm": 10.0},
        {"field_mm": 110.0, "lv_edv_ml": 300.0, "frames": 6},
    ],
)
def test_impossible_requests_say_what_to_do(request_: dict[str, object]) -> None:
    with pytest.raises(InputError) as caught:
        phantom_study(0, **request_)  # type: ignore[arg-type]
    assert caught.value.hint
