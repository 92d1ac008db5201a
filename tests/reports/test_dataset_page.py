"""The report: one page that holds everything, every subject on it, and nothing of a file's text taken for markup."""

import base64
import io
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cinesynth.cli.dataset import qc
from cinesynth.data.dataset_table import DatasetTable
from cinesynth.data.ingest import ingest, write_skipped
from cinesynth.data.phantom import phantom_study
from cinesynth.data.sources import Skipped
from cinesynth.errors import DataError, OutputError
from cinesynth.reports.contact_sheet import _draw_study_curves, render_subject, time_order
from cinesynth.reports.dataset_page import write_report
from cinesynth.reports.slices import COLOURS, heart_window
from cinesynth.types import Diagnosis, Study

VOID = {"meta", "img"}


class Page(HTMLParser):
    """What a browser would see; fails on tags that do not close each other."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.links, self.ids, self.pictures = "", [], [], []
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag != "script"
        values = dict(attrs)
        self.links += [values["href"]] if values.get("href") else []
        self.ids += [values["id"]] if values.get("id") else []
        if tag == "img":
            kind, _, content = (values["src"] or "").partition("base64,")
            assert kind == "data:image/png;"
            self.pictures.append(Image.open(io.BytesIO(base64.b64decode(content))))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(name="dataset")
def _dataset(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / built.name))


@pytest.fixture(name="built", scope="module")
def _built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hearts, one of them black for a frame."""
    out = tmp_path_factory.mktemp("report") / "data & more"
    studies = [phantom_study(seed, frames=14).study for seed in range(3)]
    studies[2] = replace(studies[2], group="<script>alert(1)</script>", diagnosis=Diagnosis.UNKNOWN)
    studies[0] = replace(studies[0], reported_lv_edv_ml=149.0, notes=("left out 8 images of <sax_9> (a copy)",))
    studies[1].image[4] = 0
    ingest(studies, out)
    return out


def test_one_page_holds_everything(dataset: Path, tmp_path: Path) -> None:
    write_skipped(dataset, [Skipped("patient 7", "Info.cfg <b>is missing</b>", "copy it again")])
    steps: list[tuple[int, int]] = []
    overview = write_report(
        dataset, tmp_path / "report.html", progress=lambda _, done, total, __: steps.append((done, total))
    )
    page = Page(tmp_path / "report.html")
    assert len(page.pictures) == 3
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert len(page.links) == 3
    for expected in ("data & more", "patient 7", "Info.cfg <b>is missing</b>", "<script>alert(1)</script>"):
        assert expected in page.text
    assert "contrast of a frame 0 % (expected at least 5), frame 4" in page.text
    assert "Notes: left out 8 images of <sax_9> (a copy)" in page.text
    assert page.text.count("Notes:") == page.text.count("(reported 149.0 / - mL)") == 1
    assert "3 subjects in, 1 left out, 1 with flags" in page.text
    assert (overview.subjects, overview.flagged, overview.rejected) == (3, 1, 1)
    assert overview.flags["contrast of a frame"] == 1
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert [path.name for path in tmp_path.iterdir() if path != dataset] == ["report.html"]


def test_the_number_of_workers_changes_nothing(dataset: Path, tmp_path: Path) -> None:
    for workers in (1, 3):
        write_report(dataset, tmp_path / f"{workers}.html", workers=workers)
    assert (tmp_path / "1.html").read_bytes() == (tmp_path / "3.html").read_bytes()


def test_missing_and_altered_studies_are_told(dataset: Path, tmp_path: Path) -> None:
    first, second, _ = DatasetTable.read(dataset)
    (dataset / first.file).unlink()
    (dataset / second.file).write_bytes(b"not what it was")
    overview = write_report(dataset, tmp_path / "report.html", workers=1)
    page = Page(tmp_path / "report.html")
    assert overview.flags["unreadable"] == 2
    assert "is missing" in page.text
    assert "has changed since it was ingested" in page.text
    assert len(page.pictures) == 1


def test_what_is_no_dataset_or_cannot_be_written(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a dataset"):
        write_report(tmp_path / "nothing", tmp_path / "report.html")
    with pytest.raises(OutputError):
        write_report(dataset, dataset / "dataset.json" / "report.html")


def test_the_command_prints_what_it_found(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    qc(dataset, tmp_path / "report.html", workers=1)
    printed = capsys.readouterr().out
    assert "3 subjects, 0 skipped, 1 flagged" in printed
    assert "contrast of a frame" in printed


def colours_in(picture: bytes) -> set[tuple[int, ...]]:
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).reshape(-1, 3)
    present = {tuple(map(int, pixel)) for pixel in np.unique(pixels, axis=0)}
    return present & set(COLOURS.values())


def test_contours_and_curves_are_drawn_where_there_are_labels() -> None:
    study = phantom_study(0, frames=10).study
    assert colours_in(render_subject(study)) == set(COLOURS.values())
    bare = replace(study, label=np.zeros_like(study.label), coverage=np.zeros_like(study.coverage))
    assert colours_in(render_subject(bare)) == set()


def of_frames(study: Study, stored: list[int]) -> Study:
    return replace(
        study,
        image=study.image[stored],
        label=study.label[stored],
        coverage=study.coverage[stored],
        frame_index=np.array(stored),
    )


def test_frames_are_shown_from_ed_on() -> None:
    study = phantom_study(0, frames=10).study
    late = replace(study, ed_index=8, es_index=3)
    assert time_order(late).tolist() == [8, 9, *range(8)]
    assert render_subject(late)[:4] == b"\x89PNG"
    pair = of_frames(study, [study.es_index, study.ed_index])
    assert time_order(pair).tolist() == [1, 0]
    assert render_subject(pair)[:4] == b"\x89PNG"


def test_fat_near_a_coil_does_not_darken_the_heart() -> None:
    study = phantom_study(0, frames=10).study
    bright = study.image.copy()
    bright[:, :40] = 50 * study.image.max()
    assert heart_window(bright, study.label)[1] <= study.image.max()
    assert heart_window(bright, 0 * study.label)[1] > study.image.max()


def test_frames_are_counted_in_whole_numbers_and_a_pair_is_ed_and_es() -> None:
    study = replace(phantom_study(0, frames=10).study, frame_time_ms=None)
    axes = Figure().add_subplot()
    _draw_study_curves(axes, study)
    assert axes.get_xlabel() == "frames after ED"
    assert all(float(tick).is_integer() for tick in axes.get_xticks())
    pair = of_frames(study, [study.ed_index, study.es_index])
    pair = replace(pair, frame_index=np.array([0, 1]), frames_in_cycle=2, ed_index=0, es_index=1)
    axes = Figure().add_subplot()
    _draw_study_curves(axes, pair)
    assert [text.get_text() for text in axes.get_xticklabels()] == ["ED", "ES"]
