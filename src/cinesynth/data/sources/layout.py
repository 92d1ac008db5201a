"""The description of a folder of NIfTI files, as YAML: where files lie, what their numbers mean, who knows the rest.

Patterns are relative to the folder that a user names; ``{subject}`` and ``{frame}`` stand for a name and a number,
``*`` for anything within a name. Text in place of a number names a column of the table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, PrivateAttr, ValidationError, model_validator

from cinesynth.config import Settings
from cinesynth.data.nifti import Numbers
from cinesynth.data.orientation import SliceOrder
from cinesynth.data.sources.patterns import FRAME, check_pattern
from cinesynth.errors import ConfigError
from cinesynth.io.tables import MAX_FRAMES, read_small
from cinesynth.types import Diagnosis, Label

Pattern = Annotated[str, AfterValidator(check_pattern)]
Structure = Literal["RV", "MYO", "LV"]
FrameNumber = Annotated[int, Field(ge=0, lt=MAX_FRAMES)] | str
"""A frame, or the column that holds it."""
Edge = Annotated[float, Field(gt=0.0, le=30.0)] | str | None
"""Millimetres, or the column that holds them; none: as in the header."""
FOLDER = Path(__file__).parents[1] / "layouts"
LabelNumber = Annotated[int, Field(ge=1, le=65535)]


class Pair(Settings):
    """Files of ED and of ES, one frame each."""

    ed: Pattern
    es: Pattern


class Phases(Settings):
    """Which frames are ED and ES."""

    ed: FrameNumber
    es: FrameNumber
    frames: FrameNumber | None = None
    """Frames of the whole cycle, where the files do not hold all of them."""
    known_from: str | None = None
    """The column that says how they are known, where that is not metadata: ``labels``, ``model`` or ``assumed``."""


class TableColumns(Settings):
    """The CSV with what the files do not say."""

    file: str
    """Path below the folder."""
    subject: str
    """Column with the subjects' names."""
    vendor: str | None = None
    group: str | None = None
    lv_edv_ml: str | None = None
    """Volumes that somebody measured; they are kept as reported, beside those of the labels."""
    lv_esv_ml: str | None = None


