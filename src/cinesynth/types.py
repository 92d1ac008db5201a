"""The vocabulary of the package: labels, priors, studies and cines, and the shapes of their arrays.

Shapes are written with one set of letters, here and in every docstring:

========== =============================================================================
``B``      cases (or frames folded into the batch)
``T``      frames of one cine
``C``      channels, of latents or of motion codes; ``A`` those of the anatomy's latent
``X Y Z``  voxels in nibabel order, ``Z`` through-plane, index 0 at the base
``S``      structures in the order of `STRUCTURES`: RV, MYO, LV
``x y Z``  the latent grid; the codec never strides through-plane
========== =============================================================================

Volumes are millilitres, lengths millimetres, times milliseconds, fractions of volume percent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8
from numpy.typing import NDArray

from cinesynth.errors import InputError
from cinesynth.physiology import EDV_RANGE_ML, ESV_SHARE_RANGE, MYO_MASS_RANGE_G, SLICE_RANGE

if TYPE_CHECKING:
    from torch import Tensor
else:
    Tensor = Any  # importing torch takes seconds; the tests check these shapes on whatever has a shape and a dtype

FloatArray = NDArray[np.float32]
LabelArray = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]
Affine = NDArray[np.float64]

Image = Float[Tensor, "B 1 X Y Z"]  # intensities in [-1, 1]
Logits = Float[Tensor, "B 4 X Y Z"]  # one channel a `Label`
Features = Float[Tensor, "B _ _ _ Z"]  # inside a network, at any resolution in the plane
Latent = Float[Tensor, "B C x y Z"]  # also codes of motion, on the same grid
AnatomyLatent = Float[Tensor, "B A x y Z"]  # of the ED frame, beside a code of motion
SliceMask = Bool[Tensor, "B Z"]  # the acquired slices
SliceFactor = Float[Tensor, "B 1 1 1 Z"]  # a slice mask that multiplies features
PerCase = Float[Tensor, "B"]
CaseFactor = Float[Tensor, "B 1 1 1 1"]  # one number a case that multiplies features
Scalar = Float[Tensor, ""]
Slices = Float[Tensor, "N 1 P Q"]  # single slices of any cases, P by Q pixels
SliceNoise = Float[Tensor, "N K P Q"]
PerSlice = Float[Tensor, "N"]
NoiseField = Float[Tensor, "B K X Y Z"]  # noise of whole images, K channels
Vectors = Float[Tensor, "B W"]
Tokens = Float[Tensor, "B N W"]
BatchLabel = Shaped[Tensor, "B 1 X Y Z"]  # `Label`s as any type of number
BatchCoverage = Bool[Tensor, "B Z S"]  # which structures of which slices were annotated
Volume = Shaped[Tensor, "K X Y Z"]  # one frame of one subject, K channels
VolumeView = Shaped[Tensor, "K x y Z"]  # the same through a view of another size in the plane
Trajectory = Float[Tensor, "T C x y Z"]  # latents or residuals of the frames of one subject
Phases = Float[Tensor, "T"]  # 0 at ED, 1 at ES, 2 at the next ED
LabelBatch = UInt8[np.ndarray, "B X Y Z"]

Orientation = tuple[tuple[int, int], ...]
"""An orientation transform of nibabel: for each array axis, the axis that it becomes, and 1, or -1 if reversed."""
SAME_ORIENTATION: Orientation = ((0, 1), (1, 1), (2, 1))

PhasesFrom = Literal["metadata", "labels", "model", "assumed"]
"""Where ED and ES of a study come from, the most reliable first: the source's metadata, its labels, a model's masks, or
an assumption (the first frame after the R wave, and the usual fraction of the cycle)."""
SlicesFrom = Literal["header", "labels", "declared"]
"""What decided the order from base to apex: scanner coordinates, the labels, or a declaration of the source."""

Precision = Literal["auto", "fp32", "bf16"]
"""What networks compute in; "auto" is bf16 where the hardware multiplies it natively, else fp32."""
Condition = Literal["diagnosis", "lv_edv_ml", "lv_esv_ml", "slices", "rv_edv_ml", "rv_esv_ml", "myo_mass_g", "vendor"]
"""The conditions of generation: the fields of `ClinicalPrior`."""
UNKNOWN_VENDOR = "unknown"
"""The vendor of a scanner that is not known, and a request for no vendor's style."""
CORE_CONDITIONS: tuple[Condition, ...] = ("diagnosis", "lv_edv_ml", "lv_esv_ml", "slices")
"""Conditions of every model."""
FURTHER_CONDITIONS: tuple[Condition, ...] = ("rv_edv_ml", "rv_esv_ml", "myo_mass_g", "vendor")
"""Conditions of models that were trained with them."""
CONDITIONS = CORE_CONDITIONS + FURTHER_CONDITIONS


