"""New weights are a regression where a figure got worse than allowed, and only the same test is compared."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from cinesynth.cli import main
from cinesynth.errors import InputError
from cinesynth.weights.scores import COMPARABLE, TOLERANCES, compare, figure_of, migrated_scores, read_scores


@pytest.fixture
def scores() -> dict[str, Any]:
    figures = {name: {"mean": 0.85} for name in ("PSNR", "SSIM", "Dice LV", "Dice MYO", "Dice RV")}
    metadata = {
        "data_hash": "d" * 64,
        "split": "test",
        "n_subjects": 17,
        "cases": 50,
        "seed": 0,
        "same_data_as_training": True,
    }
    return {
        "format": 2,
        "metadata": {**metadata, "frames_per_case": 30, "match_volumes": False, "max_attempts": 3},
        "codec": {"all": {"figures": figures}},
        "control": {q: {"r": 0.9, "mae": 6.0} for q in ("EDV mL", "ESV mL", "EF %")},
        "accepted": {"rate": 0.96},
        "memorisation": {space: {"rate": 0.0} for space in ("image", "mask")},
    }


def changed(scores: dict[str, Any], path: tuple[str, ...], by: float) -> dict[str, Any]:
    result = copy.deepcopy(scores)
    place = result
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] += by
    return result


@pytest.mark.parametrize("tolerance", TOLERANCES, ids=lambda tolerance: tolerance.name)
def test_each_figure_is_a_regression_beyond_its_tolerance_alone(scores: dict[str, Any], tolerance) -> None:
    assert tolerance.reason
    worse = -1 if tolerance.better == "high" else 1
    verdicts = {}
    for name, by in (
        ("worse", worse * (tolerance.allowed + 1e-3)),
        ("within", worse * tolerance.allowed),
        ("better", -worse),
    ):
        rows = {row.tolerance.name: row for row in compare(changed(scores, tolerance.path, by), scores)}
        verdicts[name] = rows.pop(tolerance.name).is_regression
        assert {row.verdict for row in rows.values()} == {"same"}
    assert verdicts == {"worse": True, "within": False, "better": False}


def test_a_lost_figure_is_a_regression_and_an_unknown_one_is_not(scores: dict[str, Any]) -> None:
    without = copy.deepcopy(scores)
    del without["control"]["EF %"]
    assert {r.tolerance.name for r in compare(without, scores) if r.is_regression} == {"r EF", "MAE EF %"}
    assert {r.verdict for r in compare(scores, without)} == {"same", "new"}
    assert not any(r.is_regression for r in compare(without, without))


def test_near_copies_are_a_regression_even_if_the_old_weights_made_as_many(scores: dict[str, Any]) -> None:
    copies = changed(scores, ("memorisation", "mask", "rate"), 0.02)
    assert [r.tolerance.name for r in compare(copies, copies) if r.is_regression] == ["near-copies, mask"]
    assert not any(r.is_regression for r in compare(scores, copies))


@pytest.mark.parametrize("key", COMPARABLE)
def test_another_test_is_refused(scores: dict[str, Any], key: str) -> None:
    other = copy.deepcopy(scores)
    other["metadata"][key] = "other"
    with pytest.raises(InputError, match=f"{key} other against"):
        compare(other, scores)


def test_the_command_exits_by_its_verdict(
    scores: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lv = ("codec", "all", "figures", "Dice LV", "mean")
    files = {"old": scores, "worse": changed(scores, lv, -0.05), "better": changed(scores, lv, 0.05)}
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    for name, code, said in (("worse", 10, "regressions: Dice LV"), ("better", 0, "no regressions")):
        monkeypatch.setattr(
            "sys.argv", ["cinesynth", "weights", "compare", str(tmp_path / name), str(tmp_path / "old")]
        )
        try:
            main()
            found = 0
        except SystemExit as stop:
            found = int(stop.code or 0)
        assert (found, said in capsys.readouterr().out) == (code, True)


def test_files_of_something_else_are_refused(tmp_path: Path, scores: dict[str, Any]) -> None:
    for content, found in (("[", "cannot be read"), ("[1]", "format None"), ('{"about": {}}', "format None")):
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(InputError, match=found):
            read_scores(tmp_path / "x.json")
    assert figure_of({"codec": 3}, TOLERANCES[0]) is None


def test_scores_of_earlier_releases_are_compared_with_those_of_today(scores: dict[str, Any]) -> None:
    names = {"n_subjects": "people", "match_volumes": "closed_loop"}
    about = {names.get(key, key): value for key, value in scores["metadata"].items() if key != "max_attempts"}
    old = {key: value for key, value in scores.items() if key != "metadata"} | {"format": 1, "about": about}
    assert {row.verdict for row in compare(scores, migrated_scores(old))} == {"same"}
