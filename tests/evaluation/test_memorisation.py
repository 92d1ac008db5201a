"""Copies of training subjects are found, whatever was done to hide them; people are not taken for copies."""

import io
from pathlib import Path

import pytest
from PIL import Image

from cinesynth.errors import DataError
from cinesynth.evaluation import memorisation
from cinesynth.evaluation.cases import CaseSet
from cinesynth.evaluation.measure import Measured, measure, thumbnails_of
from cinesynth.evaluation.section import Measurements, Section
from cinesynth.memorisation.duplicate_filter import TrainingIndex, index_filter
from tests.evaluation.planted import disguised, noisy

QUESTION = memorisation.section_spec()


def measured(cases: CaseSet) -> Measured:
    return measure(cases, QUESTION.measurers, workers=1)


@pytest.fixture(scope="module")
def real(train: CaseSet, held_out: CaseSet) -> tuple[Measured, Measured]:
    return measured(train), measured(held_out)


def section(generated: CaseSet, train: CaseSet, held_out: CaseSet, real: tuple[Measured, Measured]) -> Section:
    return QUESTION.evaluate(Measurements(measured(generated), *real, generated, train, held_out))


def test_people_are_no_copies(
    synthetic: CaseSet, train: CaseSet, held_out: CaseSet, real: tuple[Measured, Measured]
) -> None:
    for people in (held_out, synthetic):
        found = section(people, train, held_out, real)
        assert {m.name: m.judgement for m in found.metrics if m.judgement in ("warn", "fail")} == {}
        assert found.judgement == "pass"
        rate = found.metrics[0]
        assert (rate.value, rate.low) == (0.0, 0.0)
        assert rate.high == pytest.approx(1 - 0.025 ** (1 / len(people)))  # Clopper and Pearson at no success


@pytest.mark.parametrize("change", [noisy, disguised], ids=["noise", "moved, darker, softer"])
def test_copies_are_caught(change, train: CaseSet, held_out: CaseSet, real: tuple[Measured, Measured]) -> None:
    copies = train.changed("copies", change)
    found = section(copies, train, held_out, real)
    rates = {m.name: m.value for m in found.metrics if m.value is not None}
    assert (rates["near-copies (image)"], rates["near-copies (mask)"]) == (1.0, 1.0)
    assert found.judgement == "fail"
    for generated, nearest_subject, *_, verdict in found.tables[0].rows:
        assert (nearest_subject, verdict) == (generated, "near-copy")
    assert Image.open(io.BytesIO(found.figures[0].png)).width > 400


def test_one_copy_among_new_hearts_is_caught(
    synthetic: CaseSet, train: CaseSet, held_out: CaseSet, real: tuple[Measured, Measured]
) -> None:
    copy = train.changed("copy", noisy)
    mixed = CaseSet(
        "mixed", (*synthetic.names, "copy"), lambda i: synthetic[i] if i < len(synthetic) else copy[5], train.grid, "m"
    )
    found = section(mixed, train, held_out, real)
    assert found.metrics[0].value == pytest.approx(1 / 13)
    assert found.metrics[0].judgement == "fail"
    assert found.tables[0].rows[0][:2] == ("copy", train.names[5])


def test_latents_that_are_missing_say_why(
    synthetic: CaseSet, train: CaseSet, held_out: CaseSet, real: tuple[Measured, Measured]
) -> None:
    found = {m.name: m for m in section(synthetic, train, held_out, real).metrics}
    assert "no weights folder" in found["near-copies (latent)"].missing


# --- the filter ------------------------------------------------------------------------------------------------------


def test_training_subjects_are_recognised_from_a_file(
    train: CaseSet, held_out: CaseSet, synthetic: CaseSet, real: tuple[Measured, Measured], tmp_path: Path
) -> None:
    path = tmp_path / "known.safetensors"
    stacks = [{space: hearts[f"thumbnail.{space}"] for space in ("image", "mask")} for hearts in real]
    TrainingIndex.of(train.names, *stacks).save(path)
    assert path.stat().st_size < 25_000 * len(train)
    known = TrainingIndex.load(path)
    for i in (0, 7):
        copy = known.search(thumbnails_of(disguised(train[i])))
        assert copy is not None
        assert (copy.subject, copy.space) == (train.names[i], "image")
        assert copy.closeness < 0.5
    assert [known.search(thumbnails_of(case)) for case in (*held_out, synthetic[0])] == [None] * 5


def test_a_screen_refuses_copies_of_the_training_split_and_nobody_else(
    people: Path, train: CaseSet, held_out: CaseSet, tmp_path: Path
) -> None:
    path = tmp_path / "known.safetensors"
    known = TrainingIndex.build(people, train.grid)
    assert known.names == train.names
    known.save(path)
    judge = index_filter(path, train.grid)
    assert len(judge.identity.removeprefix("training index ")) == 64
    copy = disguised(train[3])
    refused = judge.reject_reason(copy.intensity[copy.ed], copy.label[copy.ed])
    assert refused.startswith("near-duplicate of a training subject (image, closeness 0.")
    assert train.names[3] not in refused  # a message must not name a patient
    assert [judge.reject_reason(case.intensity[case.ed], case.label[case.ed]) for case in held_out] == [""] * 4


@pytest.mark.parametrize("content", [b"", b"not safetensors at all"])
def test_a_file_of_something_else_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "known.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is not a training index") as error:
        TrainingIndex.load(path)
    assert error.value.hint
