"""From sources to a dataset folder: studies, manifest and splits, all of them or nothing."""

from __future__ import annotations

import re
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from cinesynth.atomic import make_folder, write_json, writing
from cinesynth.data import Progress
from cinesynth.data.manifest import FRACTIONS, MANIFEST, SPLITS, Manifest, Row, assign_splits, describe
from cinesynth.data.sources import Source
from cinesynth.data.store import write_study
from cinesynth.errors import DataError, OutputError
from cinesynth.types import Study

DATASET = "dataset.json"
FORMAT = 1


@dataclass(frozen=True)
class Summary:
    """What an ingestion added."""

    folder: Path
    added: tuple[Row, ...]
    skipped: tuple[tuple[str, str], ...]
    """Name and reason of each study left out (only with ``on_error="skip"``)."""
    total: int
    """Subjects in the dataset now."""
    file_bytes: int
    """Size of the added studies."""

    def counts(self) -> dict[tuple[str, str, str], Counter[str]]:
        """Subjects in each split, by (dataset, vendor, diagnosis)."""
        result: dict[tuple[str, str, str], Counter[str]] = {}
        for row in self.added:
            result.setdefault((row.dataset, row.vendor, row.diagnosis.value), Counter())[row.split] += 1
        return result


def ingest(
    studies: Source | Sequence[Study],
    out: Path,
    *,
    fractions: tuple[float, float, float] = FRACTIONS,
    seed: int = 0,
    on_error: Literal["stop", "skip"] = "stop",
    progress: Progress | None = None,
) -> Summary:
    """Add ``studies`` to the dataset in ``out`` (made if absent); the subjects already there keep their split.

    Files are written into a staging folder and moved when all are there; the manifest follows last. So a bad study
    (`DataError`), a full disk (`OutputError`) or an interruption leaves ``out`` as it was.
    """
    out, source = Path(out), studies if isinstance(studies, Source) else _as_source(studies)
    before = _existing(out)
    with _staging(out) as staging:
        staged, skipped = _stage(source, staging, before, on_error, progress)
        added = _share_out(staged, before, fractions, seed)
        manifest = Manifest((*before.rows, *added))
        _publish(staging, out, manifest, added)
    file_bytes = sum((out / row.file).stat().st_size for row in added)
    return Summary(out, added, tuple(skipped), len(manifest), file_bytes)


def _as_source(studies: Sequence[Study]) -> Source:
    numbered = {f"{number}": study for number, study in enumerate(studies)}
    return Source(tuple(numbered), numbered.__getitem__)


def _existing(out: Path) -> Manifest:
    if (out / MANIFEST).exists():
        return Manifest.read(out)
    with writing(out):
        foreign = out.exists() and any(not path.name.startswith(".") for path in out.iterdir())
    if foreign:
        raise OutputError(f"{out} holds other files and no {MANIFEST}", hint="name a new folder or an earlier dataset")
    return Manifest(())


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    new = not out.exists()
    staging = make_folder(out / f".tmp-ingest-{secrets.token_hex(4)}")
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if new:
            with suppress(OSError):  # only an empty folder can be removed: nothing was published
                out.rmdir()


def _stage(
    source: Source, staging: Path, before: Manifest, on_error: str, progress: Progress | None
) -> tuple[list[Row], list[tuple[str, str]]]:
    rows: list[Row] = []
    skipped: list[tuple[str, str]] = []
    seen = {(row.dataset, row.subject) for row in before}
    for number, name in enumerate(source.names, start=1):
        try:
            rows.append(_stage_one(source.read(name), staging, seen))
        except DataError as error:
            if on_error == "stop":
                raise
            skipped.append((name, error.message))
        if progress:
            progress(number, len(source), name)
    if not rows:
        raise DataError("no study could be read", hint="the reasons: " + "; ".join(reason for _, reason in skipped))
    return rows, skipped


def _stage_one(study: Study, staging: Path, seen: set[tuple[str, str]]) -> Row:
    if (study.dataset, study.subject) in seen:
        raise DataError(
            f"{study.dataset} {study.subject} is in the dataset already",
            hint="each subject is ingested once: choose another dataset folder, or leave it out",
        )
    name = f"{study.dataset}_{study.subject}.h5"
    if not re.fullmatch(r"[A-Za-z0-9_.+-]+", name):
        raise DataError(f"{name!r} cannot be a file name", hint="subjects are letters, digits and . _ + -")
    digest = write_study(staging / name, study)
    seen.add((study.dataset, study.subject))
    return describe(study, SPLITS[0], f"studies/{name}", digest)  # `_share_out` gives the split


def _share_out(rows: list[Row], before: Manifest, fractions: tuple[float, float, float], seed: int) -> tuple[Row, ...]:
    """Each source is split on its own, and goes on from what the dataset already has of it."""
    splits: dict[str, str] = {}
    for dataset in {row.dataset for row in rows}:
        strata = {row.file: f"{row.vendor} {row.diagnosis.value}" for row in rows if row.dataset == dataset}
        taken = Counter(row.split for row in before if row.dataset == dataset)
        splits |= assign_splits(strata, fractions, seed=seed, taken=taken)
    return tuple(replace(row, split=splits[row.file]) for row in rows)


def _publish(staging: Path, out: Path, manifest: Manifest, added: tuple[Row, ...]) -> None:
    studies, moved = make_folder(out / "studies"), []
    try:
        for row in added:
            target = out / row.file
            with writing(target):
                (staging / target.name).replace(target)
            moved.append(target)
        write_json(out / DATASET, {"format": FORMAT, "kind": "cinesynth dataset", "manifest": MANIFEST})
        manifest.write(out)
    except BaseException:
        for target in moved:
            target.unlink(missing_ok=True)
        if len(manifest) == len(added):
            (out / DATASET).unlink(missing_ok=True)
            with suppress(OSError):
                studies.rmdir()
        raise