class Layout(Settings):
    """A folder of NIfTI files."""

    dataset: Annotated[str, Field(pattern=r"^[A-Za-z0-9+-]+(_[A-Za-z0-9+-]+)*$")]
    """Name in the manifest."""
    licence: str = ""
    """What may be done with the data, as an SPDX name (``CC-BY-4.0``) where it has one; kept with the dataset."""
    citation: str = ""
    """What users of the data are to cite."""
    note: str = ""
    """Anything else, for those who come after."""
    image: Pattern | Pair
    """A file with time; with ``{frame}``, one file a frame; or ED and ES."""
    label: Pattern | Pair | None = None
    """As ``image``. Files with time are labelled in the frames where they hold any number but 0."""
    labels: dict[Structure | Literal["background"], LabelNumber | tuple[LabelNumber, ...]] = Field(default_factory=dict)
    """What the numbers of label files mean; a number that is not named here is refused."""
    covers: dict[Structure, tuple[Literal["ed", "es", "all"], ...]] = Field(default_factory=dict)
    """Frames in which a structure was annotated, where it is not in all that are labelled."""
    empty_slices: Literal["background", "unknown"] = "background"
    """A slice of a labelled frame without any structure: outside the heart, or nobody looked."""
    phases: Phases | Literal["labels"] | None = None
    """Left out, ED and ES are the largest and the smallest LV of the labels, or assumed where these do not tell them;
    ``labels`` insists that they do. Not needed for ED and ES files."""
    counts_from: Literal[0, 1] = 0
    """The number of the first frame, in file names and in the table."""
    table: TableColumns | None = None
    vendor: str = ""
    diagnoses: dict[str, Diagnosis] = Field(default_factory=dict)
    """Our diagnosis of a group, where its name does not say it."""
    spacing_mm: tuple[Edge, Edge, Edge] = (None, None, None)
    """The scanner's voxel edges, where the headers lost them."""
    slices: SliceOrder = "auto"

    _file: Path | None = PrivateAttr(default=None)

    @property
    def file(self) -> Path | None:
        """Where this layout was read from, if from a file."""
        return self._file

    @property
    def numbers(self) -> Numbers:
        """What each number of the label files means."""
        return {number: structure for structure, numbers in self._declared().items() for number in numbers}

    @property
    def structures(self) -> tuple[Label, ...]:
        """The structures that the labels can hold."""
        return tuple(structure for structure in self._declared() if structure is not Label.BACKGROUND)

    def covered_in(self, structure: Label) -> tuple[str, ...]:
        """In which labelled frames a structure was annotated: ``ed``, ``es``, ``all``."""
        return {Label[name]: frames for name, frames in self.covers.items()}.get(structure, ("all",))

    def _declared(self) -> dict[Label, tuple[int, ...]]:
        return {
            Label[name.upper()]: (number,) if isinstance(number, int) else number
            for name, number in self.labels.items()
        }

    @model_validator(mode="after")
    def _labels_are_declared(self) -> Layout:
        count = sum(len(numbers) for numbers in self._declared().values())
        if (self.label is None) != (not self.structures):
            raise ValueError("label (the files) and labels (their numbers) need each other")
        if len(self.numbers) != count:
            raise ValueError("labels: one number means two things")
        if strange := set(self.covers) - {structure.name for structure in self.structures}:
            raise ValueError(f"covers names {', '.join(sorted(strange))}, which labels does not")
        return self

    @model_validator(mode="after")
    def _label_fits_image(self) -> Layout:
        if isinstance(self.image, Pair) and isinstance(self.label, str):
            raise ValueError("label: give ed and es, as image does")
        if (
            isinstance(self.image, str)
            and isinstance(self.label, str)
            and FRAME in self.image
            and FRAME not in self.label
        ):
            raise ValueError(f"label has no {FRAME}, but image has")
        for files in (self.image, self.label):
            if isinstance(files, Pair) and FRAME in files.ed + files.es:
                raise ValueError(f"{FRAME} stands for many files: ed and es are one each")
        return self

    @model_validator(mode="after")
    def _phases_can_be_known(self) -> Layout:
        if isinstance(self.image, Pair):
            if self.phases == "labels" or (self.phases and self.phases.frames is None):
                raise ValueError("phases of ED and ES files: leave them out, or give ed, es and frames")
        elif isinstance(self.label, Pair) and not isinstance(self.phases, Phases):
            raise ValueError("phases: give ed and es, the frames that the files of label belong to")
        elif self.phases == "labels" and not self.label:
            raise ValueError("phases: labels cannot tell them without a label")
        return self

    @model_validator(mode="after")
    def _columns_have_a_table(self) -> Layout:
        numbers = [self.phases.ed, self.phases.es, self.phases.frames] if isinstance(self.phases, Phases) else []
        named = [value for value in (*numbers, *self.spacing_mm) if isinstance(value, str)]
        if named and self.table is None:
            raise ValueError(f"{', '.join(named)}: columns need a table")
        return self


def layouts() -> list[str]:
    """Names of the layouts that ship with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_layout(name: str | Path) -> Layout:
    """A layout that ships with the package, or a YAML file; `ConfigError` names the key that is wrong."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        if str(name) not in layouts():
            raise ConfigError(
                f"layout {str(name)!r} is not known", hint=f"one of {', '.join(layouts())}, or a .yaml file"
            )
        path = FOLDER / f"{name}.yaml"
    try:
        layout = Layout.model_validate(_tree(path))
    except ValidationError as error:
        lines = {f"{path.name}: {_place(e['loc'])}{e['msg'].removeprefix('Value error, ')}" for e in error.errors()}
        raise ConfigError(
            "\n".join(sorted(lines)), hint=f"compare with a layout that ships: {', '.join(layouts())}"
        ) from None
    layout._file = path
    return layout


def _tree(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(read_small(path).decode())
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"no layout file {path}", hint=f"or name one of {', '.join(layouts())}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # PyYAML lets through a 13th month, or deep nesting
        raise ConfigError(f"{path} is not YAML: {error}", hint="copy a layout that ships and change it") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds no settings", hint="copy a layout that ships and change it")
    return tree


def _place(location: tuple[int | str, ...]) -> str:
    return f"{'.'.join(str(part) for part in location)}: " if location else ""
