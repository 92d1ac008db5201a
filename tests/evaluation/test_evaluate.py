"""One command, one report: what it says, what it refuses, and that it never measures twice."""

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import cinesynth.evaluation.evaluate as evaluation
from cinesynth.cases.cohort import COHORT_TABLE
from cinesynth.data.dataset_table import TABLE_FILE
from cinesynth.errors import CinesynthError, DataError, InputError
from cinesynth.evaluation.cases import Case
from cinesynth.evaluation.evaluate import evaluate
from cinesynth.evaluation.measure import Measurer
from cinesynth.evaluation.report import EvaluationReport, SectionVerdict, number, read_report
from cinesynth.evaluation.section import Measurements, Metric, Section, SectionSpec, Table
from cinesynth.evaluation.segmenter import Segmenter
from cinesynth.io.files import file_sha256


@pytest.fixture(scope="module")
def evaluated(
    people: Path, cohort_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[EvaluationReport, Path]:
    """The report on good hearts, and its folder."""
    out = tmp_path_factory.mktemp("report") / "report"
    return evaluate(people, cohort_folder, out, workers=1), out


def test_the_json_says_what_was_compared(
    evaluated: tuple[EvaluationReport, Path], people: Path, cohort_folder: Path
) -> None:
    _, out = evaluated
    content = read_report(out)
    about = content["metadata"]
    assert about["real"]["train"]["subjects"] == 14
    assert about["real"]["held_out"] | {"split": "test", "subjects": 4} == about["real"]["held_out"]
    assert (about["synthetic"]["cases"], about["synthetic"]["frames"]) == (12, [8])
    assert about["grid"] == {"size": [64, 64, 24], "spacing_mm": [3.0, 3.0, 10.0]}
    assert about["command"] == f"cinesynth evaluate --real {people} --synthetic {cohort_folder} --out {out}"
    assert len(about["real"]["data_hash"]) == len(about["synthetic"]["key"]) == 64
    assert set(about["versions"]) >= {"cinesynth", "numpy", "scipy"}


def test_no_number_is_nan_and_each_missing_one_has_a_reason(evaluated: tuple[EvaluationReport, Path]) -> None:
    _, out = evaluated
    text = (out / "report.json").read_text()
    assert not re.search(r"\b(NaN|Infinity)\b", text)
    for section in json.loads(text)["sections"]:
        for m in section["metrics"]:
            assert (m["value"] is None) == bool(m["missing"])
            assert m["judgement"] is None or m["limit"]


class Tags(HTMLParser):
    """What a page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_needs_nothing_else(evaluated: tuple[EvaluationReport, Path]) -> None:
    report, out = evaluated
    page = (out / "index.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert not tags.open
    assert {tag for tag, _ in tags.found}.isdisjoint({"script", "link", "iframe"})
    sources = [str(attrs.get(kind)) for _, attrs in tags.found for kind in ("src", "href") if kind in attrs]
    assert all(source.startswith(("data:image/png;base64,", "#section-")) for source in sources)
    assert "url(" not in page
    assert "esearch use only" in page
    for section in report.sections:
        for m in section.metrics:
            assert m.name in page
            assert m.value is None or f"<b>{number(m.value)}</b>" in page


def test_a_second_run_measures_nothing(
    evaluated: tuple[EvaluationReport, Path], people: Path, cohort_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, out = evaluated

    def refuse(case: Case) -> dict[str, float]:
        raise AssertionError(f"{case.name} was measured again")

    asked = [
        SectionSpec(q.title, [Measurer(m.name, m.identity, refuse) for m in q.measurers], q.evaluate)
        for q in evaluation.section_specs()
    ]
    monkeypatch.setattr(evaluation, "section_specs", lambda *_: asked)
    again = evaluate(people, cohort_folder, out, workers=1)
    assert [s.to_json() for s in again.sections] == [s.to_json() for s in report.sections]


def test_progress_counts_hearts_and_questions(people: Path, cohort_folder: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    evaluate(
        people,
        cohort_folder,
        tmp_path,
        workers=1,
        progress=lambda task, done, total, _: seen.append((task, done, total)),
    )
    last = {title: (done, total) for title, done, total in seen if title != "prepare"}  # once a dataset
    asked = len(evaluation.section_specs())
    assert last == {"synthetic": (12, 12), "train": (14, 14), "held-out": (4, 4), "sections": (asked, asked)}


def test_real_people_may_play_the_generated(people: Path, tmp_path: Path, measured_once: Path) -> None:
    report = evaluate(people, people, tmp_path, split="validation", workers=1, cache=measured_once)
    assert report.metadata["synthetic"]["subjects"] == 2
    assert report.metadata["command"].endswith("--split validation")
    assert "subjects of the validation split" in (tmp_path / "index.html").read_text()


# --- what is refused -----------------------------------------------------------------------------------------------


def one_case(folder: Path) -> None:
    lines = (folder / COHORT_TABLE).read_text().splitlines()[:2]
    (folder / COHORT_TABLE).write_text("\n".join(lines) + "\n")


def change(folder: Path, **values: object) -> None:
    path = folder / "case_0001" / "case.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def other_weights(folder: Path) -> None:
    content = json.loads((folder / "case_0001" / "case.json").read_text())
    change(folder, provenance=content["provenance"] | {"weights": {"sha256": "other"}})


def truncate(folder: Path) -> None:
    path = folder / "case_0003" / "label.nii.gz"
    path.write_bytes(path.read_bytes()[:300])


def other_labels(folder: Path) -> None:
    path = folder / "case_0002" / "label.nii.gz"
    image = nib.load(path)
    label = np.where(np.asarray(image.dataobj) == 3, 7, image.dataobj).astype(np.uint8)
    nib.save(nib.Nifti1Image(label, image.affine, image.header), path)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (one_case, "1 case"),
        (lambda f: (f / COHORT_TABLE).unlink(), "no readable cohort.csv"),
        (lambda f: change(f, spacing_mm=[1.0, 1.0, 10.0]), "several grids"),
        (lambda f: change(f, labels={"LV": 1}), "expected 1 RV"),
        (other_weights, "2 sets of weights"),
        (truncate, "case_0003.*cannot be read"),
        (other_labels, "case_0002.*holds the labels 0, 1, 2, 7"),
    ],
)
def test_bad_cohorts_are_refused_and_nothing_is_written(
    people: Path, cohort_folder: Path, tmp_path: Path, damage: Callable[[Path], None], found: str
) -> None:
    folder = Path(shutil.copytree(cohort_folder, tmp_path / "cohort"))
    damage(folder)
    with pytest.raises(CinesynthError, match=found) as error:
        evaluate(people, folder, tmp_path / "out", workers=1)
    assert error.value.hint
    assert not (tmp_path / "out" / "report.json").exists()


def test_real_people_must_be_there(people: Path, cohort_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a dataset"):
        evaluate(tmp_path / "nowhere", cohort_folder, tmp_path / "out")
    with pytest.raises(InputError, match="'train' is not held out"):
        evaluate(people, cohort_folder, tmp_path / "out", split="train")
    nobody = Path(shutil.copytree(people, tmp_path / "people", ignore=shutil.ignore_patterns("grids")))
    manifest = (nobody / TABLE_FILE).read_text()
    (nobody / TABLE_FILE).write_text(manifest.replace(",test,", ",train,"))
    with pytest.raises(DataError, match="no subjects"):
        evaluate(nobody, cohort_folder, tmp_path / "out")


def test_a_network_that_learned_from_other_data_is_cautioned_against(
    people: Path, cohort_folder: Path, segmenter: Segmenter, tmp_path: Path, measured_once: Path
) -> None:
    other = Path(shutil.copytree(segmenter.folder, tmp_path / "other"))
    info = json.loads((other / "segmenter.json").read_text())
    (other / "segmenter.json").write_text(json.dumps(info | {"data_hash": "0" * 64}))
    out, cache = tmp_path / "out", measured_once
    (caution,) = evaluate(people, cohort_folder, out, segmenter=other, cache=cache).metadata["cautions"]
    assert caution.startswith("The training data of the segmenter have SHA-256 000000000000..., this dataset has")
    assert caution in (out / "index.html").read_text()
    assert read_report(out)["metadata"]["networks"] == {"segmenter": file_sha256(other / "segmenter.json")}
    assert not evaluate(people, cohort_folder, out, segmenter=segmenter.folder, cache=cache).metadata["cautions"]


def test_people_whose_hearts_do_not_fit_the_grid_are_named(people: Path, cohort_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(cohort_folder, tmp_path / "cohort"))
    for path in folder.glob("*/case.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"spacing_mm": [0.5, 0.5, 10.0]}))
    with pytest.raises(DataError, match=r"person\d+ does not fit the grid"):
        evaluate(people, folder, tmp_path / "out")


# --- the verdicts ---------------------------------------------------------------------------------------------------


def test_the_worst_measure_decides_and_is_named() -> None:
    good, bad = Metric("fine", 1.0, limit="x", judgement="pass"), Metric("torn", 9.0, limit="x", judgement="fail")
    unknown = Metric.unknown("silent", "no whole cycle")
    assert SectionVerdict.of(Section("A", "?", [good, bad, unknown])) == SectionVerdict("A", "fail", "torn")
    assert SectionVerdict.of(Section("A", "?", [good, unknown])).decided_by == "all 1 judged metrics; 1 without a value"
    assert SectionVerdict.of(Section("A", "?", [unknown])) == SectionVerdict(
        "A", None, "nothing could be judged: no whole cycle"
    )
    report = EvaluationReport({}, (Section("A", "?", [good]), Section("B", "?", [unknown])))
    assert report.judgement == "pass"


def test_what_people_wrote_cannot_break_the_page(evaluated: tuple[EvaluationReport, Path]) -> None:
    report, _ = evaluated
    nasty = "<script>alert(1)</script> {{ title }}"
    section = Section(nasty, nasty, [Metric(nasty, 1.0, limit=nasty)], [Table(nasty, (nasty,), [(nasty,)])])
    page = EvaluationReport(report.metadata | {"command": nasty}, (section,)).to_html()
    assert "<script" not in page
    assert "{{ title }}" in page


def test_numbers_are_short_and_keep_their_size() -> None:
    assert [number(v) for v in (0.123456, 12345.6, 3, None, "x")] == ["0.123", "12346", "3", "-", "x"]


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    for text in ("{}", "[]", "no"):
        (tmp_path / "report.json").write_text(text)
        with pytest.raises(DataError, match=r"not the report\.json of an evaluation"):
            read_report(tmp_path)


def test_sections_share_measurers_that_have_one_name(
    people: Path, cohort_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def count(case: Case) -> dict[str, float]:
        calls.append(case.name)
        return {"frames": float(len(case.image))}

    def mean_frames(measurements: Measurements) -> Section:
        return Section("T", "?", [Metric("frames", float(measurements.synthetic["frames.frames"].mean()))])

    asked = [SectionSpec("T", [Measurer("frames", "1", count)], mean_frames)] * 2
    monkeypatch.setattr(evaluation, "section_specs", lambda *_: asked)
    report = evaluate(people, cohort_folder, tmp_path, workers=1)
    assert len(calls) == 12 + 14 + 4
    assert [s.metrics[0].value for s in report.sections] == [8.0, 8.0]
