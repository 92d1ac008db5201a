"""Hints of generate, cohorts, annotate and animate: doing what they say works."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cinesynth.cases.writing import save_case
from cinesynth.types import Cine
from tests.data.nifti_files import phantom, save
from tests.hints.conftest import Desk

Generate = Callable[..., tuple[object, ...]]


@pytest.fixture
def generate(desk: Desk, weights: Path) -> Generate:
    """A quick generate command with further options."""

    def command(*options: object, out: str = "case", frames: object = 6) -> tuple[object, ...]:
        quick = ("--frames", frames, "--steps", 1, "--no-pictures", "--no-match-volumes", "--max-attempts", 1)
        return "generate", "--weights", weights, "--out", desk / out, *options, *quick

    return command


# --- One case --------------------------------------------------------------------------------------------------------


def test_a_diagnosis_that_nobody_has(desk: Desk, generate: Generate) -> None:
    hint = desk.fails(*generate("--diagnosis", "AMYLOID", "--edv", 150), hint="one of ...DCM")
    assert "HCM" in hint
    desk.works(*generate("--diagnosis", "HCM", "--edv", 150))


def test_an_ef_without_an_edv(desk: Desk, generate: Generate) -> None:
    desk.fails(*generate("--ef", 55), hint="give the EDV too, in mL")
    desk.works(*generate("--ef", 55, "--edv", 150))


def test_an_ef_as_a_fraction(desk: Desk, generate: Generate) -> None:
    hint = desk.fails(*generate("--edv", 150, "--ef", 0.55), hint="give percent, for example --ef")
    desk.works(*generate("--edv", 150, *hint.split()[-2:]))


def test_an_esv_that_the_edv_cannot_have(desk: Desk, generate: Generate) -> None:
    hint = desk.fails(*generate("--edv", 150, "--esv", 149), hint="give an ESV of ")
    for bound in re.findall(r"\d+\.\d", hint)[:2]:
        desk.works(*generate("--edv", 150, "--esv", bound, "--overwrite"))


def test_an_esv_and_an_ef(desk: Desk, generate: Generate) -> None:
    desk.fails(*generate("--edv", 150, "--esv", 60, "--ef", 60), hint="EF follows from EDV and ESV: give one of them")
    desk.works(*generate("--edv", 150, "--esv", 60))


def test_volumes_in_litres(desk: Desk, generate: Generate) -> None:
    desk.fails(*generate("--edv", 0.15), hint="give millilitres")
    desk.works(*generate("--edv", 150))


def test_a_number_of_frames(desk: Desk, generate: Generate) -> None:
    hint = desk.fails(*generate("--edv", 150, frames=1), hint="clinical cines have 20-35 frames")
    desk.works(*generate("--edv", 150, frames=re.findall(r"\d+", hint)[0]))


def test_more_slices_than_a_stack_has(desk: Desk, generate: Generate) -> None:
    hint = desk.fails(*generate("--edv", 150, "--slices", 40), hint="6-12 slices")
    desk.works(*generate("--edv", 150, "--slices", re.findall(r"(\d+)-", hint)[0]))


def test_guidance_and_steps(desk: Desk, generate: Generate) -> None:
    hint = desk.fails(*generate("--edv", 150, "--guidance", 50), hint="1.5-3 is usual")
    desk.works(*generate("--edv", 150, "--guidance", re.findall(r"[\d.]+", hint)[1]))


def test_a_condition_that_the_weights_do_not_know(desk: Desk, generate: Generate) -> None:
    desk.fails(*generate("--edv", 150, "--rv-edv", 160), hint="leave it out")
    desk.works(*generate("--edv", 150))


def test_a_folder_that_holds_a_case(desk: Desk, generate: Generate) -> None:
    desk.works(*generate("--edv", 150))
    desk.fails(*generate("--edv", 150), hint="write to another folder, or overwrite the case in it")
    desk.works(*generate("--edv", 150, out="other"))
    desk.works(*generate("--edv", 150, "--overwrite"))


def test_weights_that_are_not_there(desk: Desk, generate: Generate) -> None:
    wrong = ("generate", "--weights", "nothing", "--edv", 150, "--out", desk / "case")
    hint = desk.fails(*wrong, hint="name a folder written by `cinesynth bundle`, or one of: ")
    desk.works("weights", "verify", hint.partition("one of: ")[2].split(", ")[0])
    desk.works(*generate("--edv", 150))


def test_a_size_beside_a_kept_anatomy(desk: Desk, generate: Generate, cine: Cine) -> None:
    save_case(cine, desk / "case", pictures=False)
    command = generate("--keep-anatomy", desk / "case", "--edv", 200, out="again")
    desk.fails(*command, hint="leave it out: the kept anatomy determines it")
    desk.works(*generate("--keep-anatomy", desk / "case", "--precision", "fp32", out="again"))


# --- Cohorts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "ending"), [("cohort.txt", "csv"), ("cohort.csv", "csv"), ("cohort.yaml", "yaml")])
def test_the_example_of_a_cohort_is_one(desk: Desk, generate: Generate, name: str, ending: str) -> None:
    hint = desk.fails(*generate("--cohort", desk.write(name, "")), hint="for example ...count")
    assert "10" in hint
    path = desk.write(f"example.{ending}", hint.partition("for example\n")[2].replace("10", "1"))
    desk.works(*generate("--cohort", path, "--workers", 1, out="cohort"))


def test_a_misspelt_column(desk: Desk, generate: Generate) -> None:
    command = generate("--cohort", desk.write("c.csv", "diagnosis,edw\nDCM,250\n"), "--workers", 1)
    hint = desk.fails(*command, hint="did you mean edv?")
    desk.write("c.csv", f"diagnosis,{hint.partition('mean ')[2].partition('?')[0]}\nDCM,250\n")
    desk.works(*command)


def test_an_ef_without_an_edv_in_a_cohort(desk: Desk, generate: Generate) -> None:
    path = desk.write("c.yaml", "cases:\n  - {diagnosis: DCM, ef: 25, edv: unknown}\n")
    command = generate("--cohort", path, "--workers", 1)
    hint = desk.fails(*command, hint="or sample it: edv: draw")
    path.write_text(path.read_text().replace("edv: unknown", hint.partition("sample it: ")[2]))
    desk.works(*command)


def test_a_cohort_of_another_request(desk: Desk, generate: Generate) -> None:
    first = generate("--count", 1, "--edv", 150, "--workers", 1)
    desk.works(*first)
    hint = "write to another folder, or repeat the command that generated"
    desk.fails(*generate("--count", 1, "--edv", 180, "--workers", 1), hint=hint)
    desk.works(*first)
    desk.works(*generate("--count", 1, "--edv", 180, "--workers", 1, out="other"))


def test_a_rank_that_is_no_number(desk: Desk, generate: Generate, monkeypatch: pytest.MonkeyPatch) -> None:
    command = generate("--count", 1, "--edv", 150, "--workers", 1)
    monkeypatch.setenv("RANK", "first")
    desk.fails(*command, hint="set it to a whole number, or unset it")
    monkeypatch.delenv("RANK")
    desk.works(*command)


# --- Images of real hearts -------------------------------------------------------------------------------------------


def test_a_cine_to_animate_without_its_ed_frame(desk: Desk) -> None:
    study = phantom(1)
    path = save(desk / "cine.nii.gz", study.image, study.affine, 0.04)
    quick = ("--frames", 2, "--steps", 1, "--max-attempts", 1, "--no-match-volumes", "--no-pictures")
    command = ("animate", path, "--weights", "small", "--out", desk / "out", *quick)
    hint = desk.fails(*command, hint="give --frame 0 to 5")
    desk.works(*command, *hint.split()[1:3])
