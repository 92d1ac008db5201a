"""A group of cases in a cohort: what it may state, and the requests that it becomes.

A value is a number, a range that each case samples uniformly, sampled from the empirical prior of the weights, or
unspecified. Everything that a case samples comes from the case's own seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from cinesynth.errors import InputError
from cinesynth.io.reproducibility import case_seed, derive
from cinesynth.physiology import EDV_RANGE_ML, MYO_MASS_RANGE_G, SLICE_RANGE
from cinesynth.synthesis.request import FRAME_RANGE, FRAMES, Request
from cinesynth.types import UNKNOWN_VENDOR, ClinicalPrior, Diagnosis

if TYPE_CHECKING:
    from cinesynth.synthesis.pipeline import CinePipeline
    from cinesynth.weights.prior import EmpiricalPrior

MAX_CASES = 100_000
"""Largest cohort, in cases."""
UNSPECIFIED = frozenset({"", "~", "null", "unknown"})
"""Words for a value that the model is not given; capitals do not matter."""


class Sample(Enum):
    """Where a value that the file leaves open comes from; the value of a member is the word for it."""

    FROM_PRIOR = "draw"


@dataclass(frozen=True)
class Range:
    """Uniform between two ends, both included."""

    low: float
    high: float

    def sample(self, seed: int, *, whole: bool) -> float:
        """A whole number, or one with one decimal."""
        rng = np.random.default_rng(seed)
        if whole:  # slices; the ends are whole numbers
            return int(rng.integers(int(self.low), int(self.high), endpoint=True))
        # Rounding to one decimal must not leave the range.
        return min(max(round(float(rng.uniform(self.low, self.high)), 1), self.low), self.high)


Value = float | Range | Sample | None
"""None is unspecified: the model is not given the value."""
SAMPLED = frozenset({"edv", "esv", "ef", "slices"})
"""Quantities that the empirical prior contains."""
_NUMBER: TypeAdapter[float] = TypeAdapter(FiniteFloat)
_WHOLE_NUMBER: TypeAdapter[int] = TypeAdapter(int)  # also reads 8.0, as spreadsheets write 8


def shown(value: object) -> str:
    """A value as an error message repeats it, cut to 40 letters."""
    return "a list" if isinstance(value, (list, tuple)) else repr(value[:40] if isinstance(value, str) else value)


def _meaning(value: Any) -> Any:
    """None or `Sample.FROM_PRIOR` for a word that says so, any other value as it is."""
    word = value.strip().casefold() if isinstance(value, str) else None
    if word in UNSPECIFIED:
        return None
    return Sample.FROM_PRIOR if word == Sample.FROM_PRIOR.value else value


def _quantity(value: object, info: ValidationInfo) -> Value:
    """A number, or a range given by its two ends."""
    key, meant = str(info.field_name), _meaning(value)
    if meant is Sample.FROM_PRIOR and key not in SAMPLED:
        raise ValueError(f"{key} cannot be draw: the weights know no distribution of it")
    if meant is None or isinstance(meant, (Range, Sample)):
        return meant
    if not isinstance(meant, (list, tuple)):
        return _number(key, meant)
    if len(meant) != 2:
        raise ValueError(f"{key} has {len(meant)} values; a range has two, [low, high]")
    low, high = (_number(key, end) for end in meant)
    if low > high:
        raise ValueError(f"{key} is a range from {low:g} down to {high:g}; give [low, high]")
    return Range(low, high)


def _number(key: str, value: object) -> float:
    text = value.strip() if isinstance(value, str) else value
    kind, number = ("whole number", _WHOLE_NUMBER) if key == "slices" else ("number", _NUMBER)
    try:
        return number.validate_python(text)
    except ValidationError:
        raise ValueError(f"{key} {shown(value)} is not a {kind}") from None


def _diagnosis(value: object) -> Diagnosis | Sample:
    meant = _meaning(value)
    if meant is None or isinstance(meant, Sample):
        return Diagnosis.UNKNOWN if meant is None else meant
    if not isinstance(meant, str):
        raise ValueError("diagnosis is a list; give one diagnosis per group")
    return Diagnosis.parse(meant[:40])


def _vendor(value: object) -> str | None:
    if isinstance(value, str) and value.strip().casefold() == UNKNOWN_VENDOR:
        return UNKNOWN_VENDOR  # not the same as no vendor, for which one is drawn
    meant = _meaning(value)
    if isinstance(meant, Sample):
        return None
    if meant is not None and not isinstance(meant, str):
        raise ValueError(f"vendor {shown(value)} is not the name of a vendor")
    return None if meant is None else meant.strip()


Quantity = Annotated[Value, PlainValidator(_quantity)]
Whole = Annotated[int | None, BeforeValidator(lambda value: None if _meaning(value) is None else value)]
Count = Annotated[int, BeforeValidator(lambda value: 1 if _meaning(value) is None else value)]
_EDV = f"mL, {EDV_RANGE_ML[0]:g} to {EDV_RANGE_ML[1]:g}"
_ESV = "mL, below the EDV: the EF lies between 3 and 95 %"
_SLICES = f"a whole number, {SLICE_RANGE[0]} to {SLICE_RANGE[1]}"
_MASS = f"g, {MYO_MASS_RANGE_G[0]:g} to {MYO_MASS_RANGE_G[1]:g}"


class CohortGroup(BaseModel):
    """Cases with the same settings. A field's description says what it may be, and is the hint of its errors.

    Raises pydantic's `ValidationError` for a single field, and `InputError` for a combination that no heart has.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    diagnosis: Annotated[Diagnosis | Sample, PlainValidator(_diagnosis)] = Field(
        Sample.FROM_PRIOR, description="a group of ACDC, or draw, or unknown"
    )
    edv: Quantity = Field(Sample.FROM_PRIOR, description=f"{_EDV}, or draw, or unknown")
    esv: Quantity = Field(None, description=f"{_ESV}, or draw, or unknown")
    ef: Quantity = Field(None, description="percent, 3 to 95, or draw, or unknown")
    slices: Quantity = Field(Sample.FROM_PRIOR, description=f"{_SLICES}, or draw, or unknown")
    rv_edv: Quantity = Field(None, description=f"{_EDV}, or unknown")
    rv_esv: Quantity = Field(None, description=f"{_ESV}, or unknown")
    mass: Quantity = Field(None, description=f"{_MASS}, or unknown")
    vendor: Annotated[str | None, PlainValidator(_vendor)] = Field(
        None, description="one vendor of the training data, or draw, or unknown for none"
    )
    frames: Whole = Field(None, description=f"a whole number, {FRAME_RANGE[0]} to {FRAME_RANGE[1]}")
    es_index: Whole = Field(None, description="a whole number, 1 to frames - 1")
    seed: Whole = Field(None, description="a whole number, 0 to 2^63 - 1")
    count: Count = Field(1, ge=1, le=MAX_CASES, description=f"a whole number, 1 to {MAX_CASES}")

    place: str = ""  # file, line and number of the group, for errors that are found later

    @property
    def ef_or_sample(self) -> Value:
        """The EF. An ESV from the prior is sampled as an EF, and so is an EF that is left out beside an EDV."""
        left_out = not self.model_fields_set & {"esv", "ef"} and self.edv is not None
        return Sample.FROM_PRIOR if left_out or self.esv is Sample.FROM_PRIOR else self.ef

    @model_validator(mode="after")
    def _is_possible(self) -> CohortGroup:
        """Raises `InputError` unless every heart within the ranges is possible."""
        if self.esv is not None and self.ef is not None:
            raise InputError("esv and ef are both given", hint="the EF follows from EDV and ESV: give one of them")
        if self.ef_or_sample is not None and self.edv is None:
            raise InputError("ef is given without edv", hint=f"add edv ({_EDV}), or sample it: edv: draw")
        if self.esv not in (None, Sample.FROM_PRIOR) and self.edv is Sample.FROM_PRIOR:
            raise InputError("edv is sampled, but esv is given", hint="give edv too, or ef instead of esv")
        for edv, esv, slices in product(_ends(self.edv), _ends(self.esv), _ends(self.slices)):
            ClinicalPrior(Diagnosis.UNKNOWN, edv, esv, None if slices is None else int(slices))
        for rv_edv, rv_esv, mass in product(_ends(self.rv_edv), _ends(self.rv_esv), _ends(self.mass)):
            ClinicalPrior(rv_edv_ml=rv_edv, rv_esv_ml=rv_esv, myo_mass_g=mass)
        for ef in _ends(self.ef):  # at any EDV: the range of EFs does not depend on it
            if ef is not None:
                ClinicalPrior.from_ef(Diagnosis.UNKNOWN, EDV_RANGE_ML[1], ef)
        Request(ClinicalPrior(vendor=self.vendor), self.seed or 0, FRAMES if self.frames is None else self.frames)
        return self

    def request(self, pipe: CinePipeline, seed: int, number: int, settings: Mapping[str, Any]) -> Request:
        """The request of case ``number`` (zero-based) of the group, sampled from the empirical prior of ``pipe``.

        A seed and settings of the group take precedence over ``seed`` and ``settings``, further fields of `Request`.
        Raises `InputError`, with the place of the group, if the weights do not support the request.
        """
        own = {key: value for key in ("frames", "es_index") if (value := getattr(self, key)) is not None}
        seed = seed if self.seed is None else self.seed + number  # a group's cases count on from its seed
        with located(self.place):
            request = Request(self._prior(pipe.prior, seed), seed, **{**settings, **own})
            pipe.plan(request)  # checks it against the weights
        return request

    def _prior(self, empirical: EmpiricalPrior, seed: int) -> ClinicalPrior:
        """What the group states, completed by samples of the empirical prior given what is stated."""

        def number(key: str) -> float | None:
            value: Value = getattr(self, key)
            if isinstance(value, Range):
                # A seed per key: a range samples the same value whatever else the group states.
                return value.sample(derive(seed, key), whole=key == "slices")
            return None if isinstance(value, Sample) else value

        edv_ml, ef_percent, slices = number("edv"), number("ef"), number("slices")
        whole_slices = None if slices is None else int(slices)
        diagnosis = None if isinstance(self.diagnosis, Sample) else self.diagnosis
        prior = ClinicalPrior(diagnosis or Diagnosis.UNKNOWN, edv_ml, number("esv"), whole_slices)
        if edv_ml is not None and ef_percent is not None:
            prior = prior.with_ef(ef_percent)
        if diagnosis is None or Sample.FROM_PRIOR in (self.edv, self.ef_or_sample):
            known_ef = ef_percent if prior.ef_percent is None else min(max(prior.ef_percent, 3.0), 95.0)
            sampled = empirical.draw(seed, diagnosis, lv_edv_ml=edv_ml, ef_percent=known_ef, slices=whole_slices)
            # A stated EF beside a sampled EDV is part of the sample: the ESV follows from both.
            edv_sampled, ef = self.edv is Sample.FROM_PRIOR, self.ef_or_sample
            esv_sampled = ef is Sample.FROM_PRIOR or (edv_sampled and ef is not None)
            prior = replace(
                prior,
                diagnosis=sampled.diagnosis,
                lv_edv_ml=sampled.lv_edv_ml if edv_sampled else prior.lv_edv_ml,
                lv_esv_ml=sampled.lv_esv_ml if esv_sampled else prior.lv_esv_ml,
                slices=sampled.slices if self.slices is Sample.FROM_PRIOR else prior.slices,
            )
        if self.slices is Sample.FROM_PRIOR:
            prior = empirical.complete(prior, derive(seed, "slices"), ())
        rv_edv_ml, rv_esv_ml, mass_g = number("rv_edv"), number("rv_esv"), number("mass")
        return replace(prior, vendor=self.vendor, rv_edv_ml=rv_edv_ml, rv_esv_ml=rv_esv_ml, myo_mass_g=mass_g)


