"""Thousands of damaged datasets: each is refused with an error that helps, or read into studies that are valid."""

import os
import shutil
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cinesynth.data.ingest import ingest, read_skipped
from cinesynth.data.store import read_study
from cinesynth.errors import CinesynthError
from cinesynth.types import Study
from tests.data.mutations import damage
from tests.data.small_sources import SOURCES
from tests.limits import work_within

CASES = int(os.environ.get("CINESYNTH_FUZZ_CASES", "200"))
"""Of each source."""
FIRST = int(os.environ.get("CINESYNTH_FUZZ_FIRST", "0"))
"""Number of the first. Every case has its own seed: one that failed is run again by its number alone."""
SECONDS, MORE_BYTES = 60, 1 << 30
MEMORY = ("memoryerror", "unable to allocate", "into memory")
"""What is said where memory was asked for before the size that a header claims was doubted."""


def test_the_floor_of_cases() -> None:
    assert CASES * len(SOURCES) >= 2000 or "CINESYNTH_FUZZ_CASES" in os.environ


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_damaged_data_are_refused_or_read(name: str, tmp_path: Path) -> None:
    whole, place = tmp_path / "whole", tmp_path / "case"
    SOURCES[name][0](whole)
    counts: Counter[str] = Counter()
    failures: list[str] = []
    for case in range(FIRST, FIRST + CASES):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(whole, place / "in")
        rng = np.random.default_rng([list(SOURCES).index(name), case])
        done = [damage(rng, place / "in") for _ in range(rng.integers(1, 4))]
        before = tree(tmp_path)
        wrong = run(name, place / "in", place / "out", counts)
        shutil.rmtree(place / "out", ignore_errors=True)
        wrong += [f"outside the dataset: {path}" for path in sorted(tree(tmp_path) ^ before)]
        if wrong:
            failures.append("\n".join([f"{name} case {case} ({'; '.join(done)}):", *wrong]))
    print(
        f"{name}: {CASES} cases, {counts['accepted']} studies accepted, {counts['refused']} studies or sources refused"
    )
    assert not failures, f"{len(failures)} of {CASES} cases\n" + "\n".join(failures[:5])
    assert CASES < 100 or min(counts["accepted"], counts["refused"]) >= CASES // 20


def tree(folder: Path) -> set[tuple[str, int]]:
    """Names and sizes of all that lies in a folder."""
    return {(str(path), path.lstat().st_size) for path in folder.rglob("*") if not path.is_dir()}


def run(name: str, root: Path, out: Path, counts: Counter[str]) -> list[str]:
    """What went wrong while a damaged source was read; nothing, if it was refused or gave valid studies."""
    try:
        with work_within(SECONDS, MORE_BYTES), warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            source = SOURCES[name][1](root)
            summary = ingest(source, out, on_error="skip", workers=1)
    except CinesynthError as error:
        counts["refused"] += 1
        return unhelpful(error.message, error.hint)
    except BaseException:
        return [traceback.format_exc()]
    listed = summary.skipped
    counts.update(accepted=len(summary.added), refused=len(listed) - len(source.skipped))
    wrong = [str(warning.message) for warning in heard]
    wrong += [fault for each in listed for fault in unhelpful(each.reason, each.hint)]
    wrong += [fault for row in summary.added for fault in faults(read_study(out / row.file))]
    if len(source) != len(summary.added) + len(listed) - len(source.skipped):
        wrong.append(f"of {source.names} some are neither in the dataset nor in its list")
    if {each.reason for each in read_skipped(out)} < {r.reason for r in listed if r.reason.isprintable()}:
        wrong.append("skipped.csv does not tell all that was left out")
    return wrong


def unhelpful(message: str, hint: str) -> list[str]:
    said = f"{message}\n{hint}".lower()
    return [] if message and not any(word in said for word in MEMORY) else [f"{message!r} {hint!r}"]


def faults(study: Study) -> list[str]:
    """What is wrong with a study that was accepted, told without the package's own checks."""
    shape, stored = study.image.shape, study.frame_index.tolist()
    facts = {
        "shapes": study.label.shape == shape and study.coverage.shape == (shape[0], shape[3], 3) and min(shape) > 0,
        "voxels": bool(np.isfinite(study.image.astype(np.float64)).all() and np.isfinite(study.affine).all()),
        "labels": set(np.unique(study.label).tolist()) <= {0, 1, 2, 3},
        "spacing": min(study.spacing_mm) >= 0.29 and max(study.spacing_mm) <= 31.0,
        "phases": study.ed_index != study.es_index and {study.ed_index, study.es_index} <= set(stored),
        "frames": len(set(stored)) == shape[0] and max(stored) < study.frames_in_cycle < 2**31,
        "frame time": study.frame_time_ms is None or 0.0 < study.frame_time_ms < 1000.0,
    }
    return [f"a study was accepted with wrong {fact}" for fact, holds in facts.items() if not holds]