class Label(IntEnum):
    """Voxel labels, in the order of ACDC."""

    BACKGROUND = 0
    RV = 1
    MYO = 2
    LV = 3


STRUCTURES = (Label.RV, Label.MYO, Label.LV)


def full_coverage(labelled: BoolArray, slices: int) -> BoolArray:
    """The coverage ``T Z S`` of frames (``labelled``, ``T``) where every structure of every slice was annotated."""
    frames: BoolArray = np.asarray(labelled, dtype=np.bool_)
    return np.broadcast_to(frames[:, None, None], (len(frames), slices, len(STRUCTURES))).copy()


def covered_label(label: LabelArray, coverage: BoolArray) -> LabelArray:
    """``label`` (``T X Y Z``) with 0 at voxels of structures not annotated there (``coverage``, ``T Z S``)."""
    result = label.copy()
    for i, structure in enumerate(STRUCTURES):
        covered = coverage[:, None, None, :, i]
        if not covered.all():
            result[(label == structure) & ~covered] = Label.BACKGROUND
    return result


def is_contiguous(covered: BoolArray) -> bool:
    """Whether the slices ``covered`` (``Z``) have no gap; only then do they give the volume of a structure."""
    slices = np.flatnonzero(covered)
    return len(slices) > 0 and bool(slices[-1] - slices[0] + 1 == len(slices))


class Diagnosis(str, Enum):
    """The five groups of ACDC, and the explicit absence of a diagnosis."""

    UNKNOWN = "UNKNOWN"
    NOR = "NOR"
    DCM = "DCM"
    HCM = "HCM"
    MINF = "MINF"
    RV = "RV"

    @classmethod
    def parse(cls, text: str) -> Diagnosis:
        """The diagnosis named ``text`` (case does not matter). Raises `InputError`, which lists the known ones."""
        try:
            return cls(text.strip().upper())
        except ValueError:
            known = ", ".join(d.value for d in cls)
            raise InputError(f"diagnosis {text!r} is not known", hint=f"one of {known}") from None


@dataclass(frozen=True)
class ClinicalPrior:
    """The conditions for one heart. None means unknown; the ejection fraction is derived, never stored.

    Raises `InputError` if values contradict each other or lie outside what human hearts have.
    """

    diagnosis: Diagnosis = Diagnosis.UNKNOWN
    lv_edv_ml: float | None = None
    lv_esv_ml: float | None = None
    slices: int | None = None
    rv_edv_ml: float | None = None
    rv_esv_ml: float | None = None
    myo_mass_g: float | None = None  # at ED
    vendor: str | None = None  # of the scanner, as a dataset spells it

    def __post_init__(self) -> None:
        _check_volumes("", self.lv_edv_ml, self.lv_esv_ml)
        _check_volumes("RV ", self.rv_edv_ml, self.rv_esv_ml)
        if self.slices is not None and not SLICE_RANGE[0] <= self.slices <= SLICE_RANGE[1]:
            raise InputError(
                f"{self.slices} slices are outside {SLICE_RANGE[0]}-{SLICE_RANGE[1]}",
                hint="a short-axis stack that covers the heart has 6-12 slices of 10 mm",
            )
        low, high = MYO_MASS_RANGE_G
        if self.myo_mass_g is not None and not low <= self.myo_mass_g <= high:
            raise InputError(f"mass {self.myo_mass_g:g} g is outside {low:g}-{high:g} g", hint="give grams")
        if self.vendor is not None and not self.vendor.strip():
            raise InputError("the vendor is an empty text", hint="leave it out if it is unknown")

    @classmethod
    def from_ef(
        cls, diagnosis: Diagnosis, lv_edv_ml: float, ef_percent: float, slices: int | None = None
    ) -> ClinicalPrior:
        """A prior from EDV and ejection fraction."""
        return cls(diagnosis, lv_edv_ml, slices=slices).with_ef(ef_percent)

    def with_ef(self, ef_percent: float) -> ClinicalPrior:
        """This prior with the ESV that follows from its EDV and an ejection fraction, EF = 100 (EDV - ESV) / EDV."""
        if self.lv_esv_ml is not None:
            raise InputError("an ESV and an EF were both given", hint="EF follows from EDV and ESV: give one of them")
        if self.lv_edv_ml is None:
            raise InputError("an EF was given without an EDV", hint="give the EDV too, in mL")
        if not 3.0 <= ef_percent <= 95.0:
            raise InputError(f"EF {ef_percent:g} % is outside 3-95 %", hint="give percent, for example --ef 55")
        return replace(self, lv_esv_ml=self.lv_edv_ml * (1.0 - ef_percent / 100.0))

    @property
    def ef_percent(self) -> float | None:
        """Ejection fraction in percent, None unless both volumes are known."""
        if self.lv_edv_ml is None or self.lv_esv_ml is None:
            return None
        return 100.0 * (1.0 - self.lv_esv_ml / self.lv_edv_ml)


