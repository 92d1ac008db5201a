"""Folders that a YAML describes: every form of files, every fault by its name, and the three real sets exactly."""

import gzip
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from cinesynth.data.nifti import read_label, read_volume
from cinesynth.data.normalisation import default_es_index
from cinesynth.data.orientation import apply
from cinesynth.data.sources.layout import Layout, layouts, load_layout
from cinesynth.data.sources.nifti import read_nifti
from cinesynth.data.store import check_study
from cinesynth.errors import ConfigError, DataError
from cinesynth.types import STRUCTURES, Diagnosis, Label, Study, volumes_ml
from tests.data.nifti_files import TO_MNMS, change_header, only_frames, phantom, save, scanner_affine
from tests.real_subjects import table

Break = Callable[[Path], object]
OURS = {"RV": 1, "MYO": 2, "LV": 3}
THEIRS = {"LV": 1, "MYO": 2, "RV": 3}
SINGLE = {"ed": "{subject}/ED.nii.gz", "es": "{subject}/ES.nii.gz"}
CYCLE: dict[str, Any] = {
    "dataset": "hospital",
    "image": "{subject}/cine.nii.gz",
    "label": "{subject}/masks.nii.gz",
    "labels": OURS,
    "phases": {"ed": 0, "es": 2},
}


def layout_of(**settings: Any) -> Layout:
    return Layout.model_validate(CYCLE | settings)


