"""What a study compares: whom segmenters learn from, whom they are tested on, arms, seeds and engine. Read from YAML.

Paths in the file are relative to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from cinesynth.config import Config, Settings, hashed_settings, load_config
from cinesynth.data.dataset_table import SubjectRow
from cinesynth.errors import InputError
from cinesynth.weights.folder import bundle_sha256, find_bundle

LARGEST_BYTES = 128 * 1024
FIELD = 1.5
"""Width of the field that the light engine learns, in those of its crops: 288 mm with the presets."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
Split = Literal["train", "validation", "test"]
Share = Annotated[float, Field(gt=0.0, le=100.0)]
People = Annotated[int, Field(ge=2)] | Literal["all"]


class Who(Settings):
    """People of the dataset: those who meet every condition that is stated."""

    datasets: tuple[str, ...] = ()
    vendors: tuple[str, ...] = ()
    splits: tuple[Split, ...] = ()

    def among(self, rows: Iterable[SubjectRow]) -> list[SubjectRow]:
        """The rows that are meant, in their order."""
        conditions = {"dataset": self.datasets, "vendor": self.vendors, "split": self.splits}
        return [row for row in rows if all(not any_of or getattr(row, k) in any_of for k, any_of in conditions.items())]


class Tested(Who):
    """A group that segmenters are tested on."""

    unseen: bool = False
    """Whether nobody who was learned from was on such a scanner; it is checked."""


class GeneratorSpec(Settings):
    """The generator of each number of people: trained on their labels alone."""

    preset: str = "compact"
    set: tuple[str, ...] = ()
    """Changes of its settings, ``key=value``."""
    sampling: tuple[str, ...] = ()
    """Changes that `cinesynth bundle --set` makes."""
    unlabelled: bool = True
    """Whether it sees the others of the training group too, without their labels and diagnoses."""
    phantoms: Annotated[int, Field(ge=0, le=1000)] = 0
    """Analytic hearts in its training: they know every structure at every phase, and are nobody."""
    initial: str | None = None
    """Weights (a name or a folder) of analytic hearts alone that it starts from."""

    @property
    def config(self) -> Config:
        """The settings of its training."""
        return load_config(self.preset, self.set)

    def resolved(self) -> list[object]:
        """All that it depends on: the settings of the preset themselves, whatever its name."""
        initial = None if self.initial is None else bundle_sha256(find_bundle(self.initial))
        return [hashed_settings(self.config), self.sampling, self.unlabelled, self.phantoms, initial]


class CohortSpec(Settings):
    """What the generator makes: hearts drawn from the people that it knows."""

    frames: Annotated[int, Field(ge=2, le=200)] = 12
    control: bool = True
    tries: Annotated[int, Field(ge=1, le=100)] = 3
    accepted_only: bool = True
    """Whether hearts that fail a rule of anatomy are left out."""
    seed: Annotated[int, Field(ge=0)] = 0


class MixSpec(Settings):
    """How generated hearts come to the segmenters."""

    agreeing: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the hearts that is kept: those in which a segmenter of the labelled people alone sees the most of what
    their masks say."""
    surroundings: bool = False
    """Whether the hearts are set into the surroundings of the labelled people: their own field ends close to them."""
    people_share: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Share of the frames that are people's, of the light engine; by default people and hearts are drawn as often."""


class UNetSpec(Settings):
    """The light engine: the 2D U-Net of ``cinesynth train segmenter``."""

    name: Literal["unet"] = "unet"
    preset: str = "compact"
    set: tuple[str, ...] = ()

    @property
    def config(self) -> Config:
        """The settings of its training, but for seed and augmentation.

        The preset's grid is what a crop shows, unless a crop is set. The field is `FIELD` times as wide, as whole
        images are tested: one that saw hearts in the middle alone finds them anywhere.
        """
        config = load_config(self.preset, self.set)
        if config.training.segmenter.crop is not None:
            return config
        x, y, z = config.grid.size
        grid = config.grid.model_copy(update={"size": (round(FIELD * x), round(FIELD * y), z)})
        segmenter = config.training.segmenter.model_copy(update={"crop": config.grid.size})
        training = config.training.model_copy(update={"segmenter": segmenter})
        return config.model_copy(update={"grid": grid, "training": training})

    def resolved(self) -> list[object]:
        """All that its segmenters depend on."""
        return [self.name, hashed_settings(self.config)]


