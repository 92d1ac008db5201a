"""A screen decides which anatomies may be kept at all."""

from pathlib import Path

import numpy as np
import pytest

from cinesynth.errors import InputError, OutputError
from cinesynth.memorisation.duplicate_filter import DuplicateFilter
from cinesynth.synthesis.cohort import generate_cohort
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.request import Request
from cinesynth.types import ClinicalPrior, Diagnosis, FloatArray, LabelArray

PRIOR = ClinicalPrior(Diagnosis.NOR, 130.0, 50.0, 7)


def with_screen(pipe: CinePipeline, screen: DuplicateFilter) -> CinePipeline:
    return CinePipeline(pipe.bundle, "cpu", screen)


def test_a_refused_anatomy_is_drawn_again_and_never_kept(pipe: CinePipeline) -> None:
    plain = pipe(PRIOR, frames=3, seed=5, max_attempts=1)
    seen: list[FloatArray] = []

    def reject_reason(image: FloatArray, label: LabelArray) -> str:
        assert image.shape == label.shape == plain.label.shape[1:]
        seen.append(image)
        return "too well known" if np.array_equal(image, plain.image[0]) else ""

    cine = with_screen(pipe, DuplicateFilter("a test", reject_reason))(PRIOR, frames=3, seed=5, max_attempts=2)
    assert [np.array_equal(image, plain.image[0]) for image in seen] == [True, False, False]  # a refusal is no try
    assert any(np.array_equal(cine.image[0], image) for image in seen[1:])
    assert cine.provenance["duplicate_filters"] == "a test"
    assert cine.provenance["acceptance"]["anatomy"]["near_duplicates"] == 1
    assert "duplicate_filters" not in plain.provenance


def test_where_every_draw_is_refused_there_is_no_case(pipe: CinePipeline, tmp_path: Path) -> None:
    nothing = with_screen(pipe, DuplicateFilter("strict", lambda *_: "a near-copy"))
    with pytest.raises(InputError, match="all 8 candidates were rejected: a near-copy") as error:
        generate_cohort(nothing, [Request(PRIOR, seed=1, frames=3, max_attempts=2)], tmp_path, pictures=False)
    assert "another seed" in error.value.hint
    assert not (tmp_path / "case_0000").exists()


def test_a_cohort_does_not_go_on_with_unscreened_cases(pipe: CinePipeline, tmp_path: Path) -> None:
    requests = [Request(PRIOR, seed=1, frames=3, max_attempts=1)]
    generate_cohort(pipe, requests, tmp_path, pictures=False)
    lenient = with_screen(pipe, DuplicateFilter("lenient", lambda *_: ""))
    with pytest.raises(OutputError, match="of another request, other weights or another training index"):
        generate_cohort(lenient, requests, tmp_path, pictures=False)