def _check_volumes(ventricle: str, edv_ml: float | None, esv_ml: float | None) -> None:
    """Raise `InputError` if no human ventricle has these volumes."""
    low, high = EDV_RANGE_ML
    if edv_ml is not None and not low <= edv_ml <= high:
        raise InputError(f"{ventricle}EDV {edv_ml:g} mL is outside {low:g}-{high:g} mL", hint="give millilitres")
    if esv_ml is None:
        return
    least, most = ESV_SHARE_RANGE
    if edv_ml is None and not least * low <= esv_ml <= high:
        raise InputError(
            f"{ventricle}ESV {esv_ml:g} mL is outside {least * low:g}-{high:g} mL", hint="give millilitres"
        )
    if edv_ml is not None and not least * edv_ml <= esv_ml <= most * edv_ml:
        raise InputError(
            f"{ventricle}ESV {esv_ml:g} mL does not fit {ventricle}EDV {edv_ml:g} mL "
            f"(EF {100 * (1 - esv_ml / edv_ml):.0f} %)",
            hint=f"give an ESV of {least * edv_ml:.1f}-{most * edv_ml:.1f} mL, or another EDV",
        )


UNCONDITIONAL = ClinicalPrior()
"""The one "no condition": everything unknown. Training's dropout and guidance both use it."""


class _OnGrid:
    """What the affine of a grid says about its voxels."""

    affine: Affine  # 4 4, voxel to millimetre

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel edge lengths, the column norms of the affine."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0


@dataclass(frozen=True)
class Study(_OnGrid):
    """One subject's cine on the scanner's grid, as a source yields it and the dataset keeps it.

    ``image`` and ``label`` hold the *stored* frames (all of the cycle, or only ED and ES), slices base first;
    ``frame_index`` says which frames of the cycle they are. ``coverage`` says which structures were annotated in
    which slice of which frame: where one was not, no voxel carries its label, and that means "not said".
    ``to_source`` takes a stored ``X Y Z`` array back to the source's voxel order; ``affine`` is of the stored one.
    """

    subject: str
    dataset: str
    vendor: str
    diagnosis: Diagnosis
    image: NDArray[np.generic]  # T X Y Z, the scanner's own numbers
    label: LabelArray  # T X Y Z
    coverage: BoolArray  # T Z S
    frame_index: NDArray[np.int64]  # T, zero-based in the cycle
    frames_in_cycle: int
    ed_index: int
    es_index: int
    affine: Affine  # 4 4, voxel to millimetre
    frame_time_ms: float | None = None
    group: str = ""  # the diagnosis as the source spells it
    phases_from: PhasesFrom = "metadata"
    slices_from: SlicesFrom = "declared"
    to_source: Orientation = SAME_ORIENTATION
    reported_lv_edv_ml: float | None = None  # as the source states it, from whatever masks; labels are measured anew
    reported_lv_esv_ml: float | None = None
    notes: tuple[str, ...] = ()  # what was left out inside the study, and what else its user should know

    @property
    def labelled(self) -> BoolArray:
        """The frames in which anything was annotated, shape ``T``."""
        return np.asarray(self.coverage.any(axis=(1, 2)), dtype=np.bool_)


@dataclass(frozen=True)
class Cine(_OnGrid):
    """One generated case: an image and its segmentation at every frame."""

    image: FloatArray  # T X Y Z in [-1, 1]; of an animated patient the scanner's own numbers
    label: LabelArray  # T X Y Z
    affine: Affine  # 4 4
    frame_time_ms: float
    ed_index: int
    es_index: int
    prior: ClinicalPrior
    seed: int
    provenance: dict[str, object]

    def volumes_ml(self, structure: Label) -> FloatArray:
        """Volume of one structure at every frame, shape ``T``."""
        return volumes_ml(self.label, structure, self.voxel_ml)


def voxel_counts(label: LabelArray, structure: Label) -> NDArray[np.float64]:
    """Voxels of ``structure`` in each frame of a ``T X Y Z`` label, shape ``T``."""
    return np.array([np.count_nonzero(frame == structure) for frame in label], dtype=np.float64)


def volumes_ml(label: LabelArray, structure: Label, voxel_ml: float) -> FloatArray:
    """Volume of ``structure`` in each frame of a ``T X Y Z`` label, millilitres, shape ``T``."""
    return np.asarray(voxel_counts(label, structure) * voxel_ml, dtype=np.float32)
