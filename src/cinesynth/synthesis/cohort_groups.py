"""What a group of a cohort asks for, and the requests that it becomes.

A value is a number, a range that each case draws from uniformly, drawn from the patients that the weights were trained
on, or unknown to the model. ``docs/cohorts.md`` tells each key; what no heart can have is refused with its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from cinesynth.errors import InputError
from cinesynth.io.seeds import case_seed, derive
from cinesynth.physiology import EDV_RANGE_ML
from cinesynth.synthesis.cohort_schema import (
    DRAW,
    MAX_CASES,
    NUMBERS,
    SETTINGS,
    WHOLE,
    Open,
    Range,
    Text,
    Value,
    is_stated,
    parse_diagnosis,
    parse_value,
    parse_vendor,
    parse_whole,
)
from cinesynth.synthesis.request import FRAMES, Request
from cinesynth.types import ClinicalPrior, Diagnosis

if TYPE_CHECKING:
    from cinesynth.synthesis.pipeline import CinePipeline
    from cinesynth.weights.prior import EmpiricalPrior


@dataclass(frozen=True)
class Group:
    """Cases that are asked for alike: ``values`` of all `NUMBERS`, and those `SETTINGS` that are given."""

    place: str
    diagnosis: Diagnosis | Open
    values: Mapping[str, Value]
    vendor: str | None
    settings: Mapping[str, int]

    @classmethod
    def parse(cls, place: str, texts: Mapping[str, Text]) -> Group:
        """A group from the texts of its `KEYS`; `InputError` names the ``place`` and what may stand there.

        What the patients of the training tell is drawn where its key is not there; all else is then unknown.
        """
        with placed(place):
            values = _values(texts)
            _check(values)
            settings = {key: parse_whole(key, texts[key]) for key in SETTINGS if is_stated(texts.get(key))}
            if not 1 <= settings.get("count", 1) <= MAX_CASES:
                raise InputError(f"count {settings['count']} is not possible", hint=SETTINGS["count"])
            prior = ClinicalPrior(vendor=parse_vendor(texts.get("vendor", "")))
            Request(prior, settings.get("seed", 0), settings.get("frames", FRAMES))
            return cls(place, parse_diagnosis(texts.get("diagnosis", DRAW)), values, prior.vendor, settings)

    @property
    def count(self) -> int:
        """Cases of the group."""
        return self.settings.get("count", 1)

    def request(self, pipe: CinePipeline, seed: int, number: int, further: Mapping[str, Any]) -> Request:
        """The request of case ``number`` of the group; its own seed, where the group has none, is ``seed``.

        Every draw comes from the case's own seed. ``further`` are fields of `Request`, for which those of the group
        come first. `InputError` where the weights cannot meet it.
        """
        own = {key: self.settings[key] for key in ("frames", "es_index") if key in self.settings}
        seed = self.settings["seed"] + number if "seed" in self.settings else seed
        with placed(self.place):
            request = Request(self._prior(pipe.prior, seed), seed, **{**further, **own})
            pipe.plan(request)
        return request

    def _prior(self, patients: EmpiricalPrior, seed: int) -> ClinicalPrior:
        """What the group states, then what is drawn given it."""
        stated = {key: _number(key, value, seed) for key, value in self.values.items()}
        edv_ml, esv_ml, ef_percent = (stated[key] for key in ("edv", "esv", "ef"))
        slices = None if stated["slices"] is None else int(stated["slices"])
        diagnosis = None if self.diagnosis is Open.DRAWN else self.diagnosis
        prior = ClinicalPrior(diagnosis or Diagnosis.UNKNOWN, edv_ml, esv_ml, slices)
        if edv_ml is not None and ef_percent is not None:
            prior = prior.with_ef(ef_percent)
        if diagnosis is None or Open.DRAWN in (self.values["edv"], self.values["ef"]):
            known = ef_percent if prior.ef_percent is None else min(max(prior.ef_percent, 3.0), 95.0)
            drawn = patients.draw(seed, diagnosis, lv_edv_ml=edv_ml, ef_percent=known, slices=slices)
            prior = self._opened(prior, drawn)
        if self.values["slices"] is Open.DRAWN:
            prior = patients.complete(prior, derive(seed, "slices"))
        rest = {"rv_edv_ml": stated["rv_edv"], "rv_esv_ml": stated["rv_esv"], "myo_mass_g": stated["mass"]}
        return replace(prior, vendor=self.vendor, **rest)  # type: ignore[arg-type]

    def _opened(self, prior: ClinicalPrior, drawn: ClinicalPrior) -> ClinicalPrior:
        """``prior`` with what is left to chance as it was ``drawn``."""
        edv, ef, slices = (self.values[key] for key in ("edv", "ef", "slices"))
        return replace(
            prior,
            diagnosis=drawn.diagnosis,
            lv_edv_ml=drawn.lv_edv_ml if edv is Open.DRAWN else prior.lv_edv_ml,
            lv_esv_ml=drawn.lv_esv_ml if ef is Open.DRAWN or (edv is Open.DRAWN and ef) else prior.lv_esv_ml,
            slices=drawn.slices if slices is Open.DRAWN else prior.slices,
        )


def requests_of(
    groups: Sequence[Group], pipe: CinePipeline, *, seed: int = 0, count: int | None = None, **further: Any
) -> list[Request]:
    """The requests of all cases, in order; each of them is checked, and `InputError` names the place of its group.

    With ``count``, so many: the first of them, or all of them over and over, each time with other seeds. The same
    groups, ``seed`` and weights give the same requests. ``further`` are fields of `Request`.
    """
    cases = [(group, number) for group in groups for number in range(group.count)]
    wanted = len(cases) if count is None else count
    if not 1 <= wanted <= MAX_CASES:
        raise InputError(f"{wanted} cases were asked for", hint=f"ask for 1 to {MAX_CASES}")
    requests = []
    for index in range(wanted):
        rounds, position = divmod(index, len(cases))
        group, number = cases[position]
        requests.append(group.request(pipe, case_seed(seed, index), rounds * group.count + number, further))
    return requests


@contextmanager
def placed(place: str) -> Iterator[None]:
    """Put ``place`` before the message of an `InputError` of the body."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error.message}", hint=error.hint) from None


