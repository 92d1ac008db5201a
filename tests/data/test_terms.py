"""Names of vendors and groups as datasets write them; what may be done with their data, and never guessed."""

import json
from pathlib import Path

import pytest
import yaml

from cinesynth.cases.export_items import dataset_items
from cinesynth.cases.export_nifti import export_nifti
from cinesynth.data.ingest import ingest
from cinesynth.data.sources.layout import load_layout
from cinesynth.data.sources.nifti import read_nifti
from cinesynth.data.terms import KNOWN, RESEARCH, UNKNOWN, Terms, combined, diagnosis_of, terms_of, vendor_of
from cinesynth.errors import DataError
from cinesynth.types import Diagnosis
from tests.cases.exports import small

ROOT = Path(__file__).resolve().parents[2]
OURS = Terms("CC-BY-4.0", "Us et al., 2026")


def licence(**licences: str) -> str:
    return combined({name: Terms(text) for name, text in licences.items()})["licence"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("acdc", "CC-BY-NC-SA-4.0"),
        ("scd", "CC0-1.0"),
        ("scd_edes", "CC0-1.0"),
        ("mnms", RESEARCH),
        ("mnms2", RESEARCH),
        ("mnms_edes", RESEARCH),
        ("dsb", RESEARCH),
        ("najman4d", RESEARCH),
        ("phantom", "Apache-2.0"),
        ("cinema", UNKNOWN),
        ("dicom", UNKNOWN),
    ],
)
def test_each_dataset_has_its_terms(tmp_path: Path, name: str, expected: str) -> None:
    """CineMA's output may be of any dataset, and so may DICOM files: nobody can know."""
    terms = terms_of(tmp_path, [name])[name]
    assert terms.licence == expected
    assert bool(terms.citation) is (name not in ("phantom", "cinema", "dicom"))


def test_the_strictest_binds_and_all_are_listed(tmp_path: Path) -> None:
    found = combined(terms_of(tmp_path, ["scd", "phantom", "acdc", "scd_edes"]))
    assert found["licence"] == "CC-BY-NC-SA-4.0"
    assert found["licences"] == {
        "acdc": "CC-BY-NC-SA-4.0",
        "phantom": "Apache-2.0",
        "scd": "CC0-1.0",
        "scd_edes": "CC0-1.0",
    }
    assert [text.split()[0] for text in found["citations"]] == ["Bernard", "Radau"]  # once each, none for the phantom
    assert combined(terms_of(tmp_path, ["acdc", "mnms", "najman4d"]))["licence"] == RESEARCH
    assert combined(terms_of(tmp_path, ["phantom"])) == {
        "licence": "Apache-2.0",
        "licences": {"phantom": "Apache-2.0"},
        "citations": [],
    }


def test_what_cannot_be_compared_binds_too_and_the_unknown_is_not_guessed() -> None:
    assert licence(ours="by contract", acdc="CC-BY-NC-SA-4.0") == "by contract"
    assert licence(ours="by contract", mnms=RESEARCH) == f"by contract and {RESEARCH}"
    assert licence(ours=UNKNOWN, mnms=RESEARCH) == UNKNOWN


def test_terms_of_a_layout_travel_into_the_dataset_and_out_again(tmp_path: Path) -> None:
    ingest([small("a"), small("b")], tmp_path / "drawn")
    exported = export_nifti(dataset_items(tmp_path / "drawn"), tmp_path / "files")
    (path,) = exported.layouts
    tree = yaml.safe_load(path.read_text())
    assert "licence" not in tree  # nobody said it
    path.write_text(yaml.safe_dump({**tree, "licence": OURS.licence, "citation": OURS.citation}))

    ingest(read_nifti(path.parent, load_layout(path)), tmp_path / "again")
    assert terms_of(tmp_path / "again", ["drawn"]) == {"drawn": Terms(OURS.licence, OURS.citation, tree["note"])}
    exported = export_nifti(dataset_items(tmp_path / "again"), tmp_path / "out")
    layout = load_layout(exported.layouts[0])
    assert (layout.licence, layout.citation) == (OURS.licence, OURS.citation)

    ingest([small("c", dataset="other")], tmp_path / "again")  # what another source adds leaves them as they are
    assert terms_of(tmp_path / "again", ["drawn"])["drawn"].licence == OURS.licence


def test_a_dataset_of_an_earlier_version_and_a_damaged_one(tmp_path: Path) -> None:
    about = tmp_path / "dataset.json"
    about.write_text('{"format": 1, "kind": "cinesynth dataset", "manifest": "manifest.csv"}')
    assert terms_of(tmp_path, ["acdc"]) == {"acdc": KNOWN["acdc"]}
    for damaged in (
        "{",
        "[]",
        json.dumps({"terms": {"acdc": {"owner": "me"}}}),
        json.dumps({"terms": {"acdc": "mine"}}),
    ):
        about.write_text(damaged)
        with pytest.raises(DataError, match=r"dataset\.json"):
            terms_of(tmp_path, ["acdc"])


def test_what_weights_cite_the_package_cites() -> None:
    """Each identifier in a citation is in CITATION.cff."""
    references = (ROOT / "CITATION.cff").read_text()
    for name, terms in terms_of(ROOT, [*KNOWN, "najman4d", "mnms_edes", "scd_edes", "ukbb"]).items():
        for identifier in (word.partition(":")[2] for word in terms.citation.split() if ":" in word):
            assert identifier in references, f"{name}: {identifier}"


@pytest.mark.parametrize(
    ("text", "vendor"),
    [
        ("SIEMENS", "Siemens"),
        ("Siemens Healthineers", "Siemens"),
        ("Philips Medical Systems", "Philips"),
        ("GE MEDICAL SYSTEMS", "GE"),
        ("General Electric", "GE"),
        ("Canon Medical Systems", "Canon"),
        ("TOSHIBA_MEC", "Canon"),
        ("Gehealth", "Gehealth"),
        ("  Esaote ", "Esaote"),
        ("", "unknown"),
        ("  ", "unknown"),
    ],
)
def test_vendors_have_short_names(text: str, vendor: str) -> None:
    assert vendor_of(text) == vendor


@pytest.mark.parametrize(
    ("group", "diagnosis"),
    [
        ("NOR", Diagnosis.NOR),
        (" dcm ", Diagnosis.DCM),
        ("normal", Diagnosis.NOR),
        ("ARV", Diagnosis.RV),
        ("HF-I", Diagnosis.MINF),
        ("HF-NI", Diagnosis.DCM),
        ("HYP", Diagnosis.HCM),
        ("N", Diagnosis.NOR),
        ("HHD", Diagnosis.UNKNOWN),
        ("LV_noncompaction", Diagnosis.UNKNOWN),
        ("unknown", Diagnosis.UNKNOWN),
        ("", Diagnosis.UNKNOWN),
    ],
)
def test_groups_with_a_counterpart_have_a_diagnosis(group: str, diagnosis: Diagnosis) -> None:
    assert diagnosis_of(group) is diagnosis


def test_what_the_source_says_goes_first() -> None:
    assert diagnosis_of("hf-ni ", {"HF-NI": Diagnosis.MINF}) is Diagnosis.MINF
    assert diagnosis_of("HHD", {"hhd": Diagnosis.HCM}) is Diagnosis.HCM
    assert diagnosis_of("NOR", {"NOR": Diagnosis.UNKNOWN}) is Diagnosis.UNKNOWN
