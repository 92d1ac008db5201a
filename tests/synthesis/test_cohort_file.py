"""Cohorts from files: what each value means, and what is refused before anything is made."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cinesynth.cli import main
from cinesynth.errors import InputError
from cinesynth.io.reproducibility import case_seed
from cinesynth.synthesis.cohort_file import read_cohort
from cinesynth.synthesis.cohort_schema import KEYS, requests_of
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.request import Request
from cinesynth.types import CONDITIONS, ClinicalPrior, Diagnosis
from tests.bundles import make_bundle

HEADER = "diagnosis,edv,esv,ef,slices,frames,es_index,seed,count\n"


@pytest.fixture(scope="module")
def knowing(tmp_path_factory: pytest.TempPathFactory) -> CinePipeline:
    settings = [f"conditions=[{', '.join(CONDITIONS)}]", "vendors=[GE, Siemens]"]
    return CinePipeline.from_pretrained(make_bundle(tmp_path_factory.mktemp("knowing"), *settings), device="cpu")


@pytest.fixture
def read(tmp_path: Path, pipe: CinePipeline):
    """The requests of a text, by default of CSV."""

    def requests(text: str, suffix: str = ".csv", pipe: CinePipeline = pipe, **asked: int) -> list[Request]:
        path = tmp_path / f"cohort{suffix}"
        path.write_text(text, encoding="utf-8")
        return requests_of(read_cohort(path), pipe, **asked)

    return requests


# --- what values mean ---------------------------------------------------------------------------------------------


def test_a_row_of_a_table_is_as_the_flags_of_the_command_line(read, pipe: CinePipeline) -> None:
    """What is empty is unknown; where no number is asked for, the patients of the training say them."""
    rows = "DCM,280,,25,10,20,8,7,\nHCM,130,40,,,,,,\n,,80,,,,,,\nDCM,,,,,,,5,\n,,,,,,,6,1.0\n"
    whole, some, esv_alone, drawn, anybody = read(HEADER + rows, seed=3)
    assert whole == Request(ClinicalPrior.from_ef(Diagnosis.DCM, 280.0, 25.0, 10), 7, 20, 8)
    assert some == Request(ClinicalPrior(Diagnosis.HCM, 130.0, 40.0), case_seed(3, 1))
    assert esv_alone == Request(ClinicalPrior(lv_esv_ml=80.0), case_seed(3, 2))
    assert drawn == Request(pipe.prior.draw(5, Diagnosis.DCM), 5)
    assert anybody == Request(pipe.prior.draw(6), 6)


def test_what_a_group_of_yaml_leaves_out_is_drawn_given_what_it_states(read, pipe: CinePipeline) -> None:
    text = """
        defaults: {frames: 20, ef: 50}
        cases:
          - {diagnosis: DCM, edv: [200, 320], ef: [15, 35], count: 40}
          - {diagnosis: DCM, edv: 390, ef: draw, count: 40}
          - {diagnosis: hcm, edv: 130, esv: 40, slices: [7, 9], count: 40}
          - {diagnosis: unknown, edv: unknown, ef: unknown, slices: unknown, frames: 10}
          - {edv: 130, ef: 60, slices: 9}
    """
    requests = read(text, ".yaml", seed=1)
    assert [r.seed for r in requests] == [case_seed(1, i) for i in range(122)]
    assert {r.frames for r in requests[:120]} == {20}
    ranged, given_edv, stated = ([r.prior for r in requests[i : i + 40]] for i in (0, 40, 80))
    edvs, efs = np.array([p.lv_edv_ml for p in ranged]), np.array([p.ef_percent for p in ranged])
    assert edvs.min() >= 200 and edvs.max() <= 320 and np.ptp(edvs) > 80  # noqa: PT018
    assert efs.min() >= 15 - 1e-9 and efs.max() <= 35 + 1e-9 and np.ptp(efs) > 12  # noqa: PT018
    assert abs(np.corrcoef(edvs, efs)[0, 1]) < 0.5  # ranges know nothing of each other
    assert {p.lv_edv_ml for p in given_edv} == {390.0}
    assert len({p.ef_percent for p in given_edv}) > 10
    assert np.mean([p.slices for p in given_edv]) > np.mean([p.slices for p in ranged])  # larger hearts, more slices
    assert {(p.lv_edv_ml, p.lv_esv_ml) for p in stated} == {(130.0, 40.0)}  # esv takes the place of a default ef
    assert {p.slices for p in stated} == {7, 8, 9}
    assert requests[120] == Request(ClinicalPrior(), case_seed(1, 120), 10)
    assert requests[121].prior.diagnosis in pipe.prior.groups  # drawn too


def test_nothing_stated_is_any_patient_and_a_seed_says_which(read, pipe: CinePipeline) -> None:
    first, second = read("cases: [{}, {seed: 9}]", ".yaml", seed=4)
    assert first.prior == pipe.prior.draw(case_seed(4, 0))
    assert second == Request(pipe.prior.draw(9), 9)
    assert read("cases: [{diagnosis: DCM, seed: 9}]", ".yml")[0].prior == pipe.prior.draw(9, Diagnosis.DCM)


def test_further_conditions_are_stated_or_unknown(read, knowing: CinePipeline) -> None:
    text = "edv,ef,rv_edv,rv_esv,mass,vendor\n200,40,180,90,140,siemens\n200,40,,,,\n"
    asked, unknown = read(text, pipe=knowing)
    assert (asked.prior.rv_edv_ml, asked.prior.rv_esv_ml) == (180.0, 90.0)
    assert (asked.prior.myo_mass_g, asked.prior.vendor) == (140.0, "siemens")
    assert unknown.prior.rv_edv_ml is unknown.prior.vendor is None
    (ranged,) = read("cases: [{mass: [80, 120], vendor: GE}]", ".yaml", pipe=knowing)
    assert 80 <= ranged.prior.myo_mass_g <= 120
    with pytest.raises(InputError, match=r"cohort.csv, line 3: vendor 'Acme' is not known") as error:
        read("vendor\nGE\nAcme\n", pipe=knowing)
    assert error.value.hint == "one of GE, Siemens"


def test_a_count_caps_or_goes_round_with_seeds_that_go_on(read) -> None:
    text = "edv,seed,count\n100,,2\n200,50,2\n"
    assert [r.seed for r in read(text)] == [case_seed(0, 0), case_seed(0, 1), 50, 51]
    assert read(text, count=3) == read(text)[:3]
    longer = read(text, count=7)
    assert longer[:4] == read(text)
    assert [r.prior.lv_edv_ml for r in longer] == [100.0, 100.0, 200.0, 200.0, 100.0, 100.0, 200.0]
    assert [r.seed for r in longer[4:]] == [case_seed(0, 4), case_seed(0, 5), 52]


def test_a_spreadsheet_s_habits_are_read(read) -> None:
    """A byte order mark, lines that end with CR LF, blank lines, quotes, capitals, whole numbers as 8.0."""
    (request,) = read('\ufeffDiagnosis, EDV ,slices\r\n\r\n" dcm",2.8e2,"9.0"\r\n,,\r\n')
    assert request.prior == ClinicalPrior(Diagnosis.DCM, 280.0, None, 9)


@pytest.mark.parametrize(
    "page", ["reference/cohort-files.md", "how-to/generate-a-cohort.md", "tutorials/first-heart.md"]
)
def test_documented_files_are_read(page: str, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / page).read_text()
    blocks = re.findall(r"```(csv|yaml)\n(.*?)```", text, flags=re.DOTALL)
    files = [(kind, body) for kind, body in blocks if kind == "csv" or "cases:" in body]
    assert {kind for kind, _ in files} == {"csv", "yaml"}
    for kind, body in files:
        (tmp_path / f"cohort.{kind}").write_text(body)
        assert sum(group.count for group in read_cohort(tmp_path / f"cohort.{kind}")) > 1


def test_every_key_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "cohort-files.md").read_text()
    assert [key for key in KEYS if f"`{key}`" not in text] == []


# --- what is refused ----------------------------------------------------------------------------------------------

BAD_ROWS = [
    ("DCM,100,120,,,,,,", "ESV 120 mL does not fit EDV 100 mL"),
    ("DCM,900,,,,,,,", "EDV 900 mL is outside 20-600 mL"),
    ("DCM,100,,,0,,,,", "0 slices are outside 3-24"),
    ("DCM,100,,,20,,,,", "20 slices do not fit a grid of 12"),
    ("DCM,100,,,8.5,,,,", "slices '8.5' is not a whole number"),
    ("DCM,100,50,50,,,,,", "esv and ef are both given"),
    ("DCM,,,50,,,,,", "ef is given without edv"),
    ("DCM,draw,50,,,,,,", "edv is sampled, but esv is given"),
    ("DCM,100,,120,,,,,", "EF 120 % is outside 3-95 %"),
    ("flu,100,,,,,,,", "diagnosis 'flu' is not known"),
    ("RV,draw,,,,,,,", "no training subject has the diagnosis RV"),
    ("DCM,big,,,,,,,", "edv 'big' is not a number"),
    ('DCM,"1,5",,,,,,,', "edv '1,5' is not a number"),
    ("DCM,nan,,,,,,,", "edv 'nan' is not a number"),
    ("DCM,-inf,,,,,,,", "edv '-inf' is not a number"),
    ("DCM,1e999,,,,,,,", "edv '1e999' is not a number"),
    ("DCM,100,,,,1,,,", "1 frames are outside 2-200"),
    ("DCM,100,,,,10,10,,", "ES frame 10 is not within 1-9"),
    ("DCM,100,,,,,,-1,", "seed -1 is outside"),
    ("DCM,100,,,,,,9223372036854775807,2", "seed 9223372036854775808 is outside"),
    ("DCM,100,,,,,,,0", "count '0': input should be greater than or equal to 1"),
    ("DCM,100,,,,,,,draw", "count 'draw': input should be a valid integer"),
    ("DCM,100", "2 cells for 9 columns"),
    ('DCM,"100,,,,,,,', "not CSV"),
    ('DCM,1"00"0"",,,,,,,', "is not a number"),
]


@pytest.mark.parametrize(("row", "found"), BAD_ROWS)
def test_a_row_that_no_heart_has_is_named_with_its_line(read, row: str, found: str) -> None:
    with pytest.raises(InputError) as error:
        read(HEADER + "NOR,120,,60,9,,,,\n" + row + "\n")
    assert error.value.message.startswith("cohort.csv, line 3: ")
    assert found in error.value.message
    assert error.value.hint


BAD_FILES = [
    (".csv", b"", "describes no case"),
    (".csv", HEADER.encode(), "describes no case"),
    (".csv", b"edv\n100\n\xff\xfe\n", "line 3: not UTF-8"),
    (".csv", b"edv,EDV\n1,2\n", "line 1: column edv appears 2 times"),
    (".csv", b"edv,lv_edv\n1,2\n", "line 1: column 'lv_edv' is not known"),
    (".csv", b"diagnosis;edv\nDCM;2\n", "line 1: column 'diagnosis;edv' is not known"),
    (".csv", b"edv,count\n100,100000\n100,1\n", "line 3: more than 100000 cases"),
    (".csv", b"edv\n" + b"1" * 200_000, "not CSV"),
    (".csv", b"edv\n" + b"\n" * (17 << 20), "is larger than"),
    (".yaml", b"", "is empty"),
    (".yaml", b"[1, 2]", "line 1: expected keys and values"),
    (".yaml", b"cases: 3", "no list of groups under cases:"),
    (".yaml", b"cases: []", "describes no case"),
    (".yaml", b"case: []", "line 1: key 'case' is not known"),
    (".yaml", b"cases:\n- edv: 1\n  edv: 2", "line 2: key edv appears 2 times"),
    (".yaml", b"cases:\n- edv: 100\n- {edw: 2}", "line 3: key 'edw' is not known"),
    (".yaml", b"cases:\n- edv: 100\n- edv: [300, 900]", "line 3 (group 2): EDV 900 mL is outside 20-600 mL"),
    (".yaml", b"cases: [{edv: [100, 200], esv: [50, 150]}]", "ESV 150 mL does not fit EDV 100 mL"),
    (".yaml", b"cases: [{edv: [200, 100]}]", "edv is a range from 200 down to 100"),
    (".yaml", b"cases: [{edv: [1, 2, 3]}]", "edv has 3 values"),
    (".yaml", b"cases: [{edv: {low: 1}}]", "edv is nested"),
    (".yaml", b"cases: [{edv: .inf}]", "edv '.inf' is not a number"),
    (".yaml", b"cases: [{mass: draw}]", "mass cannot be draw"),
    (".yaml", b"cases: [{vendor: [GE, Siemens]}]", "vendor a list is not the name of a vendor"),
    (".yaml", b"cases: [{frames: [10, 20]}]", "frames a list: input should be a valid integer"),
    (".yaml", b"a: &a [x]\nb: &b [*a, *a]\ncases: [*b, *b]", "line 1: anchors and aliases"),
    (".yaml", b"[" * 5_000, "nested too deeply"),
    (".yaml", b"cases: [{edv: 1", "not YAML"),
    (".yaml", b"cases: [{edv: \x00}]", "not YAML"),
    (".yaml", b"--- {}\n--- {}", "not YAML"),
    (".yaml", b"#" * (1 << 18), "is larger than"),
    (".txt", b"", "neither .csv nor .yaml"),
]


@pytest.mark.parametrize(("suffix", "content", "found"), BAD_FILES, ids=[found for _, _, found in BAD_FILES])
def test_a_file_that_is_none_is_refused(tmp_path: Path, suffix: str, content: bytes, found: str) -> None:
    path = tmp_path / f"cohort{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_cohort(path)
    assert found in error.value.message
    assert "cohort" in error.value.message
    assert len(str(error.value)) < 600


def test_folders_and_nothing_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for name in ("folder.csv", "none.csv"):
        with pytest.raises(InputError, match="cannot be read"):
            read_cohort(tmp_path / name)


WORDS = st.sampled_from(["", "draw", "unknown", "100", "50", "9", "[100, 200]", "NOR", "DCM", "1e5", "nan", "GE", "-3"])
LINES = st.lists(st.lists(WORDS | st.text(max_size=6), min_size=1, max_size=6).map(",".join), max_size=5)
TABLES = st.tuples(st.lists(st.sampled_from(KEYS), min_size=1, max_size=6, unique=True).map(",".join), LINES)
ENTRIES = st.dictionaries(st.sampled_from(KEYS), WORDS, max_size=5)
TREES = st.fixed_dictionaries({}, optional={"cases": st.lists(ENTRIES, max_size=4), "defaults": ENTRIES})


def _flow(tree: dict) -> str:
    """YAML in one line, with ranges unquoted."""
    return json.dumps(tree).replace('"[', "[").replace(']"', "]")


FILES = st.one_of(
    TABLES.map(lambda table: (".csv", "\n".join([table[0], *table[1]]).encode())),
    TREES.map(lambda tree: (".yaml", _flow(tree).encode())),
    st.tuples(st.sampled_from([".csv", ".yaml"]), st.binary(max_size=60) | st.text(max_size=60).map(str.encode)),
)


@given(file=FILES, seed=st.integers(0, 2**40), count=st.none() | st.integers(1, 5))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_is_requests_or_refused(
    file: tuple[str, bytes], seed: int, count: int | None, tmp_path: Path, pipe: CinePipeline
) -> None:
    path = tmp_path / f"fuzz{file[0]}"
    path.write_bytes(file[1])
    requests, refusal = [], None
    try:
        groups = read_cohort(path)
        requests = requests_of(groups, pipe, seed=seed, count=count or min(5, sum(g.count for g in groups)))
    except InputError as error:
        refusal = error
    assert requests or (refusal and "fuzz" in refusal.message and refusal.hint)
    for request in requests:
        assert Request.from_json(json.loads(json.dumps(request.to_json(), allow_nan=False))) == request
        assert pipe.plan(request).prior.slices


# --- the command --------------------------------------------------------------------------------------------------


def test_the_command_makes_the_cohort_of_a_file_and_refuses_flags_beside_it(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cohort.csv"
    file.write_text("diagnosis,edv,ef,frames\nDCM,280,25,4\nNOR,130,60,\n")
    flags = ["--weights", str(weights), "--frames", "3", "--max-attempts", "1", "--no-pictures"]

    def status(out: str, *words: str) -> int:
        command = ["cinesynth", "generate", "--cohort", str(file), *words, *flags, "--out", str(tmp_path / out)]
        monkeypatch.setattr("sys.argv", command)
        with pytest.raises(SystemExit) as stop:
            main()
        return int(stop.value.code or 0)

    assert status("made", "--seed", "3") == 0
    with (tmp_path / "made" / "cohort.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(r["requested_lv_edv_ml"], r["frames"], int(r["seed"])) for r in rows] == [
        ("280.0", "4", case_seed(3, 0)),
        ("130.0", "3", case_seed(3, 1)),
    ]
    for words in (["--edv", "100"], ["--diagnosis", "DCM"], ["--overwrite"], ["--keep-anatomy", "x"], ["--mass", "90"]):
        assert status("none", *words) == 2
        assert f"{words[0]} cannot be combined with --cohort" in " ".join(capsys.readouterr().err.split())
    file.write_text("edv\n100\n900\n")
    assert status("none") == 2
    assert "cohort.csv, line 3: EDV 900 mL is outside" in " ".join(capsys.readouterr().err.split())
    file.write_text("edv,slices\n100,9\n100,14\n")
    assert status("none") == 2
    assert "cohort.csv, line 3: 14 slices do not fit" in " ".join(capsys.readouterr().err.split())
    file.write_text("edv\n100\n")
    monkeypatch.setenv("RANK", "first")
    assert status("none") == 2
    assert "RANK is 'first'" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "none").exists()
