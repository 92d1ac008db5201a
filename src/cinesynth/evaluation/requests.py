"""What held-out patients had, asked of weights: `score` generates the hearts and measures their masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

from cinesynth.data.packed import PackedDataset, Record
from cinesynth.errors import DataError
from cinesynth.evaluation.agreement import Pair
from cinesynth.synthesis.export.sidecar import accepted
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.request import Request
from cinesynth.synthesis.seeds import case_seed
from cinesynth.types import Cine, ClinicalPrior, Label

ED_AND_ES = 2
"""Frames of a generated cine that holds ED and ES alone: the volumes need no others."""


@dataclass(frozen=True)
class ControlResult:
    """Pairs of every case, and how many cases met the anatomical rules."""

    pairs: list[Pair]
    accepted: int
    cases: int
    seconds: Sequence[float] = ()
    """How long each case took to generate."""


def requests_of(
    data: PackedDataset, count: int, seed: int, *, frames: int = ED_AND_ES, control: bool = True
) -> list[Request]:
    """``count`` requests for what held-out patients had, patient by patient, each with its own seed."""
    priors = [prior for record in data.records if (prior := prior_of(record)) is not None]
    if not priors:
        raise DataError("no subject of the split has both volumes", hint="choose another split")
    return [
        Request(priors[case % len(priors)], case_seed(seed, case), frames=frames, control=control)
        for case in range(count)
    ]


def prior_of(record: Record) -> ClinicalPrior | None:
    """Diagnosis, volumes and slices of a subject as a request."""
    if record.lv_edv_ml is None or record.lv_esv_ml is None:
        return None
    return ClinicalPrior(record.diagnosis, record.lv_edv_ml, record.lv_esv_ml, record.slices)


def score_control(
    pipe: CinePipeline,
    requests: list[Request],
    progress: Callable[[int, int], None],
    seen: Callable[[Cine], None] | None = None,
) -> ControlResult:
    """Generate the requests and measure LV volumes on the masks; a heart without an LV has 0 mL and no EF.

    ``seen`` is shown every heart: none is kept.
    """
    pairs: list[Pair] = []
    seconds: list[float] = []
    met_rules = 0
    cines = pipe.generate(requests)
    for done, request in enumerate(requests, start=1):
        begin = perf_counter()
        cine = next(cines)
        seconds.append(perf_counter() - begin)
        prior = request.prior
        edv, esv = (float(v) for v in cine.volumes_ml(Label.LV)[[cine.ed_index, cine.es_index]])
        assert prior.lv_edv_ml is not None
        assert prior.lv_esv_ml is not None
        assert prior.ef_percent is not None
        pairs += [Pair("EDV mL", prior.lv_edv_ml, edv), Pair("ESV mL", prior.lv_esv_ml, esv)]
        if edv > 0:
            pairs.append(Pair("EF %", prior.ef_percent, 100.0 * (1.0 - esv / edv)))
        met_rules += bool(accepted(cine))
        if seen is not None:
            seen(cine)
        progress(done, len(requests))
    return ControlResult(pairs, met_rules, len(requests), seconds)
