"""The table of a dataset: one row a subject, volumes measured on native labels, one split each."""

from __future__ import annotations

import csv
import hashlib
import io
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

import numpy as np

from cinesynth.errors import DataError
from cinesynth.io.files import write_text
from cinesynth.types import (
    SAME_ORIENTATION,
    STRUCTURES,
    BoolArray,
    Diagnosis,
    Label,
    Orientation,
    PhasesFrom,
    SlicesFrom,
    Study,
    is_contiguous,
    volumes_ml,
)

MANIFEST = "manifest.csv"
SPLITS = ("train", "validation", "test")
FRACTIONS = (0.7, 0.1, 0.2)
"""Shares of subjects in the order of `SPLITS`."""


def orientation_text(transform: Orientation) -> str:
    """An orientation transform in a cell: the axis that each one becomes and its direction, ``0+ 1+ 2-``."""
    return " ".join(f"{axis}{'-' if sign < 0 else '+'}" for axis, sign in transform)


@dataclass(frozen=True)
class Row:
    """One subject; ``None`` is unknown and an empty cell. Indices are zero-based, volumes native millilitres.

    ``coverage`` says of each structure in how many slices it was annotated at ED and at ES, of how many slices:
    ``RV -; MYO ED 7/12; LV ED 7/12 ES 5/12``. ``reported`` volumes are what the source states; nothing is trained on
    them. Columns with a default are missing in older datasets.
    """

    subject: str
    dataset: str
    vendor: str
    diagnosis: Diagnosis
    split: str
    frames: int
    stored_frames: int
    labelled_frames: int
    labels: str
    ed_index: int
    es_index: int
    frame_time_ms: float | None
    slices: int
    spacing_x_mm: float
    spacing_y_mm: float
    spacing_z_mm: float
    lv_edv_ml: float | None
    lv_esv_ml: float | None
    ef_percent: float | None
    rv_edv_ml: float | None
    rv_esv_ml: float | None
    myo_ed_ml: float | None
    myo_es_ml: float | None
    file: str
    sha256: str
    group: str = ""
    phases_from: PhasesFrom = "metadata"
    slices_from: SlicesFrom = "declared"
    to_source: str = orientation_text(SAME_ORIENTATION)
    coverage: str = ""
    reported_lv_edv_ml: float | None = None
    reported_lv_esv_ml: float | None = None
    notes: str = ""

    @property
    def stratum(self) -> str:
        """What a split shares out alike: vendor and group, as the source spells it where it does."""
        return f"{self.vendor} {self.group or self.diagnosis.value}"


@dataclass(frozen=True)
class Manifest:
    """The rows of a dataset in the order of ingestion; a subject has one row, so it is in one split."""

    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        seen: set[tuple[str, str]] = set()
        for row in self.rows:
            if row.split not in SPLITS:
                raise DataError(f"{row.subject} is in the split {row.split!r}", hint=f"one of {', '.join(SPLITS)}")
            if (row.dataset, row.subject) in seen:
                raise DataError(
                    f"{row.dataset} {row.subject} is in the dataset twice",
                    hint="each subject is ingested once: choose another dataset folder, or leave it out",
                )
            seen.add((row.dataset, row.subject))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of the dataset in ``folder``; `DataError` if there is none or it is damaged."""
        path = Path(folder) / MANIFEST
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise DataError(
                f"{folder} is not a dataset: no readable {MANIFEST}", hint="make one: cinesynth ingest"
            ) from None
        reader = csv.DictReader(io.StringIO(text))
        columns = tuple(reader.fieldnames or ())
        if len(columns) < len(FIRST_COLUMNS) or columns != COLUMNS[: len(columns)]:
            raise DataError(f"{path} has other columns than expected", hint="ingest the sources again")
        try:
            return cls(tuple(Row(**{name: _parse(name, row[name]) for name in columns}) for row in reader))  # type: ignore[arg-type]
        except (ValueError, TypeError) as error:
            raise DataError(f"{path} is damaged: {error}", hint="ingest the sources again") from None

    def write(self, folder: Path) -> None:
        """Replace the manifest of ``folder`` atomically."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([_cell(getattr(row, name)) for name in COLUMNS] for row in self.rows)
        write_text(Path(folder) / MANIFEST, text.getvalue())


def data_hash(folder: Path) -> str:
    """SHA-256 of the manifest, which carries the SHA-256 of every study: it names the data exactly."""
    try:
        return hashlib.sha256((Path(folder) / MANIFEST).read_bytes()).hexdigest()
    except OSError:
        raise DataError(f"{folder} is not a dataset: no {MANIFEST}", hint="make one: cinesynth ingest") from None


