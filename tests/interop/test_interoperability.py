"""Programs of others read what we export: every voxel where it was, right spacings, frame times and labels."""

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cinesynth.data.nifti import read_volume
from cinesynth.errors import DataError
from tests.interop.readers import Wanted, elsewhere, from_nifti
from tests.interop.studies import Exported, exported
from tests.interop.table import ROWS, WRONG, cells, header, judged, line

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "interoperability.md"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    pytest.importorskip("highdicom", reason="highdicom is not installed: no segmentations")
    return exported(tmp_path_factory.mktemp("interop"))


@pytest.mark.parametrize("name", ROWS, ids=" ".join)
def test_others_read_what_was_exported(out: Exported, name: tuple[str, str]) -> None:
    row = cells(ROWS[name](out))
    assert WRONG not in row.values(), row
    assert line(name, row) in PAGE.read_text().splitlines(), "python -m tests.interop.table prints the page's table"


def test_a_cine_that_torchio_saved_is_refused_with_what_to_do(out: Exported) -> None:
    """Frames are channels to TorchIO, which it saves on a fifth axis."""
    item, study = out.items[0], out.items[0].read()
    saved = out.folder / "saved.nii.gz"
    source = out.nifti / study.dataset / study.subject / f"{study.subject}_4d.nii.gz"
    list(elsewhere(out, "TorchIO copy", [Wanted(item, None, False, [str(source), str(saved)])]))
    with pytest.raises(DataError, match="has 5 dimensions") as caught:
        read_volume(saved, 4)
    assert caught.value.hint
    five = nib.load(saved)
    nib.save(nib.Nifti1Image(np.asanyarray(five.dataobj)[:, :, :, 0], five.affine), saved)
    again = from_nifti(Wanted(item, None, False, []), saved)
    assert judged(again, study) == dict.fromkeys(("voxels", "spacing", "orientation"), "exact") | {"frame time": "-"}
    assert np.array_equal(read_volume(saved, 4).frames, study.image)


def test_the_page_has_a_row_for_each_reader() -> None:
    table = [text for text in PAGE.read_text().splitlines() if text.startswith("|")]
    assert table[:2] == header()
    assert [text.split(" | ")[:2] for text in table[2:]] == [[f"| {one}", f"`--to {to}`"] for one, to in ROWS]


def test_the_page_names_the_releases_that_were_tried() -> None:
    pins = dict(re.findall(r"(dcm2niix|dcmqi|torchio|nnunetv2)==(\S+)", (ROOT / "Makefile").read_text()))
    named = dict(re.findall(r"(dcm2niix|dcmqi|torchio|nnunetv2) (\d[\d.]*\d)", PAGE.read_text()))
    assert named == pins
