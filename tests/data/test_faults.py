"""What goes wrong with downloads, copies and disks: always an error that says what and why, and no other harm."""

import errno
import gzip
import os
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from cinesynth.cli import main
from cinesynth.data.dicom import FileLocation, read_headers
from cinesynth.data.ingest import ingest, read_skipped
from cinesynth.data.nifti import read_volume
from cinesynth.data.sources.acdc import read_acdc
from cinesynth.data.sources.cinema import read_cinema
from cinesynth.data.sources.dicom import read_dicom
from cinesynth.errors import CinesynthError, ConfigError, DataError, OutputError
from cinesynth.io.tables import read_table
from cinesynth.types import Study
from tests.data.conftest import build_study
from tests.data.dicom_files import Change, base_header, classic, corner, encode, save, tiny_heart, write_stack
from tests.data.nifti_files import change_header
from tests.data.small_sources import SOURCES
from tests.limits import files_below, work_within

Harm = Callable[[Path], object]
MIB = 1 << 20
SECONDS = 120
"""Far more than anything here takes: only what never ends is stopped."""
TINY = build_study("first", size=(16, 16, 4), spacing=(5.0, 5.0, 10.0), frames=2)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A dataset with one study."""
    ingest([TINY], tmp_path / "dataset")
    return tmp_path / "dataset"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "Prüfung der Daten (für Ångström)"


# --- the list ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """What is done to which source, and what is said about it."""

    source: str
    harm: Harm
    message: str
    hint: str
    kind: type[CinesynthError] = DataError


def edit(name: str, change: Callable[[bytes], bytes]) -> Harm:
    def harm(root: Path) -> None:
        (root / name).write_bytes(change((root / name).read_bytes()))

    return harm


def instead(name: str, make: Harm) -> Harm:
    """Something else where a file is meant."""

    def harm(root: Path) -> None:
        (root / name).unlink()
        make(root / name)

    return harm


def header(name: str, **fields: object) -> Harm:
    return lambda root: change_header(root / name, **fields)


def voxels(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Harm:
    def harm(root: Path) -> None:
        image = nib.load(root / name)
        nib.save(nib.Nifti1Image(change(np.asanyarray(image.dataobj)), image.affine), root / name)

    return harm


def nan(data: np.ndarray) -> np.ndarray:
    return np.where(np.arange(data.size).reshape(data.shape) == 5, np.nan, data).astype(np.float32)


def flip_bit(content: bytes) -> bytes:
    """In the last quarter: stored blocks inflate to other bytes, of the same number."""
    return (
        gzip.compress(gzip.decompress(content), 0)[:-100] + b"\x55" + gzip.compress(gzip.decompress(content), 0)[-99:]
    )


def bomb(content: bytes) -> bytes:
    """A file that goes on with a gibibyte of zeros."""
    return content + gzip.compress(bytes(MIB)) * 1024


def remark_bomb(content: bytes) -> bytes:
    """A header extension of two gibibytes before the voxels."""
    raw = bytearray(gzip.decompress(content))
    raw[108:112] = struct.pack("<f", 2.0**31)
    raw[348:360] = struct.pack("<iii", 1, 2**31 - 16, 6)
    return gzip.compress(bytes(raw)) + gzip.compress(bytes(MIB)) * 2048


def dicom_stack(**tags: object) -> Harm:
    """The examination again, with other elements in each file."""

    def change(dataset: object, z: int, t: int) -> None:
        for name, value in tags.items():
            setattr(dataset, name, value)

    return lambda root: write_stack(root, change, slices=4, frames=8)


def endless_element(root: Path) -> None:
    """In place of the rows of each image: unknown bytes up to the end of memory."""
    for path in root.iterdir():
        path.write_bytes(path.read_bytes().replace(b"(\0\x10\0US\2\0", b"(\0\x10\0UN\0\0\xf0\xff\xff\xff"))


def archive(name: str = "exam/one.dcm", **lies: object) -> Harm:
    """A zip of one image, packed, whose directory may lie about it."""

    def harm(root: Path) -> None:
        content = encode(classic(tiny_heart()[0, 0], corner(0), 5.0, 1))
        with zipfile.ZipFile(root / "exam.zip", "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr(name, content)
            for field, value in lies.items():
                setattr(file.filelist[0], field, value)

    return harm


def lying_member(root: Path) -> None:
    """Says that it holds 100 bytes, and inflates to 220 MiB."""
    with zipfile.ZipFile(root / "exam.zip", "w", zipfile.ZIP_DEFLATED) as file:
        with file.open("one.dcm", "w", force_zip64=False) as member:
            for _ in range(220):
                member.write(bytes(MIB))
        file.filelist[0].file_size = 100


def deflated(root: Path) -> None:
    """A transfer syntax that packs whole files: a gibibyte and more of zeros."""
    dataset = base_header("1.2.3.4")
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.Rows = dataset.Columns = 1
    dataset.PixelData = bytes(2)
    packed = encode(dataset)
    for path in root.iterdir():
        path.unlink()
    (root / "IM.dcm").write_bytes(packed + bytes(2 * MIB))


P1 = "training/patient001/"
CINE, ES_GT, INFO = f"{P1}patient001_4d.nii.gz", f"{P1}patient001_frame02_gt.nii.gz", f"{P1}Info.cfg"
MNMS = "Training/Labeled/A0S9V9/A0S9V9_sa"
MNMS_TABLE = "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv"
CONTOUR = "SCD_ManualContours/SC-HYP-01/contours-manual/IRCCI-expert/IM-0001-0003-icontour-manual.txt"
AGAIN, SAME_COPY = "copy it again", "same copy of the dataset"
FAULTS: dict[str, Fault] = {
    # damaged on the way
    "half a gzip file": Fault("acdc", edit(CINE, lambda b: b[: len(b) // 2]), "4d.nii.gz cannot be read", AGAIN),
    "gzip without its checksum": Fault("acdc", edit(CINE, lambda b: b[:-5]), "4d.nii.gz cannot be read", AGAIN),
    "a changed bit in gzip": Fault("acdc", edit(CINE, flip_bit), "4d.nii.gz cannot be read: CRC check failed", AGAIN),
    "an empty file": Fault("mnms", edit(f"{MNMS}.nii.gz", lambda b: b""), "A0S9V9_sa.nii.gz cannot be read", AGAIN),
    "a DICOM file without its end": Fault("dicom", edit("IM0000.dcm", lambda b: b[:-200]), "cannot be read", AGAIN),
    "half a patient": Fault(
        "acdc", lambda r: (r / ES_GT).unlink(), "frame02_gt.nii.gz does not exist", "copy the dataset again"
    ),
    "half an archive": Fault("dicom zip", edit("exam.zip", lambda b: b[:3000]), "a damaged archive", "DICOM files"),
    # values
    "label of another shape": Fault(
        "mnms", voxels(f"{MNMS}_gt.nii.gz", lambda x: x[1:]), r"\(15, 16, 4, 3\)", SAME_COPY
    ),
    "label 7": Fault(
        "acdc", voxels(ES_GT, lambda x: np.where(x == 3, 7, x)), "holds the labels .*7", "0 background, 1 RV"
    ),
    "NaN": Fault("nifti cycles", voxels("anna/cine.nii.gz", nan), "not finite numbers", AGAIN),
    "zero pixdim": Fault(
        "acdc", header(CINE, pixdim=[1, 0, 0, 0, 1, 1, 1, 1]), "voxels of 0 x 0 x 0 mm", "correct pixdim"
    ),
    "zero affine": Fault("mnms", header(f"{MNMS}.nii.gz", srow_x=0, srow_y=0), "degenerate affine", "sform or qform"),
    "zero pixel spacing": Fault(
        "dicom", dicom_stack(PixelSpacing=[0, 0]), "32 more: pixels of|31 more: pixels of", "DICOM"
    ),
    "3D where 4D is meant": Fault(
        "mnms", voxels(f"{MNMS}.nii.gz", lambda x: x[..., 0]), "has 3 dimensions", "it holds one frame"
    ),
    # text
    "Info.cfg of random bytes": Fault("acdc", edit(INFO, lambda b: bytes(range(256))), "missing or not text", AGAIN),
    "Info.cfg of other words": Fault(
        "acdc", edit(INFO, lambda b: b"[ED]\n1 = frame"), "ED is missing", "copy the file again"
    ),
    "a digit that is no number": Fault(
        "acdc", edit(INFO, lambda b: b.replace(b"1", "²".encode())), "ED is '²'", "again"
    ),
    "more digits than a number": Fault(
        "acdc", edit(INFO.replace("1", "2"), lambda b: b.replace(b"3", b"3" * 5000)), "NbFrame is '333", "again"
    ),
    "a table without a column": Fault(
        "mnms", edit(MNMS_TABLE, lambda b: b.replace(b"ED", b"EDV")), "no column 'ED'", "its columns are"
    ),
    "a table without subjects": Fault(
        "mnms2", edit("dataset_information.csv", lambda b: b[12:]), "no column 'SUBJECT_CODE'", "its columns are"
    ),
    "a table that is not text": Fault(
        "mnms", edit(MNMS_TABLE, lambda b: b + b"\x81\xff"), "neither UTF-8 nor Windows-1252", "as CSV"
    ),
    "two rows for one subject": Fault(
        "mnms",
        edit(MNMS_TABLE, lambda b: b + b"9,A0S9V9,GE,C,1,0,2,1,NOR\n"),
        "two rows for A0S9V9",
        "keep the correct one",
    ),
    "a zero byte in a table": Fault(
        "mnms",
        edit(MNMS_TABLE, lambda b: b.replace(b"Siemens", b"Sie\0mens")),
        "A0S9V9: a name or note contains characters|NUL",
        "",
    ),
    "a layout nested without end": Fault(
        "nifti pairs", edit("layout.yaml", lambda b: b"[" * 1000), "YAML", "", ConfigError
    ),
    "a layout with a 13th month": Fault(
        "nifti pairs", edit("layout.yaml", lambda b: b"note: 2001-13-45\n" + b), "is not YAML: month", "", ConfigError
    ),
    "a frame beyond all numbers": Fault(
        "nifti pairs",
        edit("layout.yaml", lambda b: b.replace(b"es: 9", b"es: " + b"9" * 25)),
        "phases",
        "",
        ConfigError,
    ),
    # no files
    "a link in a circle": Fault(
        "acdc", instead(CINE, lambda p: p.symlink_to(p)), "4d.nii.gz does not exist", "copy the dataset again"
    ),
    "a file for a folder": Fault(
        "scd",
        lambda r: [(r / "SCD_IMAGES_01").rename(r / "x"), (r / "SCD0000101").write_text("")],
        "no Sunnybrook",
        "unpack",
    ),
    # lies about sizes
    "a NIfTI header of 2 GB": Fault(
        "acdc", header(CINE, dim=[4, 1024, 1024, 10, 100, 1, 1, 1]), "declares 2000 MiB", AGAIN
    ),
    "a NIfTI header beyond its file": Fault(
        "acdc", header(CINE, dim=[4, 16, 16, 4, 99, 1, 1, 1]), "bytes of 20", AGAIN
    ),
    "a gzip bomb": Fault("acdc", edit(CINE, bomb), "it holds more than", AGAIN),
    "a gzip bomb before the voxels": Fault(
        "acdc", edit(CINE, remark_bomb), "declares 2048 MiB before the voxels", AGAIN
    ),
    "DICOM headers of 16 GB": Fault(
        "dicom", dicom_stack(Rows=2048, Columns=2048, NumberOfFrames=60), "cannot be read", AGAIN
    ),
    "a DICOM element of 4 GB": Fault("dicom", endless_element, "31 more: cannot be read", "DICOM files"),
    "a deflated DICOM file": Fault("dicom", deflated, "deflated, and too large", "DICOM files"),
    "a zip member that lies": Fault("dicom zip", lying_member, "no MR images", "DICOM files"),
    "a zip bomb": Fault("dicom zip", archive(file_size=900 * MIB), "declared size exceeds", "DICOM files"),
    # hostile archives
    "a zip that climbs out": Fault("dicom zip", archive("../../up.dcm"), "a path that leads outside it", "DICOM files"),
    "a zip with a root": Fault("dicom zip", archive("/tmp/up.dcm"), "a path that leads outside it", "DICOM files"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_told_and_harms_nothing(root: Path, out: Path, case: str) -> None:
    """Neither the dataset that is there, nor anything beside it; within seconds and little memory."""
    fault = FAULTS[case]
    write, read = SOURCES[fault.source]
    write(root)
    fault.harm(root)
    before = contents(out), sorted(out.parent.rglob("*"))
    with work_within(SECONDS, 200 * MIB), pytest.raises(fault.kind, match=fault.message) as caught:
        ingest(read(root), out, workers=1)
    assert fault.hint in caught.value.hint
    assert caught.value.hint
    assert not any(word in str(caught.value) for word in ("MemoryError", "allocate", "into memory"))
    assert (contents(out), sorted(out.parent.rglob("*"))) == before


def nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("what", [os.mkfifo, Path.mkdir, nowhere, lambda path: path.symlink_to("/dev/zero")])
@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("acdc", INFO),
        ("acdc", CINE),
        ("acdc", ES_GT),
        ("mnms", MNMS_TABLE),
        ("mnms", f"{MNMS}.nii.gz"),
        ("mnms", f"{MNMS}_gt.nii.gz"),
        ("mnms2", "dataset/001/001_SA_CINE.nii.gz"),
        ("cinema", "train_metadata.csv"),
        ("cinema", "train/p1/p1_sax_t.nii.gz"),
        ("cinema", "train/p1/p1_sax_ed_gt.nii.gz"),
        ("scd", "scd_patientdata.csv"),
        ("scd", CONTOUR),
        ("nifti cycles", "layout.yaml"),
        ("nifti cycles", "subjects.csv"),
        ("nifti cycles", "anna/masks.nii.gz"),
    ],
)
def test_what_is_no_file_is_named_and_never_waited_for(
    root: Path, out: Path, source: str, name: str, what: Harm
) -> None:
    """A pipe, a folder, a link to nowhere (a file that a data manager did not fetch), and what has no end."""
    write, read = SOURCES[source]
    write(root)
    instead(name, what)(root)
    before = contents(out)
    with work_within(SECONDS, 200 * MIB), pytest.raises((DataError, ConfigError)) as caught:
        ingest(read(root), out, workers=1)
    assert Path(name).name in str(caught.value) or "no CineMA subjects" in caught.value.message
    assert caught.value.hint
    assert contents(out) == before


def test_an_unreadable_folder_is_told(root: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each source, at each folder that it looks into."""
    for name, (write, read) in SOURCES.items():
        write(root / name)
        for folder in sorted(path for path in (root / name).rglob("*") if path.is_dir()):
            with monkeypatch.context() as patch:
                for listing in ("listdir", "scandir"):
                    patch.setattr(os, listing, _denying(folder, getattr(os, listing)))
                with suppress(DataError):
                    ingest(read(root / name), out.with_name(f"{name} {folder.name}"), workers=1, on_error="skip")
    monkeypatch.setattr(os, "listdir", _denying(root / "acdc" / "training", os.listdir))
    with pytest.raises(DataError, match="training cannot be read: Permission denied") as caught:
        read_acdc(root / "acdc")
    assert "that you may read it" in caught.value.hint