def es_index() -> int:
    return phantom().es_index


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two subjects below a path with spaces and non-ASCII letters: cycles labelled in every frame."""
    root = tmp_path / "Prüfung der Daten"
    for number in (1, 2):
        write_cycle(root / f"case{number}", phantom(number))
    return root


def write_cycle(folder: Path, study: Study) -> None:
    save(folder / "cine.nii.gz", study.image, study.affine, 0.04)
    save(folder / "masks.nii.gz", study.label, study.affine, 0.04)


def write_table(root: Path, text: str, name: str = "subjects.csv", encoding: str = "utf-8") -> None:
    (root / name).write_bytes(text.encode(encoding))


# --- forms of files ------------------------------------------------------------------------------------------------


def test_cycles_with_labels_in_every_frame(folder: Path) -> None:
    source = read_nifti(folder, layout_of())
    assert source.names == ("case1", "case2")
    study, expected = source.read("case2"), phantom(2)
    assert np.array_equal(study.image, expected.image)
    assert np.array_equal(study.label, expected.label)
    assert study.coverage.all()
    assert (study.dataset, study.vendor, study.diagnosis, study.group) == ("hospital", "unknown", Diagnosis.UNKNOWN, "")
    assert (study.ed_index, study.es_index, study.frames_in_cycle) == (0, 2, 6)
    assert (study.phases_from, study.slices_from) == ("metadata", "labels")
    assert study.frame_time_ms == pytest.approx(40.0)


def test_files_of_ed_and_es_alone(tmp_path: Path) -> None:
    study = phantom()
    for name, frame in (("ED", 0), ("ES", es_index())):
        save(tmp_path / "a" / f"x1_{name}.nii.gz", study.image[frame], study.affine)
        save(tmp_path / "a" / f"x1_{name}_gt.nii.gz", TO_MNMS[study.label[frame]], study.affine)
    pairs = {
        kind: {phase: f"{{subject}}/*_{phase.upper()}{end}.nii.gz" for phase in ("ed", "es")}
        for kind, end in (("image", ""), ("label", "_gt"))
    }
    found = read_nifti(tmp_path, layout_of(**pairs, labels=THEIRS, phases=None)).read("a")
    assert np.array_equal(found.label, study.label[[0, es_index()]])
    assert (found.ed_index, found.es_index, found.frames_in_cycle) == (0, 1, 2)
    numbered = layout_of(**pairs, labels=THEIRS, phases={"ed": 24, "es": 9, "frames": 25})
    found = read_nifti(tmp_path, numbered).read("a")
    assert (found.ed_index, found.es_index, found.frames_in_cycle) == (24, 9, 25)
    assert found.frame_index.tolist() == [24, 9]
    assert np.array_equal(found.image, study.image[[0, es_index()]])


@pytest.mark.parametrize("whole", [True, False])
def test_one_file_a_frame_counted_from_one(tmp_path: Path, whole: bool) -> None:
    """As ACDC does it: some or all frames, labels at two of them."""
    study, es = phantom(), es_index()
    for frame in range(6) if whole else (0, es):
        save(tmp_path / f"p_frame{frame + 1:02d}.nii.gz", study.image[frame], study.affine)
    for frame in (0, es):
        save(tmp_path / f"p_frame{frame + 1:02d}_gt.nii.gz", study.label[frame], study.affine)
    phases = {"ed": 1, "es": es + 1} | ({} if whole else {"frames": 6})
    layout = layout_of(
        image="{subject}_frame{frame}.nii.gz", label="{subject}_frame{frame}_gt.nii.gz", phases=phases, counts_from=1
    )
    found = read_nifti(tmp_path, layout).read("p")
    assert (found.ed_index, found.es_index, found.frames_in_cycle) == (0, es, 6)
    assert found.frame_index.tolist() == (list(range(6)) if whole else [0, es])
    assert found.frame_index[found.labelled].tolist() == [0, es]
    assert np.array_equal(found.label[found.labelled], study.label[[0, es]])


@pytest.mark.parametrize("label", [SINGLE, "{subject}/f{frame}.nii.gz"])
def test_a_cycle_with_labels_in_files_of_their_own(folder: Path, label: Any) -> None:
    """ED is the last frame of the cycle here."""
    study = phantom(1)
    for frame, name in ((5, "ED"), (2, "ES"), (5, "f5"), (2, "f2")):
        save(folder / "case1" / f"{name}.nii.gz", study.label[frame], study.affine)
    found = read_nifti(folder, layout_of(label=label, phases={"ed": 5, "es": 2})).read("case1")
    assert (found.ed_index, found.es_index) == (5, 2)
    assert np.array_equal(found.label, only_frames(study.label, 2, 5))
    assert np.flatnonzero(found.labelled).tolist() == [2, 5]


def test_labels_tell_the_phases(folder: Path) -> None:
    save(folder / "case1" / "masks.nii.gz", only_frames(phantom(1).label, 1, 2, 5), phantom(1).affine)
    found = read_nifti(folder, layout_of(phases="labels")).read("case1")
    volumes = volumes_ml(phantom(1).label, Label.LV, 1.0)
    assert found.ed_index == max((1, 2, 5), key=lambda t: volumes[t])
    assert found.es_index == min((1, 2, 5), key=lambda t: volumes[t])
    assert found.phases_from == "labels"
    assert np.flatnonzero(found.labelled).tolist() == [1, 2, 5]


def test_a_fragment_of_labels_does_not_tell_the_phases(folder: Path) -> None:
    """A third frame, with the LV drawn in one slice: the smallest, and no ES."""
    label = only_frames(phantom(1).label, 1, 2, 4)
    label[4, ..., 1:] = 0
    save(folder / "case1" / "masks.nii.gz", label, phantom(1).affine)
    found = read_nifti(folder, layout_of(phases=None)).read("case1")
    assert (found.ed_index, found.es_index, found.phases_from) == (1, 2, "labels")


def test_a_cycle_that_says_nothing_of_its_phases(folder: Path, tmp_path: Path) -> None:
    study = read_nifti(folder, layout_of(label=None, labels={}, phases=None)).read("case1")
    check_study(study)
    assert (study.ed_index, study.es_index, study.phases_from) == (0, default_es_index(6), "assumed")
    for frame in range(6):
        save(tmp_path / f"p_{frame}.nii.gz", phantom(1).image[frame], phantom(1).affine)
    layout = layout_of(image="{subject}_{frame}.nii.gz", label=None, labels={}, phases=None)
    assert read_nifti(tmp_path, layout).read("p").phases_from == "assumed"
    (tmp_path / "p_3.nii.gz").unlink()
    with pytest.raises(DataError, match="5 files have the frame numbers 0, 1, 2, 4, 5") as caught:
        read_nifti(tmp_path, layout).read("p")
    assert caught.value.hint


def test_volumes_of_the_table_are_reported(folder: Path) -> None:
    write_table(folder, "id,edv,esv\ncase1,150.5,61\ncase2,140,\n")
    columns = {"file": "subjects.csv", "subject": "id", "lv_edv_ml": "edv", "lv_esv_ml": "esv"}
    source = read_nifti(folder, layout_of(table=columns))
    reported = [(study.reported_lv_edv_ml, study.reported_lv_esv_ml) for study in source]
    assert reported == [(150.5, 61.0), (140.0, None)]
    with pytest.raises(DataError, match="no column 'volume'"):
        read_nifti(folder, layout_of(table=columns | {"lv_esv_ml": "volume"})).read("case1")


def test_images_without_any_label(folder: Path) -> None:
    found = read_nifti(folder, layout_of(label=None, labels={})).read("case1")
    assert not found.coverage.any()
    assert not found.label.any()
    assert found.slices_from == "declared"


# --- what numbers mean ---------------------------------------------------------------------------------------------


def test_numbers_are_translated_and_strange_ones_refused(folder: Path) -> None:
    table = np.array([0, 500, 7, 1], dtype=np.uint16)  # RV 500, MYO 7, LV 1 with papillary muscles 2, atrium 9
    masks = table[phantom(1).label]
    masks[:, 40, 40], masks[:, 0, 0] = 2, 9
    save(folder / "case1" / "masks.nii.gz", masks, phantom(1).affine)
    labels = {"RV": 500, "MYO": 7, "LV": [1, 2], "background": 9}
    expected = phantom(1).label.copy()
    expected[:, 40, 40] = Label.LV
    found = read_nifti(folder, layout_of(labels=labels)).read("case1")
    assert np.array_equal(found.label, expected)
    with pytest.raises(DataError, match=r"masks\.nii\.gz holds the labels 0, 1, 2, 7, 9, 500") as caught:
        read_nifti(folder, layout_of(labels={"RV": 500, "MYO": 7, "LV": [1, 2]})).read("case1")
    assert caught.value.hint.startswith(
        "allowed are 0 background, 1 LV cavity, 2 LV cavity, 7 LV myocardium, 500 RV cavity;"
    )


def test_numbers_that_rounding_moved(folder: Path) -> None:
    path = folder / "case1" / "masks.nii.gz"
    save(path, phantom(1).label.astype(np.float32) * np.float32(1.00001), phantom(1).affine)
    assert np.array_equal(read_nifti(folder, layout_of()).read("case1").label, phantom(1).label)
    save(path, phantom(1).label.astype(np.float32) * np.float32(0.9), phantom(1).affine)
    with pytest.raises(DataError, match=r"holds the labels 0, 0\.9"):
        read_nifti(folder, layout_of()).read("case1")


def test_partial_labels_are_covered_as_declared(folder: Path) -> None:
    """The LV at ED and ES, the myocardium at ED, the RV never: Sunnybrook."""
    label = only_frames(phantom(1).label, 0, 2)
    label[label == Label.RV] = 0
    label[2][label[2] == Label.MYO] = 0
    save(folder / "case1" / "masks.nii.gz", label, phantom(1).affine)
    covers = {"MYO": ["ed"], "LV": ["ed", "es"]}
    found = read_nifti(folder, layout_of(labels={"MYO": 2, "LV": 3}, covers=covers)).read("case1")
    covered = {s: np.flatnonzero(found.coverage[..., i].all(axis=1)).tolist() for i, s in enumerate(STRUCTURES)}
    assert covered == {Label.RV: [], Label.MYO: [0], Label.LV: [0, 2]}
    assert found.coverage.sum() == 3 * found.image.shape[3]
    with pytest.raises(DataError, match=r"frame 0 \(counted from 0\) has MYO, which was not annotated"):
        read_nifti(folder, layout_of(labels={"MYO": 2, "LV": 3}, covers=covers | {"MYO": ["es"]})).read("case1")


def test_empty_slices_are_background_or_unknown(folder: Path) -> None:
    label = phantom(1).label.copy()
    label[..., 0] = 0
    save(folder / "case1" / "masks.nii.gz", label, phantom(1).affine)
    assert read_nifti(folder, layout_of()).read("case1").coverage.all()
    found = read_nifti(folder, layout_of(empty_slices="unknown")).read("case1")
    assert np.array_equal(found.coverage.any(axis=2), label.any(axis=(1, 2)))
    assert not found.coverage[:, 0].any()


# --- tables, spacing, order ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("id,scanner,dx,ed,es\ncase1,SIEMENS AG,HYP,0,2\ncase2,GE MEDICAL SYSTEMS,LVNC,5,2\n,,,,\n,,,,\n", "utf-8-sig"),
        ("id;scanner;dx;ed;es\r\ncase1;Siemens;hyp;0;2.0\r\n\r\ncase2;GE;LVNC;5.0;2\r\n", "cp1252"),
    ],
)
def test_the_table_says_who_and_when(folder: Path, text: str, encoding: str) -> None:
    write_table(folder, text, encoding=encoding)
    columns = {"file": "subjects.csv", "subject": "id", "vendor": "scanner", "group": "dx"}
    layout = layout_of(table=columns, phases={"ed": "ed", "es": "es"}, diagnoses={"lvnc": "DCM"})
    first, second = read_nifti(folder, layout)
    assert (first.vendor, first.group.upper(), first.diagnosis) == ("Siemens", "HYP", Diagnosis.HCM)
    assert (second.vendor, second.group, second.diagnosis) == ("GE", "LVNC", Diagnosis.DCM)
    assert (second.ed_index, second.es_index) == (5, 2)
    unmapped = read_nifti(folder, layout_of(table=columns)).read("case2")
    assert (unmapped.group, unmapped.diagnosis) == ("LVNC", Diagnosis.UNKNOWN)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("name,es\ncase1,2\n", "has no column 'id'"),
        ("id,es\ncase2,2\n", "has no row for case1"),
        ("id,es\ncase1,2\ncase1,3\n", "has two rows for case1"),
        ("id,end\ncase1,2\n", "has no column 'es'"),
        ("id,es\ncase1,two\n", "es of case1 is 'two', expected a number"),
        ("id,es\ncase1,2.5\n", "es of case1 is '2.5', expected a frame number"),
        ("id,es\ncase1\n", "es of case1 is '', expected a number"),
        ("id,es\ncase1,6\n", "ES 6 are not two of its frames"),
        ("id,es\ncase1,0\n", "ED 0 and ES 0 are not two"),
        ("", "has no column 'id'"),
        ('id,es\n"case1,2\n', "has no row for case1"),
    ],
)
def test_a_table_that_does_not_say_it(folder: Path, text: str, found: str) -> None:
    write_table(folder, text)
    layout = layout_of(table={"file": "subjects.csv", "subject": "id"}, phases={"ed": 0, "es": "es"})
    with pytest.raises(DataError, match=found.replace("(", r"\(")) as caught:
        read_nifti(folder, layout).read("case1")
    assert caught.value.hint


def test_no_table(folder: Path) -> None:
    with pytest.raises(DataError, match=r"subjects\.csv is missing"):
        read_nifti(folder, layout_of(table={"file": "subjects.csv", "subject": "id"}))


def test_spacing_that_the_header_lost(folder: Path) -> None:
    """Headers of 0.1 x 0.1 x 0.1 mm; the plane is declared, the slice step is a column."""
    for name in ("cine.nii.gz", "masks.nii.gz"):
        change_header(folder / "case1" / name, pixdim=[1, 0.1, 0.1, 0.1, 1, 1, 1, 1])
    with pytest.raises(DataError, match=r"two voxel sizes: pixdim 0\.1 x 0\.1 x 0\.1 mm, sform 3 x 3 x 10 mm"):
        read_nifti(folder, layout_of()).read("case1")
    write_table(folder, "id,step\ncase1,8.8\n")
    layout = layout_of(table={"file": "subjects.csv", "subject": "id"}, spacing_mm=[1.5, 1.25, "step"])
    found = read_nifti(folder, layout).read("case1")
    assert found.spacing_mm == pytest.approx((1.5, 1.25, 8.8))
    write_table(folder, "id,step\ncase1,0\n")
    with pytest.raises(DataError, match=r"voxels of 1\.5 x 1\.25 x 0 mm"):
        read_nifti(folder, layout).read("case1")
    kept = read_nifti(folder, layout_of(spacing_mm=[None, None, 7.0])).read("case2")
    assert kept.spacing_mm == pytest.approx((3.0, 3.0, 7.0))


@pytest.mark.parametrize("real_header", [False, True])
def test_stacks_that_start_at_the_apex_are_turned_and_go_back(folder: Path, real_header: bool) -> None:
    study = phantom(1)
    affine = scanner_affine(study.spacing_mm) if real_header else study.affine
    image, turned = apply(study.image, affine, ((0, 1), (1, 1), (2, -1)))
    save(folder / "case1" / "cine.nii.gz", image, turned)
    save(folder / "case1" / "masks.nii.gz", study.label[..., ::-1], turned)
    found = read_nifti(folder, layout_of()).read("case1")
    assert np.array_equal(found.image, study.image)
    assert np.array_equal(found.label, study.label)
    np.testing.assert_allclose(found.affine, affine, atol=1e-4)
    back, there = apply(found.image, found.affine, found.to_source)
    assert np.array_equal(back, image)
    np.testing.assert_allclose(there, turned, atol=1e-4)
    kept = read_nifti(folder, layout_of(slices="base_first")).read("case1")
    assert (kept.slices_from, kept.to_source[2]) == ("declared", (2, 1))


# --- faults --------------------------------------------------------------------------------------------------------


def rewrite(name: str, change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray | None = None) -> Break:
    def write(folder: Path) -> None:
        image = nib.load(folder / name)
        data = np.moveaxis(np.asanyarray(image.dataobj), -1, 0)
        save(folder / name, change(data), image.affine if affine is None else affine)

    return write


def truncate(folder: Path) -> None:
    data = (folder / "cine.nii.gz").read_bytes()
    (folder / "cine.nii.gz").write_bytes(data[: len(data) // 2])


def one_nan(image: np.ndarray) -> np.ndarray:
    result = image.astype(np.float32)
    result[0, 0, 0, 0] = np.nan
    return result


HUGE = {"dim": [4, 30000, 30000, 100, 100, 1, 1, 1]}
BROKEN: dict[str, tuple[Break, str]] = {
    "no image": (lambda f: (f / "cine.nii.gz").rename(f / "x.nii.gz"), r"case1/cine\.nii\.gz is missing"),
    "no label": (lambda f: (f / "masks.nii.gz").unlink(), r"case1/masks\.nii\.gz is missing"),
    "truncated": (truncate, r"cine\.nii\.gz cannot be read"),
    "not gzip": (lambda f: (f / "cine.nii.gz").write_bytes(b"PK\x03\x04 no"), "cannot be read"),
    "gzip of text": (lambda f: (f / "cine.nii.gz").write_bytes(gzip.compress(b"hello" * 200)), "cannot be read"),
    "empty file": (lambda f: (f / "cine.nii.gz").write_bytes(b""), "cannot be read"),
    "a folder": (
        lambda f: [(f / "masks.nii.gz").unlink(), (f / "masks.nii.gz").mkdir()],
        r"masks\.nii\.gz does not exist",
    ),
    "NaN": (rewrite("cine.nii.gz", one_nan), "not finite"),
    "3D where 4D is meant": (rewrite("cine.nii.gz", lambda x: x[0]), r"has 3 dimensions \(80, 80"),
    "label without time": (rewrite("masks.nii.gz", lambda x: x[0]), r"masks\.nii\.gz has 3 dimensions"),
    "label of another shape": (rewrite("masks.nii.gz", lambda x: x[:, :-1]), r"masks.*\(79, 80, .*cine\.nii\.gz"),
    "label of fewer frames": (rewrite("masks.nii.gz", lambda x: x[:5]), r"masks.*, 5\) voxels, its image"),
    "label of another spacing": (rewrite("masks.nii.gz", lambda x: x, np.diag([2.0, 2, 10, 1])), "masks.* mm, its"),
    "label 7": (rewrite("masks.nii.gz", lambda x: np.where(x == 3, 7, x)), "holds the labels 0, 1, 2, 7"),
    "one frame": (rewrite("cine.nii.gz", lambda x: x[:1]), r"ED 0 and ES 2 are not two of its frames \(0 to 0"),
    "zero spacing": (
        lambda f: change_header(f / "cine.nii.gz", pixdim=[1, 0, 0, 0, 1, 1, 1, 1]),
        "voxels of 0 x 0 x 0 mm",
    ),
    "a header that lies": (lambda f: change_header(f / "cine.nii.gz", **HUGE), "its header declares .* MiB"),
    "a negative size": (lambda f: change_header(f / "cine.nii.gz", dim=[4, -80, 80, 9, 6, 1, 1, 1]), "cine"),
    "a flat affine": (lambda f: change_header(f / "cine.nii.gz", srow_z=[0, 0, 0, 0]), "degenerate affine"),
    "complex numbers": (rewrite("cine.nii.gz", lambda x: x.astype(np.complex64)), "complex numbers"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_subject_names_the_file_and_says_what_to_do(folder: Path, case: str) -> None:
    harm, found = BROKEN[case]
    (folder / "case1").rename(folder / "case0")
    write_cycle(folder / "case1", phantom(1))
    source = read_nifti(folder, layout_of())
    harm(folder / "case1")
    with pytest.raises(DataError, match=found) as caught:
        source.read("case1")
    assert caught.value.hint
    assert "case1" in caught.value.message
    assert source.read("case2").subject == "case2"


@pytest.mark.parametrize("zeros", [(0, 1, 2, 3, 4, 5), (1, 2, 3, 4, 5)])
def test_too_few_labels_to_tell_the_phases(folder: Path, zeros: tuple[int, ...]) -> None:
    label = phantom(1).label.copy()
    label[list(zeros)] = 0
    save(folder / "case1" / "masks.nii.gz", label, phantom(1).affine)
    with pytest.raises(DataError, match="labelled frames do not determine ED and ES") as caught:
        read_nifti(folder, layout_of(phases="labels")).read("case1")
    assert "assumed" in caught.value.hint
    study = read_nifti(folder, layout_of(phases=None)).read("case1")
    assert (study.ed_index, study.es_index, study.phases_from) == (0, default_es_index(6), "assumed")
    assert study.labelled.sum() == 6 - len(zeros)


def test_frames_that_do_not_fit_together(tmp_path: Path) -> None:
    study = phantom()
    for frame in range(3):
        save(tmp_path / f"p_f{frame}.nii.gz", study.image[frame], study.affine)
        save(tmp_path / f"p_l{frame}.nii.gz", study.label[frame], study.affine)
    layout = layout_of(image="{subject}_f{frame}.nii.gz", label="{subject}_l{frame}.nii.gz")
    assert read_nifti(tmp_path, layout).read("p").frames_in_cycle == 3
    save(tmp_path / "p_l7.nii.gz", study.label[0], study.affine)
    with pytest.raises(DataError, match=r"p_l7\.nii\.gz labels frame 7, which has no image"):
        read_nifti(tmp_path, layout).read("p")
    save(tmp_path / "p_l7.nii.gz", 0 * study.label[0], study.affine)
    (tmp_path / "p_l7.nii.gz").rename(tmp_path / "p_l2.nii.gz")
    with pytest.raises(DataError, match=r"p_l2\.nii\.gz contains nothing but 0"):
        read_nifti(tmp_path, layout).read("p")
    save(tmp_path / "p_f02.nii.gz", study.image[2], study.affine)
    with pytest.raises(DataError, match="are both frame 2"):
        read_nifti(tmp_path, layout).read("p")
    (tmp_path / "p_f02.nii.gz").unlink()
    save(tmp_path / "p_f2.nii.gz", study.image[2][:, 1:], study.affine)
    with pytest.raises(DataError, match=r"p_f2\.nii\.gz has \(80, 79"):
        read_nifti(tmp_path, layout).read("p")


def test_hidden_files_are_no_subjects_and_two_candidates_are_one_too_many(folder: Path) -> None:
    save(folder / "._case3" / "cine.nii.gz", phantom().image, phantom().affine)
    (folder / "case1" / "._x_cine.nii.gz").write_bytes(b"resource fork")
    layout = layout_of(image="{subject}/*cine.nii.gz")
    source = read_nifti(folder, layout)
    assert source.names == ("case1", "case2")
    assert source.read("case1").subject == "case1"
    save(folder / "case1" / "old_cine.nii.gz", phantom().image, phantom().affine)
    with pytest.raises(DataError, match=r"case1: 2 files fit '\{subject\}/\*cine"):
        source.read("case1")


def test_an_empty_folder(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match=r"fits '\{subject\}/cine\.nii\.gz'"):
            read_nifti(root, layout_of())


def test_a_trailing_axis_of_one_is_no_time(tmp_path: Path) -> None:
    path = save(tmp_path / "ed.nii.gz", phantom().image[:1], phantom().affine)
    assert nib.load(path).ndim == 4
    assert read_volume(path, 3).data.shape == phantom().image.shape[1:]
    label = save(tmp_path / "gt.nii.gz", phantom().label[:1], phantom().affine)
    assert np.array_equal(read_label(label, read_volume(path, 3)), phantom().label[0])


def test_damaged_bytes_never_end_in_a_traceback(tmp_path: Path) -> None:
    path = save(tmp_path / "small.nii.gz", phantom().image[:2, :6, :5, :4], phantom().affine)
    raw, rng = gzip.decompress(path.read_bytes()), np.random.default_rng(0)
    outcomes: Counter[str] = Counter()
    for _ in range(300):
        bytes_ = bytearray(raw[: rng.integers(1, len(raw))] if rng.random() < 0.2 else raw)
        for place in rng.integers(0, min(352, len(bytes_)), rng.integers(1, 9)):
            bytes_[place] = rng.integers(256)
        path.write_bytes(gzip.compress(bytes(bytes_), 1))
        outcomes[outcome(path)] += 1
    assert set(outcomes) == {"read", "refused"}


def outcome(path: Path) -> str:
    try:
        read_volume(path, 4)
    except DataError as error:
        return "refused" if str(path) in error.message and error.hint else "nameless"
    return "read"


# --- the YAML ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", layouts())
def test_layouts_that_ship_say_what_they_are(name: str) -> None:
    layout = load_layout(name)
    assert layout.file
    assert layout.file.read_text().startswith(f"# {name}: ")
    assert layout.note


def test_a_layout_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text("dataset: ours\nimage: '{subject}.nii.gz'\nphases: {ed: 0, es: 9}\nvendor: Canon Medical\n")
    assert load_layout(path).vendor == "Canon Medical"
    assert load_layout(str(path)).numbers == {}


def test_a_source_names_all_that_decides(folder: Path, tmp_path: Path) -> None:
    """So that an ingestion knows what has changed, the layout too; and it can be sent to other processes."""
    import yaml

    path = tmp_path / "ours.yaml"
    path.write_text(yaml.safe_dump(CYCLE | {"table": {"file": "subjects.csv", "subject": "id"}}))
    write_table(folder, "id\ncase1\ncase2\n")
    source = pickle.loads(pickle.dumps(read_nifti(folder, load_layout(path))))
    case = folder / "case1"
    assert source.files("case1") == [path, folder / "subjects.csv", case / "cine.nii.gz", case / "masks.nii.gz"]
    assert source.read("case1").subject == "case1"
    assert read_nifti(folder, layout_of()).files is None


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"colour": "red"}, "colour: Extra inputs"),
        ({"dataset": "../up"}, "dataset: String should match"),
        ({"image": "cine.nii.gz"}, "has no {subject}"),
        ({"image": "{subject}/../../x.nii.gz"}, "below the folder"),
        ({"image": "/{subject}.nii.gz"}, "below the folder"),
        ({"image": "**/{subject}.nii.gz"}, "below the folder"),
        ({"image": "{subject}/{phase}.nii.gz"}, "'{phase' is neither"),
        ({"label": None}, "must be given together"),
        ({"labels": {}}, "must be given together"),
        ({"labels": {"background": 4}}, "must be given together"),
        ({"labels": {"LV": 1, "RV": 1}}, "a number has two meanings"),
        ({"labels": {"LA": 1}}, "labels.LA"),
        ({"labels": {"LV": 0}}, "greater than or equal to 1"),
        ({"labels": {"LV": 1}, "covers": {"RV": ["ed"]}}, "covers names RV"),
        ({"covers": {"LV": ["es", "systole"]}}, "'ed', 'es' or 'all'"),
        ({"image": {"ed": "{subject}_a.nii", "es": "{subject}_b.nii"}}, "give ed and es, as image does"),
        ({"image": "{subject}_{frame}.nii"}, "image contains {frame}, label does not"),
        ({"label": {"ed": "{subject}_{frame}.nii", "es": "{subject}_b.nii"}}, "are one file each"),
        ({"phases": None, "label": {"ed": "{subject}_a.nii", "es": "{subject}_b.nii"}}, "give ed and es, the frames"),
        ({"phases": "labels", "label": None, "labels": {}}, "labels need a label file"),
        ({"phases": {"ed": "ED", "es": "ES"}}, "ED, ES: column names need a table"),
        ({"phases": {"ed": -1, "es": 3}}, "greater than or equal to 0"),
        ({"spacing_mm": [1.0, 1.0, "step"]}, "step: column names need a table"),
        ({"spacing_mm": [1.0, 0.0, 8.0]}, "greater than 0"),
        ({"slices": "upwards"}, "'auto', 'base_first' or 'apex_first'"),
        ({"diagnoses": {"LVNC": "OTHER"}}, "diagnoses.LVNC"),
    ],
)
def test_a_layout_that_contradicts_itself(tmp_path: Path, change: dict[str, Any], found: str) -> None:
    import yaml

    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(CYCLE | change))
    with pytest.raises(ConfigError) as caught:
        load_layout(path)
    assert found in caught.value.message
    assert "wrong.yaml: " in caught.value.message
    assert caught.value.hint


def test_layouts_that_are_not_there(tmp_path: Path) -> None:
    for name, found in (("unheard_of", "unknown layout 'unheard_of'"), (tmp_path / "a.yaml", "no layout file")):
        with pytest.raises(ConfigError, match=found) as caught:
            load_layout(name)
        assert "najman4d" in caught.value.hint
    for text, found in (("a: [", "is not YAML"), ("- 1", "contains no settings")):
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(ConfigError, match=found):
            load_layout(tmp_path / "a.yaml")


# --- the three real sets -------------------------------------------------------------------------------------------


def lv_ml(study: Study) -> tuple[float, float]:
    volumes = volumes_ml(study.label, Label.LV, study.voxel_ml)
    ed, es = (float(volumes[study.frame_index == index][0]) for index in (study.ed_index, study.es_index))
    return ed, es


def native_ml(path: Path, number: int, frame: int = 0) -> float:
    """Volume of a number of a label file, without the package."""
    image: Any = nib.load(path)
    data = np.asanyarray(image.dataobj)
    data = data[..., frame] if data.ndim == 4 else data
    return float((data == number).sum() * np.prod(image.header.get_zooms()[:3]) / 1000.0)


def test_all_of_mnms_edes(cine_data: Path) -> None:
    root = cine_data / "mnms_edes"
    studies, rows = list(read_nifti(root, load_layout("mnms_edes"))), table(root)
    assert [s.subject for s in studies] == sorted(rows)
    assert Counter(s.vendor for s in studies) == Counter(row["vendor_name"] for row in rows.values())
    assert Counter(s.group for s in studies) == Counter(row["pathology"] for row in rows.values())
    assert {s.group for s in studies if s.diagnosis is Diagnosis.RV} == {"ARV"}
    orders = Counter((s.slices_from, s.to_source[2][1]) for s in studies)
    assert orders == {("labels", -1): len(rows) - 10, ("labels", 1): 10}  # most run apex first
    for study in studies:
        code = study.subject[2:]
        for volume, phase in zip(lv_ml(study), ("ED", "ES"), strict=True):
            path = root / study.subject / f"{code}_sa_{phase}_gt.nii.gz"
            assert volume == pytest.approx(native_ml(path, 1), rel=1e-5)
        assert study.coverage.all()
        assert study.spacing_mm[2] == pytest.approx(float(rows[study.subject]["slice_step_mm"]))
        areas = (study.label[0] > 0).sum(axis=(0, 1))
        areas = areas[areas > 0]
        assert areas[: len(areas) // 2].sum() > areas[-(len(areas) // 2) :].sum()


def test_all_of_scd_edes(cine_data: Path) -> None:
    root = cine_data / "scd_edes"
    studies, rows = list(read_nifti(root, load_layout("scd_edes"))), table(root)
    assert [s.subject for s in studies] == sorted(rows)
    groups = {"HF-I": Diagnosis.MINF, "HF-NI": Diagnosis.DCM, "HYP": Diagnosis.HCM, "N": Diagnosis.NOR}
    for study in studies:
        row = rows[study.subject]
        assert (study.group, study.diagnosis) == (row["group"], groups[row["group"]])
        edv, esv = lv_ml(study)
        assert esv == pytest.approx(float(row["lv_esv_ml_assumed_spacing"]), abs=0.06)
        assert edv <= float(row["lv_edv_ml_assumed_spacing"]) + 0.06  # the table counts slices without ES, too
        path = root / study.subject / f"{study.subject}_sax_ed_gt.nii.gz"
        assert edv == pytest.approx(native_ml(path, 3), rel=1e-5)
        assert study.coverage.all(axis=1).tolist() == [[False, True, True], [False, False, True]]


@pytest.mark.parametrize("expert", [None, "expert1", "expert2"])
def test_all_of_najman4d(cine_data: Path, expert: str | None) -> None:
    root, layout = cine_data / "najman4d", load_layout("najman4d")
    if expert:
        files = {phase: f"{{subject}}/{expert}_{phase.upper()}.nii.gz" for phase in ("ed", "es")}
        layout = Layout.model_validate(layout.model_dump() | {"label": files})
    studies, rows = list(read_nifti(root, layout)), table(root)
    assert [s.subject for s in studies] == sorted(rows)
    for study in studies:
        row = rows[study.subject]
        assert (study.frames_in_cycle, study.image.shape[3]) == (int(row["frames"]), int(row["slices"]))
        assert (study.ed_index, study.es_index) == (0, int(row["es_index"]))
        assert study.labelled.sum() == (2 if expert else study.frames_in_cycle)
        assert not study.coverage[..., STRUCTURES.index(Label.RV)].any()
        assert (study.slices_from, study.frame_time_ms) == ("labels", None)
        for volume, phase in zip(lv_ml(study), ("ED", "ES"), strict=True):
            name = f"{expert}_{phase}" if expert else "auto_seg_4d"
            frame = study.ed_index if phase == "ED" else study.es_index
            assert volume == pytest.approx(native_ml(root / study.subject / f"{name}.nii.gz", 1, frame), rel=1e-5)
    if not expert:
        told = read_nifti(root, replace_phases(layout))
        away = [abs(told.read(s.subject).es_index - s.es_index) for s in studies]
        assert max(away) <= 1
        assert {told.read(s.subject).phases_from for s in studies[:1]} == {"labels"}


def replace_phases(layout: Layout) -> Layout:
    """The same, with ED and ES told by the labels."""
    return Layout.model_validate(layout.model_dump() | {"phases": "labels"})
