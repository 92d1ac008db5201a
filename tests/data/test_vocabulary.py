"""Names of vendors and groups as datasets write them."""

import pytest

from cinesynth.data.vocabulary import diagnosis_of, vendor_of
from cinesynth.types import Diagnosis


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