def _denying(folder: Path, listing: Callable[..., object]) -> Callable[..., object]:
    def refuse(path: str | Path | int = ".") -> object:
        if not isinstance(path, int) and Path(path) == folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listing(path)

    return refuse


# --- the disk of the dataset ---------------------------------------------------------------------------------------


def other_study() -> Study:
    return build_study("second", frames=6)


def test_a_full_disk_leaves_the_dataset_as_it_was(out: Path) -> None:
    before = contents(out)
    with files_below(20_000), pytest.raises(OutputError, match="could not be written") as caught:
        ingest([other_study()], out, workers=1)
    assert caught.value.hint
    assert contents(out) == before


def test_a_disk_that_became_read_only_leaves_the_dataset_as_it_was(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    before = contents(out)
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OutputError, match="Read-only") as caught:
        ingest([other_study()], out, workers=1)
    assert "read-only" in caught.value.hint
    assert contents(out) == before


def test_an_output_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="file/dataset could not be written: Not a directory") as caught:
        ingest([TINY], tmp_path / "file" / "dataset")
    assert caught.value.hint == "part of the path is a file, not a folder: choose another folder"
    assert contents(tmp_path) == {"file": b"mine"}


# --- nothing is lost -----------------------------------------------------------------------------------------------


def test_two_studies_never_share_a_file(out: Path) -> None:
    """``a b_c`` and ``a_b c`` are both a_b_c.h5: the second once replaced the first."""
    first = replace(TINY, dataset="a", subject="b_c")
    ingest([first], out)
    before = contents(out)
    with pytest.raises(DataError, match=r"a_b c would overwrite studies/a_b_c\.h5, the file of a b_c") as caught:
        ingest([replace(TINY, dataset="a_b", subject="c")], out)
    assert caught.value.hint
    assert contents(out) == before