def _values(texts: Mapping[str, Text]) -> dict[str, Value]:
    """The numbers of a group; the ESV is drawn as an EF."""
    values = {key: parse_value(key, texts[key]) if key in texts else None for key in NUMBERS}
    if values["esv"] is not None and values["ef"] is not None:
        raise InputError("esv and ef are both given", hint="the EF follows from EDV and ESV: give one of them")
    for key in ("edv", "slices"):
        values[key] = values[key] if key in texts else Open.DRAWN
    if not texts.keys() & {"esv", "ef"} and values["edv"] is not None:
        values["ef"] = Open.DRAWN
    if values["esv"] is Open.DRAWN:
        values["esv"], values["ef"] = None, Open.DRAWN
    return values


def _check(values: Mapping[str, Value]) -> None:
    """`InputError` unless every heart within the ranges is possible."""
    if values["ef"] is not None and values["edv"] is None:
        raise InputError("ef is given without edv", hint=f"give edv too ({NUMBERS['edv']}), or draw it")
    if values["esv"] is not None and values["edv"] is Open.DRAWN:
        raise InputError("edv is drawn for an esv that is given", hint="give edv too, or ef in place of esv")
    edv, esv, ef, slices, rv_edv, rv_esv, mass = (_ends(values[key]) for key in NUMBERS)
    for left_edv, left_esv, number in product(edv, esv, slices):
        ClinicalPrior(Diagnosis.UNKNOWN, left_edv, left_esv, None if number is None else int(number))
    for right_edv, right_esv, grams in product(rv_edv, rv_esv, mass):
        ClinicalPrior(rv_edv_ml=right_edv, rv_esv_ml=right_esv, myo_mass_g=grams)
    for percent in ef:
        if percent is not None:
            ClinicalPrior.from_ef(Diagnosis.UNKNOWN, EDV_RANGE_ML[1], percent)


def _ends(value: Value) -> Sequence[float | None]:
    if isinstance(value, Range):
        return value.low, value.high
    return (None,) if isinstance(value, Open) else (value,)


def _number(key: str, value: Value, seed: int) -> float | None:
    """What a case states of a value, None where that is nothing."""
    if isinstance(value, Range):
        return value.draw(derive(seed, key), whole=key in WHOLE)
    return None if isinstance(value, Open) else value
