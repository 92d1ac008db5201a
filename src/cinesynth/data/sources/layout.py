"""Layouts: a YAML file that describes a folder of NIfTI files (see `patterns` for the names of files).

Where a setting is a number, text names a column of the table instead.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Discriminator, Field, PrivateAttr, Tag, ValidationError, model_validator

from cinesynth.config.fields import Settings
from cinesynth.data.nifti import Numbers
from cinesynth.data.orientation import SliceOrder
from cinesynth.data.sources.patterns import FRAME, NUMBERED, SLICE, SUBJECT, Pattern
from cinesynth.errors import ConfigError
from cinesynth.io.tables import MAX_FRAMES, read_small
from cinesynth.types import Diagnosis, Label

Structure = Literal["RV", "MYO", "LV"]
FrameNumber = Annotated[int, Field(ge=0, lt=MAX_FRAMES)] | str
"""A frame number, or the column with it."""
Edge = Annotated[float, Field(gt=0.0, le=30.0)] | str | None
"""Millimetres, or the column with them; none means as in the header."""
FOLDER = Path(__file__).parent.parent / "layouts"
LabelNumber = Annotated[int, Field(ge=1, le=65535)]


class EdEsFiles(Settings):
    """Patterns of the ED and ES files, one frame each."""

    ed: Pattern
    es: Pattern


class LabelFiles(Settings):
    """Patterns of the label files of ED and ES, or of one of them."""

    ed: Pattern | None = None
    es: Pattern | None = None

    @model_validator(mode="after")
    def _one_at_least(self) -> LabelFiles:
        if self.ed is None and self.es is None:
            raise ValueError("give ed, es or both")
        return self


class PhaseSettings(Settings):
    """Which frames are ED and ES."""

    ed: FrameNumber
    es: FrameNumber | None = None
    """Where ES is not known, it is assumed at the usual part of the cycle."""
    frames: FrameNumber | None = None
    """Number of frames in the whole cycle, if the files do not contain all of them."""
    known_from: str | None = None
    """Column with the origin of ED and ES if that is not metadata: ``labels``, ``model`` or ``assumed``."""


def _form(value: object) -> str:
    """Which form a setting has that may be a pattern or word, a table of settings, or a table of patterns."""
    if isinstance(value, dict):
        return "files" if any(SUBJECT in str(each) for each in value.values()) else "settings"
    return "text" if isinstance(value, str) else "files" if isinstance(value, EdEsFiles | LabelFiles) else "settings"


def _pattern_or_files(value: object) -> str:
    return "text" if isinstance(value, str) else "files"


_Image = Annotated[Pattern, Tag("text")] | Annotated[EdEsFiles, Tag("files")]
_Label = Annotated[Pattern, Tag("text")] | Annotated[LabelFiles, Tag("files")]
_Phases = (
    Annotated[Literal["labels"], Tag("text")]
    | Annotated[PhaseSettings, Tag("settings")]
    | Annotated[EdEsFiles, Tag("files")]
)


class TableColumns(Settings):
    """The CSV table of the subjects, and its columns."""

    file: str
    """Path below the folder."""
    subject: str
    """Column with the subjects' names."""
    vendor: str | None = None
    group: str | None = None
    lv_edv_ml: str | None = None
    """Volumes measured by others; kept as reported volumes, beside those measured from the labels."""
    lv_esv_ml: str | None = None


