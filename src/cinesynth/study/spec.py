"""The settings of a study, read from YAML: training and test groups, arms, seeds, engine and generator.

Paths in the file are relative to it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from cinesynth.config import Config, dump_config, hashed_settings, load_config
from cinesynth.config.fields import Settings
from cinesynth.data.dataset_table import SubjectRow
from cinesynth.errors import InputError
from cinesynth.weights.folder import bundle_sha256
from cinesynth.weights.registry import find_bundle

FIELD_FACTOR = 1.5
"""In-plane width of the field that the U-Net engine learns, in crop widths: 288 mm with the presets."""
GROUP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
RENAMED_KEYS = {
    "people": "n_labelled",
    "judged_ratio": "primary_ratio",
    "cohort.control": "cohort.match_volumes",
    "cohort.tries": "cohort.max_attempts",
    "mix.agreeing": "mix.keep_best_fraction",
    "mix.surroundings": "mix.paste_on_real_background",
    "mix.people_share": "mix.real_fraction",
}
"""Keys of earlier releases, which are still read, and their names today."""
Ratio = Annotated[float, Field(gt=0.0, le=100.0)]
Labelled = Annotated[int, Field(ge=2)] | Literal["all"]


class SubjectFilter(Settings):
    """Selects the subjects that meet every stated condition."""

    datasets: tuple[str, ...] = ()
    vendors: tuple[str, ...] = ()
    splits: tuple[Literal["train", "validation", "test"], ...] = ()

    def select(self, rows: Iterable[SubjectRow]) -> list[SubjectRow]:
        """The matching rows, in their order."""
        conditions = {"dataset": self.datasets, "vendor": self.vendors, "split": self.splits}
        return [row for row in rows if all(not any_of or getattr(row, k) in any_of for k, any_of in conditions.items())]


class TestGroup(SubjectFilter):
    """A group of subjects that segmenters are tested on."""

    unseen: bool = False
    """Whether the group's vendors must be absent from the training group; this is checked."""


class GeneratorSpec(Settings):
    """The generator; one is trained for each number of labelled subjects, on their labels alone."""

    preset: str = "compact"
    set: tuple[str, ...] = ()
    """Overrides of the preset's settings, ``key=value``."""
    sampling: tuple[str, ...] = ()
    """Overrides of the sampling settings, as in ``cinesynth bundle --set``."""
    unlabelled: bool = True
    """Whether the generator also sees the other subjects of the training group, without labels and diagnoses."""
    phantoms: Annotated[int, Field(ge=0, le=1000)] = 0
    """Number of phantoms added to its training data; all their structures are labelled in every frame."""
    initial: str | None = None
    """Weights to start from (a name or a folder), trained on phantoms only."""

    @property
    def config(self) -> Config:
        """The resolved training configuration."""
        return load_config(self.preset, self.set)

    def resolved(self) -> list[object]:
        """Everything the generator depends on, for a digest: the preset's settings rather than its name."""
        initial = None if self.initial is None else bundle_sha256(find_bundle(self.initial))
        return [hashed_settings(self.config), self.sampling, self.unlabelled, self.phantoms, initial]


class CohortSpec(Settings):
    """The generated cohort; volumes are sampled from the distribution of the generator's training subjects."""

    frames: Annotated[int, Field(ge=2, le=200)] = 12
    match_volumes: bool = True
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 3
    accepted_only: bool = True
    """Whether to leave out hearts that fail an anatomical rule."""
    seed: Annotated[int, Field(ge=0)] = 0


class MixSpec(Settings):
    """How generated hearts are added to the segmenters' training data."""

    keep_best_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Fraction of the hearts to keep: those whose masks a segmenter of the labelled subjects confirms best."""
    paste_on_real_background: bool = False
    """Whether to paste hearts into images of labelled subjects, because generated fields end close to the heart."""
    real_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Fraction of real frames in training (engine ``unet`` only); by default all cases are sampled equally often."""


class UNetSpec(Settings):
    """The light engine: the 2D U-Net of ``cinesynth train segmenter``."""

    name: Literal["unet"] = "unet"
    preset: str = "compact"
    set: tuple[str, ...] = ()

    @property
    def config(self) -> Config:
        """The resolved training configuration, without seed and augmentation, which depend on the run.

        Unless a crop is set, crops have the size of the preset's grid, and the field is `FIELD_FACTOR` times as wide:
        tests use whole images, and a network that has only seen centred hearts finds hearts everywhere.
        """
        config = load_config(self.preset, self.set)
        if config.training.segmenter.crop is not None:
            return config
        x, y = (config.stride * math.ceil(FIELD_FACTOR * side / config.stride) for side in config.grid.size[:2])
        grid = config.grid.model_copy(update={"size": (x, y, config.grid.size[2])})
        segmenter = config.training.segmenter.model_copy(update={"crop": config.grid.size})
        training = config.training.model_copy(update={"segmenter": segmenter})
        return config.model_copy(update={"grid": grid, "training": training})

    def resolved(self) -> list[object]:
        """Everything a segmenter depends on, for a digest."""
        return [self.name, dump_config(self.config)]