class NnunetSpec(Settings):
    """nnU-Net v2 by its own commands."""

    name: Literal["nnunet"]
    configuration: Literal["2d", "3d_fullres"] = "2d"
    epochs: Annotated[int, Field(ge=1, le=4000)] = 100
    iterations: Annotated[int, Field(ge=1, le=10000)] = 250
    """Of an epoch."""
    memory_gb: Annotated[float, Field(gt=0, le=640)] = 8.0
    """What nnU-Net plans its batches and patches for; 8 is its default."""
    mirror: bool = True
    """Whether it averages mirrored predictions at the test, as it does by default: four times the time in 2D."""
    device: Literal["cuda", "cpu", "mps"] = "cuda"
    bin: Path | None = Field(default=None, exclude=True)
    """Folder of the nnUNetv2 commands; by default those on the PATH."""

    def resolved(self) -> list[object]:
        """All that its segmenters depend on: not where it is installed."""
        return [self.model_dump(mode="json")]


class StudySpec(Settings):
    """A whole study."""

    data: Path
    train: Who
    tests: dict[str, Tested] = Field(min_length=1)
    people: tuple[People, ...] = ("all",)
    """How many of the training group are labelled; smaller groups are part of larger ones."""
    plain: bool = True
    """An arm of real people without augmentation."""
    ratios: tuple[Share, ...] = (0.5, 1.0, 2.0, 4.0)
    """Generated hearts a labelled person."""
    judged_ratio: Share = 1.0
    """The arm that the sentence about the paper's claim is of: chosen before anybody is tested."""
    synthetic_only: bool = True
    """An arm of generated hearts alone, as many as the largest ratio gives."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0, 1, 2)
    engine: Annotated[UNetSpec | NnunetSpec, Field(discriminator="name")] = UNetSpec()
    generator: GeneratorSpec = GeneratorSpec()
    cohort: CohortSpec = CohortSpec()
    mix: MixSpec = MixSpec()

    @field_validator("tests")
    @classmethod
    def _names_are_plain(cls, tests: dict[str, Tested]) -> dict[str, Tested]:
        for name in tests:
            if not NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a group: letters, digits, _ and -, at most 40")
        return tests

    @field_validator("people", "ratios", "seeds")
    @classmethod
    def _each_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if not values or len(set(values)) < len(values):
            raise ValueError("at least one, and each once")
        return values

    @model_validator(mode="after")
    def _the_parts_go_together(self) -> StudySpec:
        if self.judged_ratio not in self.ratios:
            raise ValueError(f"judged_ratio {self.judged_ratio:g} is none of the ratios")
        if self.mix.people_share is not None and not isinstance(self.engine, UNetSpec):
            raise ValueError("mix.people_share is of the engine unet: nnU-Net draws everybody as often")
        return self


def read_spec(path: Path) -> StudySpec:
    """The study of a YAML file; `InputError` says in a line each what is wrong with it."""
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise InputError(f"{path} is larger than {LARGEST_BYTES // 1024} KiB", hint="name the YAML of a study")
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(tree, dict):
            raise InputError(f"{path} holds no settings of a study", hint="docs/study.md has an example")
        spec = StudySpec.model_validate(tree)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read: {error}", hint="docs/study.md has an example") from None
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])) or 'study'}: {e['msg']}" for e in error.errors()]
        raise InputError(f"{path} is no study\n" + "\n".join(lines), hint="docs/study.md has every key") from None
    return _beside(spec, path.parent)


def _beside(spec: StudySpec, folder: Path) -> StudySpec:
    """``spec`` with its paths, which are relative to ``folder``, as paths of this process."""

    def placed(preset: str) -> str:
        return str(folder / preset) if preset.endswith((".yaml", ".yml")) else preset

    engine = spec.engine
    if isinstance(engine, UNetSpec):
        engine = engine.model_copy(update={"preset": placed(engine.preset)})
    elif engine.bin is not None:
        engine = engine.model_copy(update={"bin": folder / engine.bin})
    initial = spec.generator.initial
    if initial is not None and (folder / initial).is_dir():
        initial = str(folder / initial)
    own = {"preset": placed(spec.generator.preset), "initial": initial}
    generator = spec.generator.model_copy(update=own)
    return spec.model_copy(update={"data": folder / spec.data, "engine": engine, "generator": generator})
