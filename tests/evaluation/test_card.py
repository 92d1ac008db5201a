"""The card of the weights that ship: every number comes from a file."""

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

from cinesynth.config import STAGES
from cinesynth.config.migration import stage_path
from cinesynth.errors import DataError, InputError
from cinesynth.evaluation.evaluate import render_card, write_card
from cinesynth.evaluation.report import EvaluationReport, number, read_report
from cinesynth.evaluation.section import Metric, Section
from cinesynth.io.files import file_sha256
from cinesynth.weights.folder import INDEX
from cinesynth.weights.registry import find_bundle

NUMBER = re.compile(r"\d+(?:[.,:-]\d+)*")
FOLDER = find_bundle("small")
TEMPLATE = files("cinesynth.reports").joinpath("templates/model_card.md").read_text(encoding="utf-8")


def part(subjects: int) -> dict[str, object]:
    return {"subjects": subjects, "whole_cycles": 1, "datasets": {"acdc": subjects}, "vendors": {"Siemens": subjects}}


def write_report(folder: Path, sha256: str) -> Path:
    """A report on a cohort of the weights with this hash."""
    real = {"folder": "hearts", "data_hash": "ab12", "train": part(56), "held_out": {"split": "test", **part(17)}}
    made = {"folder": "cohort", "cases": 50, "accepted": 47, "weights": {"sha256": sha256}}
    metrics = [
        Metric("distance", 12.34567, "mm", 17, 10.111, 14.222, 9.5, "at most 11", "fail", detail="dimension 99"),
        Metric("share", 0.98765, "", 50),
        Metric.unknown("fvd", "no I3D weights were given"),
    ]
    about = {"real": real, "synthetic": made, "command": "cinesynth evaluate --real hearts --synthetic cohort --out r"}
    (folder / "report.json").write_text(
        json.dumps(EvaluationReport(about, (Section("Realism", "?", metrics),)).to_json())
    )
    return folder / "report.json"


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return write_report(tmp_path, file_sha256(FOLDER / INDEX))


def numbers_in(value: object) -> set[str]:
    """Every number of a JSON, as it stands in text and as the card writes it."""
    if isinstance(value, dict):
        return set().union(*map(numbers_in, [*value, *value.values()]), set())
    if isinstance(value, list):
        return set().union(*map(numbers_in, value), set())
    return set(NUMBER.findall(number(value)))


def test_each_number_of_the_card_is_in_a_file(report: Path, tmp_path: Path) -> None:
    write_card(report, "small", tmp_path / "MODEL_CARD.md")
    sources = [report, FOLDER / INDEX, *(stage_path(FOLDER, stage, ".json") for stage in STAGES)]
    known = set().union(*(numbers_in(json.loads(path.read_text())) for path in sources))
    known |= set(NUMBER.findall(file_sha256(FOLDER / INDEX)))
    fixed = set(NUMBER.findall(TEMPLATE))
    found = set(NUMBER.findall((tmp_path / "MODEL_CARD.md").read_text()))
    assert found - fixed - known == set()
    assert {"12.3", "10.1", "14.2", "9.5", "0.988", "56", "17", "47"} <= found


def test_the_card_types_no_figure_of_its_own() -> None:
    """The year of Mitchell et al., intervals of 95 %, SHA-256."""
    assert set(NUMBER.findall(TEMPLATE)) == {"2019", "95", "256"}


def test_another_measurement_gives_another_card(report: Path) -> None:
    content = read_report(report)
    before = render_card(content, FOLDER)
    content["sections"][0]["metrics"][0]["value"] = 77.7
    after = render_card(content, FOLDER)
    assert "77.7" in after
    assert "77.7" not in before


def test_the_card_says_what_one_must_know(report: Path) -> None:
    text = render_card(read_report(report), FOLDER)
    index = json.loads((FOLDER / INDEX).read_text())
    for expected in (
        index["licence"],
        *index["citations"],
        index["data_hash"],
        "research only",
        "Realism, fail: distance",
    ):
        assert expected in text
    assert "- Realism, fvd: no I3D weights were given." in text
    made = json.loads((FOLDER / "dynamics.json").read_text())["environment"]
    assert made["command"] in text
    assert made["git_revision"] in text


def test_a_report_of_other_weights_is_refused(tmp_path: Path) -> None:
    path = write_report(tmp_path, "0" * 64)
    with pytest.raises(InputError, match="the report is about weights with SHA-256 000000000000") as error:
        write_card(path, "small", tmp_path / "card.md")
    assert error.value.hint
    assert not (tmp_path / "card.md").exists()


def test_a_card_needs_a_report(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not the report\.json of an evaluation"):
        write_card(tmp_path / "none.json", "small", tmp_path / "card.md")


def test_a_report_of_format_1_is_read_under_new_names(report: Path, tmp_path: Path) -> None:
    today = json.loads(report.read_text())
    real = today["metadata"]["real"]
    for split in ("train", "held_out"):
        real[split]["people"] = real[split].pop("subjects")
    sections = [
        {("measures" if k == "metrics" else "listings" if k == "tables" else k): v for k, v in section.items()}
        for section in today["sections"]
    ]
    old = {**today, "format": 1, "about": today.pop("metadata"), "sections": sections}
    del old["metadata"]
    (tmp_path / "old.json").write_text(json.dumps(old))
    assert read_report(tmp_path / "old.json") == read_report(report)
