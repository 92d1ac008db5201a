"""Programs of others read what we export: every voxel where it was, right spacings, frame times and labels."""

import re
from pathlib import Path

import pytest

from tests.interop.studies import Exported, exported
from tests.interop.table import ROWS, WRONG, cells, header, line

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


def test_the_page_has_a_row_for_each_reader() -> None:
    table = [text for text in PAGE.read_text().splitlines() if text.startswith("|")]
    assert table[:2] == header()
    assert [text.split(" | ")[:2] for text in table[2:]] == [[f"| {one}", f"`--to {to}`"] for one, to in ROWS]


def test_the_page_names_the_releases_that_were_tried() -> None:
    pins = dict(re.findall(r"(dcm2niix|dcmqi|torchio|nnunetv2)==(\S+)", (ROOT / "Makefile").read_text()))
    named = dict(re.findall(r"(dcm2niix|dcmqi|torchio|nnunetv2) (\d[\d.]*\d)", PAGE.read_text()))
    assert named == pins