class Layout(Settings):
    """A folder of NIfTI files."""

    dataset: Annotated[str, Field(pattern=r"^[A-Za-z0-9+-]+(_[A-Za-z0-9+-]+)*$")]
    """The dataset's name in the manifest."""
    licence: str = ""
    """Licence of the data, as an SPDX name (``CC-BY-4.0``) where there is one; stored with the dataset."""
    citation: str = ""
    """What users of the data should cite."""
    note: str = ""
    """Further remarks, stored with the dataset."""
    image: Annotated[_Image, Discriminator(_pattern_or_files)]
    """A 4D file; with ``{frame}`` or ``{time_ms}``, one file per frame; with ``{slice}``, one 4D file per slice; or the
    files of ED and ES."""
    label: Annotated[_Label, Discriminator(_pattern_or_files)] | None = None
    """As ``image``, or files of ED and ES (or of one of them) beside a cycle. In a 4D label file, frames that are all 0
    count as unlabelled."""
    labels: dict[Structure | Literal["background"], LabelNumber | tuple[LabelNumber, ...]] = Field(default_factory=dict)
    """What the numbers of label files mean; any other number is an error."""
    covers: dict[Structure, tuple[Literal["ed", "es", "all"], ...]] = Field(default_factory=dict)
    """Frames in which a structure was annotated, if that is not every labelled frame."""
    empty_slices: Literal["background", "unknown"] = "background"
    """Meaning of a slice without any structure in a labelled frame: outside the heart, or not annotated."""
    phases: Annotated[_Phases, Discriminator(_form)] | None = None
    """ED and ES: frame numbers, or image files that are copies of these two frames, which are found by their voxels. By
    default they are the frames with the largest and smallest labelled LV, or assumed without labels; with ``labels`` it
    is an error if labels do not determine them. Not needed for ED and ES files."""
    counts_from: Literal[0, 1] = 0
    """The number of the first frame, in file names and in the table."""
    table: TableColumns | None = None
    vendor: str = ""
    diagnoses: dict[str, Diagnosis] = Field(default_factory=dict)
    """Diagnosis of a group, where the group's name does not tell."""
    spacing_mm: tuple[Edge, Edge, Edge] = (None, None, None)
    """True voxel edges, where the headers have lost them."""
    slices: SliceOrder = "auto"

    _file: Path | None = PrivateAttr(default=None)

    @property
    def file(self) -> Path | None:
        """The file that this layout was loaded from, if any."""
        return self._file

    @property
    def columns(self) -> TableColumns:
        """The columns of the table; none is named if there is no table."""
        return self.table or TableColumns(file="", subject="")

    @property
    def numbers(self) -> Numbers:
        """Structure of each number in the label files."""
        return dict(self._meanings())

    @property
    def structures(self) -> tuple[Label, ...]:
        """The structures that labels can contain."""
        return tuple(Label[name] for name in self.labels if name != "background")

    def _meanings(self) -> list[tuple[int, Label]]:
        given = {name: (one,) if isinstance(one, int) else one for name, one in self.labels.items()}
        return [(number, Label[name.upper()]) for name, numbers in given.items() for number in numbers]

    @model_validator(mode="after")
    def _labels_are_declared(self) -> Layout:
        if (self.label is None) != (not self.structures):
            raise ValueError("label (the files) and labels (their numbers) must be given together")
        if len(self.numbers) != len(self._meanings()):
            raise ValueError("labels: a number has two meanings")
        if unknown := set(self.covers) - {structure.name for structure in self.structures}:
            raise ValueError(f"covers names {', '.join(sorted(unknown))}, which is not in labels")
        return self

    @model_validator(mode="after")
    def _label_fits_image(self) -> Layout:
        if isinstance(self.label, str) and isinstance(self.image, EdEsFiles):
            raise ValueError("label: give ed and es, as image does")
        for part in NUMBERED:
            in_image, in_label = (isinstance(files, str) and part in files for files in (self.image, self.label))
            if isinstance(self.label, str) and in_image and not in_label:
                raise ValueError(f"image contains {part}, label does not")
            if in_label and not in_image and part != FRAME:
                raise ValueError(f"label contains {part}, image does not")
        if isinstance(self.image, str) and SLICE in self.image and isinstance(self.label, LabelFiles):
            raise ValueError(f"label: files of ED and ES are whole stacks; with {SLICE} in image, use {SLICE} in label")
        pairs = [self.image, self.label, self.phases]
        patterns = [str(each) for files in pairs if isinstance(files, EdEsFiles | LabelFiles) for _, each in files]
        if found := next((part for part in NUMBERED for pattern in patterns if part in pattern), None):
            raise ValueError(f"ed and es are one file each: remove {found}")
        return self

    @model_validator(mode="after")
    def _phases_can_be_known(self) -> Layout:
        numbers = self.phases if isinstance(self.phases, PhaseSettings) else None
        if isinstance(self.image, EdEsFiles):
            if self.phases and not (numbers and numbers.frames is not None and numbers.es is not None):
                raise ValueError("phases of ED and ES files: remove them, or give ed, es and frames")
        elif isinstance(self.label, LabelFiles) and not isinstance(self.phases, PhaseSettings | EdEsFiles):
            raise ValueError("phases: give ed and es, the frames of the label files, or images that are copies of them")
        elif self.phases == "labels" and not self.label:
            raise ValueError("phases: labels need a label file")
        if isinstance(self.label, LabelFiles) and self.label.es and numbers and numbers.es is None:
            raise ValueError("phases: give es, the frame of the label file of ES")
        return self

    @model_validator(mode="after")
    def _columns_have_a_table(self) -> Layout:
        phases = self.phases if isinstance(self.phases, PhaseSettings) else None
        numbers = [phases.ed, phases.es, phases.frames] if phases else []
        named = [value for value in (*numbers, *self.spacing_mm) if isinstance(value, str)]
        if named and self.table is None:
            raise ValueError(f"{', '.join(named)}: column names need a table")
        return self


def layouts() -> list[str]:
    """Names of the layouts in the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_layout(name: str | Path) -> Layout:
    """A layout of the package by name, or from a YAML file; `ConfigError` names the wrong key."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        if str(name) not in layouts():
            raise ConfigError(f"unknown layout {str(name)!r}", hint=f"one of {', '.join(layouts())}, or a .yaml file")
        path = FOLDER / f"{name}.yaml"
    try:
        layout = Layout.model_validate(_tree(path))
    except ValidationError as error:
        found = {(_place(e["loc"]), e["msg"].removeprefix("Value error, ")) for e in error.errors()}
        lines = [": ".join(filter(None, (path.name, *each))) for each in sorted(found)]
        hint = f"correct the file; the package's own layouts ({', '.join(layouts())}) are in cinesynth/data/layouts"
        raise ConfigError("\n".join(lines), hint=hint) from None
    layout._file = path
    return layout


_TYPES = re.compile(r"[\[(]|^(text|files|settings|str|int|float|tuple|constrained-\w+)$")
"""Parts of the place of an error that are names of types and forms, not keys of the file."""


def _place(location: tuple[int | str, ...]) -> str:
    """The path of a key of the file."""
    return ".".join(str(part) for part in location if not _TYPES.search(str(part)))


def _tree(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(read_small(path).decode())
    except (OSError, UnicodeDecodeError):
        hint = f"give a YAML file, or one of {', '.join(layouts())}"
        raise ConfigError(f"no layout file {path}", hint=hint) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # also a 13th month, or deep nesting
        raise ConfigError(f"{path} is not YAML: {error}", hint="start from a copy of a layout of the package") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} contains no settings", hint="start from a copy of a layout of the package")
    return tree
