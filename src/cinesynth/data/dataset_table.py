"""The table of a dataset, ``dataset.csv``: one row per subject, with its split and the volumes of its labels."""

from __future__ import annotations

import csv
import hashlib
import io
import typing
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path

from cinesynth.errors import DataError
from cinesynth.io.files import with_either_name, write_csv
from cinesynth.io.reproducibility import shuffle_key
from cinesynth.types import (
    SAME_ORIENTATION,
    STRUCTURES,
    BoolArray,
    Diagnosis,
    Label,
    LabelArray,
    Orientation,
    PhasesFrom,
    SlicesFrom,
    Study,
    is_contiguous,
    volumes_ml,
)

TABLE_FILE = "dataset.csv"
OLD_TABLE_FILE = "manifest.csv"
"""Its name in older datasets, read where there is no `TABLE_FILE`. Older cohorts use the same name."""
SPLITS = ("train", "validation", "test")
GENERATED = "generated"
"""The dataset name of generated cases wherever they stand beside real studies."""
OF_STUDY = (
    *("subject", "dataset", "vendor", "diagnosis", "ed_index", "es_index"),
    *("group", "phases_from", "slices_from", "reported_lv_edv_ml", "reported_lv_esv_ml"),
)
"""Columns that hold what a study states, as it is."""
FRACTIONS = (0.7, 0.1, 0.2)
"""Fractions of the subjects in the order of `SPLITS`."""


def orientation_text(transform: Orientation) -> str:
    """An orientation transform as text: for each axis, the axis it becomes and its direction, ``0+ 1+ 2-``."""
    return " ".join(f"{axis}{'-' if sign < 0 else '+'}" for axis, sign in transform)


@dataclass(frozen=True)
class SubjectRow:
    """One subject of a dataset. ``None`` means unknown and is an empty cell; frame indices are zero-based.

    Volumes are those of the native labels, in millilitres; ``reported`` volumes are stated by the source and never
    used in training. ``coverage`` gives, for each structure, the number of slices annotated at ED and at ES out of
    all slices: ``RV -; MYO ED 7/12; LV ED 7/12 ES 5/12``. Columns with a default are missing in older datasets.
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
        """Vendor and diagnosis group (as the source spells it, if it does): each is distributed over all splits."""
        return f"{self.vendor} {self.group or self.diagnosis.value}"


@dataclass(frozen=True)
class DatasetTable:
    """The rows of a dataset in the order of ingestion. A subject has one row, and so is in one split."""

    rows: tuple[SubjectRow, ...]

    def __post_init__(self) -> None:
        seen: set[tuple[str, str]] = set()
        for row in self.rows:
            if row.split not in SPLITS:
                raise DataError(
                    f"{row.subject} has the unknown split {row.split!r}",
                    hint=f"correct the column split of {TABLE_FILE}: one of {', '.join(SPLITS)}",
                )
            if (row.dataset, row.subject) in seen:
                raise DataError(
                    f"{row.dataset} {row.subject} is in the dataset twice",
                    hint="ingest a subject only once: choose another dataset folder, or leave this subject out",
                )
            seen.add((row.dataset, row.subject))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[SubjectRow]:
        return iter(self.rows)

    @classmethod
    def read(cls, folder: Path) -> DatasetTable:
        """The table of the dataset in ``folder``; `DataError` if there is none or it is damaged."""
        path = table_path(folder)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise _not_a_dataset(folder) from None
        reader = csv.DictReader(io.StringIO(text))
        columns = tuple(reader.fieldnames or ())
        if len(columns) < len(FIRST_COLUMNS) or columns != COLUMNS[: len(columns)]:
            raise DataError(f"{path} does not have the columns of a dataset", hint="ingest the sources again")
        try:
            return cls(tuple(SubjectRow(**{name: _parse(name, row[name]) for name in columns}) for row in reader))  # type: ignore[arg-type]
        except (ValueError, TypeError) as error:
            raise DataError(f"{path} is damaged: {error}", hint="ingest the sources again") from None

    def write(self, folder: Path) -> None:
        """Replace the table of ``folder`` atomically; a table under the old name is removed."""
        write_csv(Path(folder) / TABLE_FILE, COLUMNS, map(asdict, self.rows))  # None becomes an empty cell
        if _lists_subjects(old := Path(folder) / OLD_TABLE_FILE):
            with suppress(OSError):  # harmless if it stays: the new name is read first
                old.unlink()


def table_path(folder: Path) -> Path:
    """The table of the dataset in ``folder``, which need not exist; the old name only where the new one is absent."""
    return with_either_name(Path(folder) / TABLE_FILE, Path(folder) / OLD_TABLE_FILE)


def is_dataset(folder: Path) -> bool:
    """Whether ``folder`` holds a dataset, rather than a cohort or something else."""
    return (Path(folder) / TABLE_FILE).is_file() or _lists_subjects(Path(folder) / OLD_TABLE_FILE)


def _lists_subjects(path: Path) -> bool:
    """Whether a ``manifest.csv`` is a dataset's: that of a cohort begins with the column ``case``."""
    with suppress(OSError, UnicodeDecodeError), path.open(encoding="utf-8") as file:
        return file.readline().startswith("subject,")
    return False