def assign_splits(
    strata: Mapping[str, str],
    fractions: tuple[float, float, float] = FRACTIONS,
    *,
    seed: int = 0,
    taken: Mapping[str, int] | None = None,
) -> dict[str, str]:
    """The split of each subject (key) so that every stratum (value) is shared out alike.

    Subjects are ordered by stratum, then by a hash of their name and ``seed``, and each goes to the split that is
    furthest behind its share: a stratum of any size is split in proportion, and so is the whole. ``taken`` counts
    the subjects that each split already has. `DataError` unless the fractions are shares of one.
    """
    if min(fractions) < 0 or abs(sum(fractions) - 1.0) > 1e-6:
        raise DataError(f"split fractions {fractions} are not shares of 1", hint="for example 0.7 0.1 0.2")
    counts = {split: (taken or {}).get(split, 0) for split in SPLITS}
    shares = dict(zip(SPLITS, fractions, strict=True))
    result: dict[str, str] = {}
    for subject in sorted(strata, key=lambda name: (strata[name], _shuffled(name, seed))):
        total = sum(counts.values()) + 1
        behind = {split: round(shares[split] * total - counts[split], 9) for split in SPLITS}
        chosen = max(SPLITS, key=lambda split: (behind[split], -counts[split]))
        counts[chosen] += 1
        result[subject] = chosen
    return result


def describe(study: Study, split: str, file: str, sha256: str) -> Row:
    """The row of a study; a structure that is not labelled, or with a gap, has no volume, not a volume of zero."""
    ed, es = _volumes(study, study.ed_index), _volumes(study, study.es_index)
    lv_ed, lv_es = ed[Label.LV], es[Label.LV]
    x, y, z = (round(s, 6) for s in study.spacing_mm)
    return Row(
        subject=study.subject,
        dataset=study.dataset,
        vendor=study.vendor,
        diagnosis=study.diagnosis,
        split=split,
        frames=study.frames_in_cycle,
        stored_frames=len(study.image),
        labelled_frames=int(study.labelled.sum()),
        labels=" ".join(s.name for s in STRUCTURES if (study.label == s).any()),
        ed_index=study.ed_index,
        es_index=study.es_index,
        frame_time_ms=None if study.frame_time_ms is None else round(study.frame_time_ms, 6),
        slices=study.image.shape[3],
        spacing_x_mm=x,
        spacing_y_mm=y,
        spacing_z_mm=z,
        lv_edv_ml=lv_ed,
        lv_esv_ml=lv_es,
        ef_percent=None if lv_ed is None or lv_es is None else round(100.0 * (1.0 - lv_es / lv_ed), 3),
        rv_edv_ml=ed[Label.RV],
        rv_esv_ml=es[Label.RV],
        myo_ed_ml=ed[Label.MYO],
        myo_es_ml=es[Label.MYO],
        file=file,
        sha256=sha256,
        group=study.group,
        phases_from=study.phases_from,
        slices_from=study.slices_from,
        to_source=orientation_text(study.to_source),
        coverage="; ".join(f"{s.name} {_covered(study, study.coverage[..., i])}" for i, s in enumerate(STRUCTURES)),
        reported_lv_edv_ml=study.reported_lv_edv_ml,
        reported_lv_esv_ml=study.reported_lv_esv_ml,
        notes="; ".join(study.notes),
    )


def _covered(study: Study, coverage: BoolArray) -> str:
    """Slices (of all) in which one structure (``T Z``) was annotated at ED and at ES."""
    counts = {
        name: int(coverage[study.frame_index == index].sum())
        for name, index in (("ED", study.ed_index), ("ES", study.es_index))
    }
    return " ".join(f"{name} {count}/{coverage.shape[1]}" for name, count in counts.items() if count) or "-"


def _volumes(study: Study, frame: int) -> dict[Label, float | None]:
    (stored,) = np.flatnonzero(study.frame_index == frame)
    label, coverage = study.label[stored : stored + 1], study.coverage[stored]
    volumes = {s: float(volumes_ml(label, s, study.voxel_ml)[0]) for s in STRUCTURES}
    known = {s: volumes[s] > 0 and is_contiguous(coverage[:, i]) for i, s in enumerate(STRUCTURES)}
    return {s: round(volumes[s], 3) if known[s] else None for s in STRUCTURES}


def _shuffled(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


COLUMNS = tuple(field.name for field in fields(Row))
FIRST_COLUMNS = tuple(field.name for field in fields(Row) if field.default is MISSING)
"""Of the oldest datasets. New columns come last and have a default, so that a table that ends earlier is read."""
_TYPES = typing.get_type_hints(Row)


def _parse(name: str, text: str) -> object:
    kind = _TYPES[name]
    if kind == float | None:
        return float(text) if text else None
    if choices := typing.get_args(kind):
        if text not in choices:
            raise ValueError(f"{name} {text!r} is not one of {', '.join(choices)}")
        return text
    return kind(text)


def _cell(value: object) -> object:
    if isinstance(value, Diagnosis):
        return value.value
    return "" if value is None else repr(value) if isinstance(value, float) else value
