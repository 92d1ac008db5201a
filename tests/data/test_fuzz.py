"""Thousands of damaged datasets: each is refused with an error that helps, or read into studies that are valid."""

import os
import shutil
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tests.data.mutations import damage
from tests.data.small_sources import SOURCES
from tests.limits import work_within

from cinesynth.data.ingest import ingest
from cinesynth.data.rejected import read_rejected
from cinesynth.data.store import read_study
from cinesynth.errors import CinesynthError
from cinesynth.types import Study

CASES = int(os.environ.get("CINESYNTH_FUZZ_CASES", "200"))
"""Of each source."""
FIRST = int(os.environ.get("CINESYNTH_FUZZ_FIRST", "0"))
"""Number of the first: with one case, what a failure names can be seen again."""
SECONDS, MORE_BYTES = 60, 1 << 30
MEMORY = ("memoryerror", "unable to allocate", "into memory")


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def run(name: str, root: Path, out: Path) -> str:
    """What became of a damaged source: ``accepted`` or ``refused``; anything else is a failure."""
    try:
        with work_within(SECONDS, MORE_BYTES), warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            source = SOURCES[name][1](root)
            summary = ingest(source, out, on_error="skip", workers=1)
    except CinesynthError as error:
        return _told(error.message, error.hint)
    except BaseException:
        return traceback.format_exc()
    reasons = [(rejection.reason, rejection.hint) for rejection in summary.rejected]
    wrong = [w for w in (*(_told(*reason) for reason in reasons), *map(str, told)) if w != "refused"]
    if {row.subject for row in summary.added} | {r.name for r in summary.rejected} < set(source.names):
        wrong.append(f"lost a subject of {source.names}")
    if len(read_rejected(out)) != len(set(summary.rejected)):
        wrong.append("rejected.csv does not hold what was left out")
    wrong += [fault for row in summary.added for fault in faults(read_study(out / row.file))]
    return "\n".join(wrong) or "accepted"


def _told(message: str, hint: str) -> str:
    """An error must say something, and a header that lies must be refused before memory is asked for."""
    if not message or any(w in f"{message} {hint}".lower() for w in MEMORY):
        return f"{message!r} {hint!r}"
    return "refused"


def faults(study: Study) -> list[str]:
    """What is wrong with a study that was accepted, told without the package's own checks."""
    shape, stored = study.image.shape, study.frame_index.tolist()
    facts = {
        "shapes": study.label.shape == shape and study.coverage.shape == (shape[0], shape[3], 3) and min(shape) > 0,
        "finite": bool(np.isfinite(study.image.astype(np.float64)).all() and np.isfinite(study.affine).all()),
        "labels": set(np.unique(study.label).tolist()) <= {0, 1, 2, 3},
        "spacing": min(study.spacing_mm) >= 0.29 and max(study.spacing_mm) <= 31.0,
        "phases": study.ed_index != study.es_index and {study.ed_index, study.es_index} <= set(stored),
        "frames": len(set(stored)) == shape[0] and max(stored) < study.frames_in_cycle < 2**31,
        "frame time": study.frame_time_ms is None or 0.0 < study.frame_time_ms < 1000.0,
    }
    return [f"a study was accepted with wrong {fact}" for fact, holds in facts.items() if not holds]


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_damaged_data_are_refused_or_read(name: str, tmp_path: Path) -> None:
    whole, place = tmp_path / "whole", tmp_path / "case"
    SOURCES[name][0](whole)
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    for case in range(FIRST, FIRST + CASES):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(whole, place / "in")
        rng = np.random.default_rng([list(SOURCES).index(name), case])
        done = [damage(rng, place / "in") for _ in range(rng.integers(1, 4))]
        before, elsewhere = tree(place), tree(tmp_path)
        outcome = run(name, place / "in", place / "out")
        shutil.rmtree(place / "out", ignore_errors=True)
        if (tree(place), tree(tmp_path)) != (before, elsewhere):
            outcome = f"files outside the dataset: {set(tree(tmp_path)) ^ set(elsewhere)}"
        outcomes[outcome if outcome in ("accepted", "refused") else "failed"] += 1
        if outcome not in ("accepted", "refused"):
            failures.append(f"{name} case {case} ({'; '.join(done)}):\n{outcome}")
    print(f"{name}: {sum(outcomes.values())} cases, {outcomes['accepted']} accepted, {outcomes['refused']} refused")
    assert not failures, f"{len(failures)} of {CASES} cases\n" + "\n".join(failures[:5])
    assert sum(outcomes.values()) == CASES
    assert CASES < 100 or min(outcomes["accepted"], outcomes["refused"]) >= CASES // 20


def test_the_floor_of_cases() -> None:
    assert CASES * len(SOURCES) >= 2000 or "CINESYNTH_FUZZ_CASES" in os.environ