def _not_a_dataset(folder: Path) -> DataError:
    return DataError(
        f"{folder} is not a dataset: it has no readable {TABLE_FILE}", hint="create one with cinesynth ingest"
    )


def data_hash(folder: Path) -> str:
    """SHA-256 of the table, which holds the SHA-256 of every study and so identifies the data exactly."""
    try:
        return hashlib.sha256(table_path(folder).read_bytes()).hexdigest()
    except OSError:
        raise _not_a_dataset(folder) from None


def assign_splits(
    strata: Mapping[str, str],
    fractions: tuple[float, float, float] = FRACTIONS,
    *,
    seed: int = 0,
    taken: Mapping[str, int] | None = None,
) -> dict[str, str]:
    """The split of each subject (key of ``strata``), with every stratum (value) divided by the same ``fractions``.

    Subjects are ordered by stratum, then by a hash of their name and ``seed``, and each goes to the split that lacks
    most to reach its fraction: so each stratum, and the whole, is divided in proportion. ``taken`` is the number of
    subjects that each split already has. `DataError` if the fractions are negative or do not add up to 1.
    """
    if min(fractions) < 0 or abs(sum(fractions) - 1.0) > 1e-6:
        raise DataError(f"split fractions {fractions} do not add up to 1", hint="for example 0.7 0.1 0.2")
    counts = {split: (taken or {}).get(split, 0) for split in SPLITS}
    shares = dict(zip(SPLITS, fractions, strict=True))
    result: dict[str, str] = {}
    for subject in sorted(strata, key=lambda name: (strata[name], shuffle_key(f"{seed}:{name}"))):
        total = sum(counts.values()) + 1
        missing = {split: round(shares[split] * total - counts[split], 9) for split in SPLITS}
        chosen = max(SPLITS, key=lambda split: (missing[split], -counts[split]))
        counts[chosen] += 1
        result[subject] = chosen
    return result


def describe(study: Study, split: str, file: str, sha256: str) -> SubjectRow:
    """The row of a study, whose volumes are those of `known_volumes_ml`."""
    stored = {"ED": study.frame_index == study.ed_index, "ES": study.frame_index == study.es_index}
    frames = [int(frame.argmax()) for frame in stored.values()]
    known = (known_volumes_ml(study.label[t], study.coverage[t], study.voxel_ml) for t in frames)
    ed, es = ({s: None if ml is None else round(ml, 3) for s, ml in volumes.items()} for volumes in known)
    lv_ed, lv_es = ed[Label.LV], es[Label.LV]
    coverage = []
    for i, structure in enumerate(STRUCTURES):
        counts = {name: int(study.coverage[frame, :, i].sum()) for name, frame in stored.items()}
        parts = [f"{name} {count}/{study.coverage.shape[1]}" for name, count in counts.items() if count]
        coverage.append(f"{structure.name} {' '.join(parts) or '-'}")
    x, y, z = (round(s, 6) for s in study.spacing_mm)
    return SubjectRow(
        **{name: getattr(study, name) for name in OF_STUDY},
        split=split,
        frames=study.frames_in_cycle,
        stored_frames=len(study.image),
        labelled_frames=int(study.labelled.sum()),
        labels=" ".join(s.name for s in STRUCTURES if (study.label == s).any()),
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
        to_source=orientation_text(study.to_source),
        coverage="; ".join(coverage),
        notes="; ".join(study.notes),
    )


def known_volumes_ml(label: LabelArray, coverage: BoolArray, voxel_ml: float) -> dict[Label, float | None]:
    """Volume of each structure in one frame, ``X Y Z``, millilitres.

    None without a voxel, or if its ``coverage``, ``Z S``, is empty or has a gap.
    """
    volumes = {s: float(volumes_ml(label[None], s, voxel_ml)[0]) for s in STRUCTURES}
    known = {s: volumes[s] > 0 and is_contiguous(coverage[:, i]) for i, s in enumerate(STRUCTURES)}
    return {s: volumes[s] if known[s] else None for s in STRUCTURES}


COLUMNS = tuple(field.name for field in fields(SubjectRow))
FIRST_COLUMNS = tuple(field.name for field in fields(SubjectRow) if field.default is MISSING)
"""Columns of the oldest datasets. New columns are appended with a default, so that older tables can be read."""
_TYPES = typing.get_type_hints(SubjectRow)


def _parse(name: str, text: str) -> object:
    """The value of a cell; ``ValueError`` if it is not of the type of its column."""
    kind = _TYPES[name]
    if kind == float | None:
        return float(text) if text else None
    if choices := typing.get_args(kind):
        if text not in choices:
            raise ValueError(f"{name} {text!r} is not one of {', '.join(choices)}")
        return text
    return kind(text)