class NnunetSpec(Settings):
    """nnU-Net v2, run through its own commands."""

    name: Literal["nnunet"]
    configuration: Literal["2d", "3d_fullres"] = "2d"
    epochs: Annotated[int, Field(ge=1, le=4000)] = 100
    iterations: Annotated[int, Field(ge=1, le=10000)] = 250
    """Iterations per epoch."""
    memory_gb: Annotated[float, Field(gt=0, le=640)] = 8.0
    """GPU memory for which nnU-Net plans its batch and patch sizes; 8 GB is nnU-Net's default."""
    mirror: bool = True
    """Whether to average mirrored predictions at test time, nnU-Net's default; takes four times as long in 2D."""
    device: Literal["cuda", "cpu", "mps"] = "cuda"
    bin: Path | None = Field(default=None, exclude=True)
    """Folder of the nnUNetv2 commands; by default they are searched on the PATH."""

    def resolved(self) -> list[object]:
        """Everything a segmenter depends on, for a digest; the place of the installation does not count."""
        return [self.model_dump(mode="json")]


class StudySpec(Settings):
    """All settings of a study."""

    data: Path
    train: SubjectFilter
    tests: dict[str, TestGroup] = Field(min_length=1)
    n_labelled: tuple[Labelled, ...] = ("all",)
    """Numbers of labelled subjects; smaller groups are subsets of larger ones."""
    plain: bool = True
    """Whether to train an arm of real subjects without augmentation."""
    ratios: tuple[Ratio, ...] = (0.5, 1.0, 2.0, 4.0)
    """Generated hearts per labelled subject."""
    primary_ratio: Ratio = 1.0
    """Ratio of the primary endpoint, which is compared with the paper; chosen before any test."""
    synthetic_only: bool = True
    """Whether to train an arm of generated hearts only, as many as the largest ratio gives."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0, 1, 2)
    engine: Annotated[UNetSpec | NnunetSpec, Field(discriminator="name")] = UNetSpec()
    generator: GeneratorSpec = GeneratorSpec()
    cohort: CohortSpec = CohortSpec()
    mix: MixSpec = MixSpec()

    @model_validator(mode="before")
    @classmethod
    def _accept_old_keys(cls, tree: Any) -> Any:
        """`RENAMED_KEYS` under today's names; an old key beside its new one is left in place."""
        if not isinstance(tree, dict):
            return tree
        tree = {key: dict(value) if isinstance(value, dict) else value for key, value in tree.items()}
        for old, new in RENAMED_KEYS.items():
            section, _, key = old.rpartition(".")
            node, new_key = tree.get(section) if section else tree, new.rpartition(".")[2]
            if isinstance(node, dict) and key in node and new_key not in node:
                node[new_key] = node.pop(key)
        return tree

    @field_validator("tests")
    @classmethod
    def _check_group_names(cls, tests: dict[str, TestGroup]) -> dict[str, TestGroup]:
        for name in tests:
            if not GROUP_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not a valid group name: use at most 40 letters, digits, _ and -")
        return tests

    @field_validator("n_labelled", "ratios", "seeds")
    @classmethod
    def _check_unique(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if not values or len(set(values)) < len(values):
            raise ValueError("give at least one value, and each value once")
        return values

    @model_validator(mode="after")
    def _check_combinations(self) -> StudySpec:
        if self.primary_ratio not in self.ratios:
            raise ValueError(f"primary_ratio {self.primary_ratio:g} must be one of the ratios")
        if self.mix.real_fraction is not None and not isinstance(self.engine, UNetSpec):
            raise ValueError("mix.real_fraction needs the engine unet: nnU-Net samples all cases equally often")
        return self


def read_spec(path: Path) -> StudySpec:
    """The study of a YAML file; `InputError` lists what is wrong, one line per setting."""
    path = Path(path)
    try:
        if path.stat().st_size > 128 * 1024:  # parsing YAML is slow: do not try it on a dataset
            raise InputError(f"{path} is larger than 128 KiB", hint="give the YAML file of a study")
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(tree, dict):
            raise InputError(f"{path} holds no settings of a study", hint="see examples/study.yaml")
        spec = StudySpec.model_validate(tree)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read: {error}", hint="see examples/study.yaml") from None
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])) or 'study'}: {e['msg']}" for e in error.errors()]
        hint = "the reference of study files lists every key"
        raise InputError(f"{path} is not a valid study file\n" + "\n".join(lines), hint=hint) from None
    return _with_paths_from(spec, path.parent)


def _with_paths_from(spec: StudySpec, folder: Path) -> StudySpec:
    def joined(preset: str) -> str:
        return str(folder / preset) if preset.endswith((".yaml", ".yml")) else preset

    engine = spec.engine
    if isinstance(engine, UNetSpec):
        engine = engine.model_copy(update={"preset": joined(engine.preset)})
    elif engine.bin is not None:
        engine = engine.model_copy(update={"bin": folder / engine.bin})
    initial = spec.generator.initial
    if initial is not None and (folder / initial).is_dir():
        initial = str(folder / initial)
    paths = {"preset": joined(spec.generator.preset), "initial": initial}
    generator = spec.generator.model_copy(update=paths)
    return spec.model_copy(update={"data": folder / spec.data, "engine": engine, "generator": generator})