def test_a_name_too_long_for_a_file_costs_only_its_study(root: Path, out: Path) -> None:
    """It is the study's fault, not the disk's: the others go in."""
    write_stack(root / "a", lambda dataset, z, t: setattr(dataset, "PatientID", "x" * 250))
    write_stack(root / "b")
    summary = ingest(read_dicom(root), out, on_error="skip", workers=1)
    assert [row.subject for row in summary.added] == ["P1"]
    assert "cannot be a file name" in summary.skipped[0].reason


def test_names_that_are_not_utf8(root: Path, out: Path) -> None:
    """Archives from other times: such a file may lie beside a study, be a folder's name, or be set skipped."""
    SOURCES["acdc"][0](root / "acdc")
    (root / "acdc" / P1 / os.fsdecode(b"notes caf\xe9.txt")).write_text("of another program")
    assert len(ingest(read_acdc(root / "acdc"), out, workers=1).added) == 2
    write_stack(root / "dicom")
    (root / "dicom" / os.fsdecode(b"caf\xe9.txt")).write_text("no image")
    ingest(read_dicom(root / "dicom"), out, workers=1)
    (listed,) = read_skipped(out)
    assert listed.name.endswith(r"caf\udce9.txt")


def test_the_command_line_shows_names_that_are_not_utf8(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_stack(root)
    (root / os.fsdecode(b"caf\xe9.txt")).write_text("no image")
    command = ["cinesynth", "ingest", "dicom", str(root), "--out", str(tmp_path / "dataset"), "--workers", "1"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    shown = capsys.readouterr().out
    assert "1 skipped" in shown
    assert r"caf\udce9.txt" in "".join(shown.split())


def test_a_list_of_eachs_can_be_read_again(root: Path, out: Path) -> None:
    """Whatever a header holds in place of its modality."""
    write_stack(root)
    strange = classic(tiny_heart()[0, 0], corner(0), 5.0, 1)
    strange.Modality = "M\0R" * 70_000
    strange["Modality"].VR = "UT"
    save(strange, root / "strange.dcm")
    ingest(read_dicom(root), out, workers=1)
    (listed,) = read_skipped(out)
    assert listed.reason.startswith(r"not MR but M\x00R")
    assert len(listed.reason) < 3000


def test_subjects_with_names_like_patterns(root: Path) -> None:
    SOURCES["cinema"][0](root)
    for number, name in enumerate(("p[1]", "p**")):
        folder = root / "train" / name
        folder.mkdir()
        for path in (root / "train" / "p1").iterdir():
            (folder / path.name.replace("p1", name)).write_bytes(path.read_bytes())
        with (root / "train_metadata.csv").open("a") as table:
            table.write(f"{name},NOR,GE,0,{1 + number}\n")
    source = read_cinema(root)
    assert set(source.names) == {"p1", "p2", "p[1]", "p**"}
    assert source.files is not None
    assert len(source.files("p[1]")) == 6


# --- single readers ------------------------------------------------------------------------------------------------


def test_numbers_of_thousands_of_digits_are_no_subjects(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("Id,ED\n" + "9" * 5000 + ",0\n7,1e300\n")
    table = read_table(tmp_path / "t.csv", "Id")
    with pytest.raises(DataError, match="ED of 7 is '1e300', expected a frame number"):
        table.row("007").index("ED")


def far_away(dataset: object, z: int, t: int) -> None:
    dataset.ImagePositionPatient = [1e300, -1e300, 10.0 * z]  # type: ignore[attr-defined]


def endless_times(dataset: object, z: int, t: int) -> None:
    dataset.TriggerTime = "1e308" if t % 2 else "-1e308"  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("change", [far_away, endless_times])
def test_numbers_that_no_scanner_writes_are_not_computed_with(root: Path, change: Change) -> None:
    write_stack(root, change)
    if change is far_away:
        with pytest.raises(DataError, match="31 more: without a position"):
            read_dicom(root)
    else:
        assert len(read_dicom(root).read("P1").image) == 8


def test_a_deflated_image_of_usual_size_is_read(tmp_path: Path) -> None:
    image = classic(tiny_heart()[0, 0], corner(0), 5.0, 1)
    image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    frames, skipped = read_headers([FileLocation(save(image, tmp_path / "one.dcm"))])
    assert (len(frames), skipped) == (1, [])


def test_a_file_may_carry_remarks_before_and_after_its_voxels(tmp_path: Path) -> None:
    """Extensions of the header, and a few bytes more at the end."""
    image = nib.Nifti1Image(np.ones((16, 16, 4, 3), np.int16), np.diag([2.0, 2.0, 10.0, 1.0]))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"seen " * 1000))
    nib.save(image, tmp_path / "a.nii.gz")
    content = gzip.decompress((tmp_path / "a.nii.gz").read_bytes())
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content + b"\0" * 100))
    assert (read_volume(tmp_path / "a.nii.gz", 4).data == 1).all()


def test_headers_and_voxels_in_two_files(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(np.ones((16, 16, 4), np.int16), np.diag([2.0, 2.0, 10.0, 1.0])), tmp_path / "a.hdr")
    assert (read_volume(tmp_path / "a.hdr", 3).data == 1).all()