KEYS = tuple(key for key in CohortGroup.model_fields if key != "place")
"""Columns of a CSV file, keys of a YAML group."""


def requests_of(
    groups: Sequence[CohortGroup], pipe: CinePipeline, *, seed: int = 0, count: int | None = None, **settings: Any
) -> list[Request]:
    """The requests of all cases, in order. The same groups, ``seed`` and weights give the same requests.

    With a ``count``, only the first so many, or all of them again with new seeds. A group's own seed and settings
    take precedence over ``seed`` and ``settings``, which are further fields of `Request`. Raises `InputError`, with the
    place of the group, if the weights do not support a request.
    """
    cases = [(group, number) for group in groups for number in range(group.count)]
    total = len(cases) if count is None else count
    if not 1 <= total <= MAX_CASES:
        raise InputError(f"{total} cases were requested", hint=f"request 1 to {MAX_CASES} cases")
    requests = []
    for index in range(total):
        # Round after round through the file; a group with its own seed goes on counting in each.
        rounds, position = divmod(index, len(cases))
        group, number = cases[position]
        requests.append(group.request(pipe, case_seed(seed, index), rounds * group.count + number, settings))
    return requests


@contextmanager
def located(place: str) -> Iterator[None]:
    """Put ``place`` before the message of an `InputError` that the body raises."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error.message}", hint=error.hint) from None


def _ends(value: Value) -> Sequence[float | None]:
    """The ends of a range, a number, or None for what is sampled or unspecified."""
    if isinstance(value, Range):
        return value.low, value.high
    return (None,) if isinstance(value, Sample) else (value,)
