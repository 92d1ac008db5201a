"""Layouts: a YAML file that describes a folder of NIfTI files, and the file patterns in it.

Patterns are relative to the folder that the user names. ``{subject}`` and ``{frame}`` stand for a name and a number,
``*`` for anything within a name. Where a setting is a number, text names a column of the table instead.
"""

from __future__ import annotations

import glob
import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import AfterValidator, Field, PrivateAttr, ValidationError, model_validator

from cinesynth.config.fields import Settings
from cinesynth.data.nifti import Numbers
from cinesynth.data.orientation import SliceOrder
from cinesynth.errors import ConfigError, DataError
from cinesynth.io.tables import MAX_FRAMES, read_small
from cinesynth.types import Diagnosis, Label

SUBJECT, FRAME = "{subject}", "{frame}"
MORE_SPECIFIC = "make the pattern in the layout more specific"
_PARTS = re.compile(r"(\{subject\}|\{frame\}|\*)")


def check_pattern(pattern: str) -> str:
    """``pattern`` itself; ``ValueError`` unless it contains ``{subject}`` and stays below the folder."""
    if SUBJECT not in pattern:
        raise ValueError(f"{pattern!r} has no {SUBJECT}")
    if left := re.findall(r"[{}]+\w*", _PARTS.sub("", pattern)):
        raise ValueError(f"{pattern!r}: {left[0]!r} is neither {SUBJECT} nor {FRAME}")
    if "\0" in pattern or "**" in pattern or pattern.startswith(("/", "\\")) or ".." in pattern.split("/"):
        forbidden = "'**', '..', a leading '/' and zero bytes are not allowed"
        raise ValueError(f"{pattern!r} must stay below the folder: {forbidden}")
    return pattern


Pattern = Annotated[str, AfterValidator(check_pattern)]
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


class PhaseSettings(Settings):
    """Which frames are ED and ES."""

    ed: FrameNumber
    es: FrameNumber
    frames: FrameNumber | None = None
    """Number of frames in the whole cycle, if the files do not contain all of them."""
    known_from: str | None = None
    """Column with the origin of ED and ES if that is not metadata: ``labels``, ``model`` or ``assumed``."""


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
    image: Pattern | EdEsFiles
    """A 4D file; with ``{frame}``, one file per frame; or the files of ED and ES."""
    label: Pattern | EdEsFiles | None = None
    """As ``image``. In a 4D label file, frames that are all 0 count as unlabelled."""
    labels: dict[Structure | Literal["background"], LabelNumber | tuple[LabelNumber, ...]] = Field(default_factory=dict)
    """What the numbers of label files mean; any other number is an error."""
    covers: dict[Structure, tuple[Literal["ed", "es", "all"], ...]] = Field(default_factory=dict)
    """Frames in which a structure was annotated, if that is not every labelled frame."""
    empty_slices: Literal["background", "unknown"] = "background"
    """Meaning of a slice without any structure in a labelled frame: outside the heart, or not annotated."""
    phases: PhaseSettings | Literal["labels"] | None = None
    """ED and ES. By default they are the frames with the largest and smallest labelled LV, or assumed without labels;
    with ``labels`` it is an error if labels do not determine them. Not needed for ED and ES files."""
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
        if isinstance(self.label, str) and FRAME in self.image and FRAME not in self.label:
            raise ValueError(f"image contains {FRAME}, label does not")
        for files in (self.image, self.label):
            if isinstance(files, EdEsFiles) and FRAME in files.ed + files.es:
                raise ValueError(f"ed and es are one file each: remove {FRAME}")
        return self

    @model_validator(mode="after")
    def _phases_can_be_known(self) -> Layout:
        if isinstance(self.image, EdEsFiles):
            if self.phases == "labels" or (self.phases and self.phases.frames is None):
                raise ValueError("phases of ED and ES files: remove them, or give ed, es and frames")
        elif isinstance(self.label, EdEsFiles) and not isinstance(self.phases, PhaseSettings):
            raise ValueError("phases: give ed and es, the frames of the label files")
        elif self.phases == "labels" and not self.label:
            raise ValueError("phases: labels need a label file")
        return self

    @model_validator(mode="after")
    def _columns_have_a_table(self) -> Layout:
        numbers = [self.phases.ed, self.phases.es, self.phases.frames] if isinstance(self.phases, PhaseSettings) else []
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
        found = [(".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, ")) for e in error.errors()]
        lines = sorted({": ".join(filter(None, (path.name, *place))) for place in found})
        hint = f"correct the file; the package's own layouts ({', '.join(layouts())}) are in cinesynth/data/layouts"
        raise ConfigError("\n".join(lines), hint=hint) from None
    layout._file = path
    return layout


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


# --- Files that fit a pattern -------------------------------------------------------------------------------------


class PatternMatch(NamedTuple):
    """A file that fits a pattern."""

    path: Path
    subject: str
    frame: int | None  # the number in place of ``{frame}``


def find(root: Path, pattern: str, subject: str | None = None) -> list[PatternMatch]:
    """Files below ``root`` that fit ``pattern``, of one subject or of all, sorted; hidden files are ignored."""
    regex, found = _regex(pattern), []
    special = {SUBJECT: "*" if subject is None else glob.escape(subject), FRAME: "*", "*": "*"}
    parts = (special.get(part) or glob.escape(part) for part in _PARTS.split(pattern))
    for path in sorted(root.glob("".join(parts))):
        place = path.relative_to(root).as_posix()
        match = regex.fullmatch(place)
        if not match or re.search(r"(^|/)\.", place) or subject not in (None, match["subject"]):
            continue
        number = match.groupdict().get("frame")
        found.append(PatternMatch(path, match["subject"], None if number is None else int(number)))
    return found


def only(root: Path, pattern: str, subject: str) -> Path:
    """The only file of ``subject`` that fits; `DataError` if there is none, or more than one."""
    paths = [match.path for match in find(root, pattern, subject)]
    if not paths:
        hint = "copy the whole dataset again, or correct the pattern in the layout"
        raise DataError(f"{root / pattern.replace(SUBJECT, subject)} is missing", hint=hint)
    if len(paths) > 1:
        found = f"{subject}: {len(paths)} files fit {pattern!r}: {paths[0].name}, {paths[1].name}, ..."
        raise DataError(found, hint=MORE_SPECIFIC)
    return paths[0]


def numbered(root: Path, pattern: str, subject: str) -> dict[int, Path]:
    """Files of ``subject`` by ascending frame number; `DataError` if two files have the same number."""
    result: dict[int, Path] = {}
    for path, _, frame in find(root, pattern, subject):
        other = result.setdefault(frame or 0, path)
        if other != path:
            found = f"{subject}: {path.name} and {other.name} are both frame {frame or 0}"
            raise DataError(found, hint=MORE_SPECIFIC)
    return dict(sorted(result.items()))


def _regex(pattern: str) -> re.Pattern[str]:
    """Each placeholder may occur twice, and must then stand for the same text."""
    groups = {SUBJECT: ("(?P<subject>[^/]+)", "(?P=subject)"), FRAME: ("(?P<frame>[0-9]{1,9})", "(?P=frame)")}
    parts = _PARTS.split(pattern)
    regex = ["[^/]*" if part == "*" else re.escape(part) for part in parts]
    for place, part in enumerate(parts):
        if part in groups:
            regex[place] = groups[part][part in parts[:place]]
    return re.compile("".join(regex))
