"""``cinesynth generate``: one case or a cohort."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from cinesynth.cli import console, options, progress
from cinesynth.errors import InputError

if TYPE_CHECKING:
    from cinesynth.synthesis.cohort import Share
    from cinesynth.synthesis.pipeline import CinePipeline
    from cinesynth.synthesis.request import Request
    from cinesynth.types import ClinicalPrior

Values = dict[str, Any]
Seed = Annotated[
    int | None, Option(help="The same seed gives the same case. Default: 0, or the seed of --keep-anatomy.")
]
Count = Annotated[
    int | None,
    Option(min=1, help="Number of cases of a cohort, listed in its cohort.csv; --cohort repeats its cases if needed."),
]
Cohort = Annotated[
    Path | None,
    Option("--cohort", help="CSV or YAML file with the requested values of each case or group of a cohort."),
]
TrainingIndex = Annotated[
    Path | None,
    Option(help="File of `cinesynth training-index`; samples too similar to a training subject are resampled."),
]
KeepAnatomy = Annotated[
    Path | None, Option(help="Case folder whose ED anatomy is kept, with another EF, diagnosis, vendor or seed.")
]


def generate(
    out: Annotated[Path, Option(help="Folder of the case; with --count or --cohort, folder of the cohort.")],
    diagnosis: Annotated[str | None, Option(help="NOR, DCM, HCM, MINF, RV or UNKNOWN.")] = None,
    edv: Annotated[float | None, Option(help="LV end-diastolic volume, mL.")] = None,
    esv: options.Esv = None,
    ef: options.Ef = None,
    slices: Annotated[int | None, Option(help="Short-axis slices.")] = None,
    rv_edv: Annotated[float | None, Option(help="RV end-diastolic volume, mL.")] = None,
    rv_esv: Annotated[float | None, Option(help="RV end-systolic volume, mL.")] = None,
    mass: Annotated[float | None, Option(help="Myocardial mass at ED, g (1.05 g/mL).")] = None,
    vendor: options.Vendor = None,
    frames: options.Frames = 30,
    es_index: options.EsIndex = None,
    seed: Seed = None,
    count: Count = None,
    cohort: Cohort = None,
    weights: options.Weights = None,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    max_attempts: options.MaxAttempts = 3,
    match_volumes: options.MatchVolumes = True,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace an existing case at --out.")] = False,
    pictures: options.Pictures = True,
    training_index: TrainingIndex = None,
    keep_anatomy: KeepAnatomy = None,
    precision: options.Precision = "auto",
    workers: options.Workers = None,
) -> None:
    """Generate a beating heart with its segmentation at every frame.

    Omitted conditions are as training subjects have them beside what you give; without any volume, priors are sampled.
    RV volumes, mass and vendor need weights that were trained with them. --cohort reads all of this from a file, one
    row or group at a time. Run the same command again to continue an interrupted cohort.
    """
    settings = {"frames": frames, "es_index": es_index, "steps": steps, "guidance": guidance}
    settings |= {"max_attempts": max_attempts, "match_volumes": match_volumes}
    sizes: Values = {"--edv": edv, "--slices": slices, "--rv-edv": rv_edv, "--rv-esv": rv_esv, "--mass": mass}
    _check_options(count, cohort, overwrite, workers)
    if cohort is not None:
        from cinesynth.synthesis import cohort_file, cohort_schema

        others = {"--diagnosis": diagnosis, "--esv": esv, "--ef": ef, "--vendor": vendor}
        _refuse(sizes | others | {"--keep-anatomy": keep_anatomy}, "--cohort", "leave it out: the cohort file sets it")
        groups = cohort_file.read_cohort(cohort)  # an invalid file is refused before the weights are read
        pipe = _pipe(weights, precision, training_index)
        requests = cohort_schema.requests_of(groups, pipe, seed=seed or 0, count=count, **settings)
    elif keep_anatomy is None:
        volumes = {"lv_edv_ml": edv, "lv_esv_ml": esv, "rv_edv_ml": rv_edv, "rv_esv_ml": rv_esv, "myo_mass_g": mass}
        prior = _prior(diagnosis, ef, **volumes, slices=slices, vendor=vendor)
        pipe = _pipe(weights, precision, training_index)
        requests = _requests(pipe, prior, count, seed or 0, settings)
    else:
        _refuse(sizes, "--keep-anatomy", "leave it out: the kept anatomy determines it")
        pipe = _pipe(weights, precision, training_index)
        changes = {"diagnosis": diagnosis, "esv_ml": esv, "ef_percent": ef, "vendor": vendor}
        requests = _counterfactuals(pipe, keep_anatomy, changes, count, seed, settings)
    if count is not None or cohort is not None:
        _cohort(pipe, requests, out, pictures, workers)
    else:
        _case(pipe, requests[0], out, overwrite, pictures)


def _check_options(count: int | None, cohort: Path | None, overwrite: bool, workers: int | None) -> None:
    """`InputError` for options that have no effect on several cases, or on one."""
    if count is not None or cohort is not None:
        replacing = {"--overwrite": overwrite or None}
        several = "--count" if cohort is None else "--cohort"
        _refuse(replacing, several, "leave it out: a cohort never replaces finished cases")
    else:
        _refuse({"--workers": workers}, "a single case", "leave it out, or generate several cases with --count")


def _prior(diagnosis: str | None, ef_percent: float | None, **conditions: Any) -> ClinicalPrior:
    from cinesynth.types import ClinicalPrior, Diagnosis

    prior = ClinicalPrior(Diagnosis.parse(diagnosis or "UNKNOWN"), **conditions)
    return prior if ef_percent is None else prior.with_ef(ef_percent)


def _pipe(weights: Path | None, precision: options.Precision, training_index: Path | None) -> CinePipeline:
    pipe = _import_pipeline().from_pretrained(progress.announce(weights, precision=precision), precision=precision)
    if training_index is not None:
        from cinesynth.memorisation.duplicate_filter import index_filter

        pipe.duplicate_filters += (index_filter(training_index, pipe.grid),)
    return pipe


def _import_pipeline() -> type[CinePipeline]:
    """`CinePipeline`; the many objects that its import makes will stay, so none is searched for garbage."""
    first = "torch" not in sys.modules
    gc.disable()
    from cinesynth.synthesis.pipeline import CinePipeline

    if first:
        gc.freeze()
    gc.enable()
    return CinePipeline


def _requests(
    pipe: CinePipeline, prior: ClinicalPrior, count: int | None, seed: int, settings: Values
) -> list[Request]:
    """One request, or ``count`` requests with different seeds; each samples its own prior if no number is requested."""
    from cinesynth.io.reproducibility import case_seed
    from cinesynth.synthesis.request import Request
    from cinesynth.types import ClinicalPrior, Diagnosis

    pipe.planner.check(prior)
    if replace(prior, diagnosis=Diagnosis.UNKNOWN, vendor=None) != ClinicalPrior():
        seeds = [seed] if count is None else [case_seed(seed, case) for case in range(count)]
        return [Request(prior, seed, **settings) for seed in seeds]
    diagnosis = prior.diagnosis if prior.diagnosis is not Diagnosis.UNKNOWN else None
    if count is None:
        return [Request(replace(pipe.prior.draw(seed, diagnosis), vendor=prior.vendor), seed, **settings)]
    from cinesynth.synthesis.cohort import draw_requests

    return draw_requests(pipe, count, seed=seed, diagnosis=diagnosis, vendor=prior.vendor, **settings)


def _counterfactuals(
    pipe: CinePipeline, case: Path, changes: Values, count: int | None, seed: int | None, settings: Values
) -> list[Request]:
    """Requests that keep the anatomy of ``case``: one, or ``count`` with different motions."""
    from cinesynth.io.reproducibility import case_seed
    from cinesynth.synthesis.cohort import counterfactual, kept_anatomy
    from cinesynth.types import Diagnosis

    named = changes.pop("diagnosis")
    changes["diagnosis"] = None if named is None else Diagnosis.parse(named)
    kept = kept_anatomy(case, pipe)
    seeds = [seed] if count is None else [case_seed(seed or 0, number) for number in range(count)]
    return [counterfactual(kept, seed=seed, **changes, **settings) for seed in seeds]


def _refuse(given: Mapping[str, object], beside: str, reason: str) -> None:
    """`InputError` for options that have no meaning together with ``beside``."""
    for name, value in given.items():
        if value is not None:
            raise InputError(f"{name} cannot be combined with {beside}", hint=reason)


def _case(pipe: CinePipeline, request: Request, out: Path, overwrite: bool, pictures: bool) -> None:
    from cinesynth.cases.writing import check_free, save_case
    from cinesynth.io.tasks import part_of

    check_free(out, overwrite=overwrite)
    with progress.shown("generate") as step:
        (cine,) = pipe.generate([request], part_of("case", step))
        sidecar = save_case(cine, out, overwrite=overwrite, pictures=pictures)
    asked, found = sidecar["requested"], sidecar["achieved"]
    names = {"lv_edv_ml": "EDV mL", "lv_esv_ml": "ESV mL", "ef_percent": "EF %", "slices": "slices"}
    further = {"rv_edv_ml": "RV EDV mL", "rv_esv_ml": "RV ESV mL", "myo_mass_g": "mass g", "vendor": "vendor"}
    names |= {name: text for name, text in further.items() if name in asked}
    rows = [(text, asked.get(name), found.get(name)) for name, text in names.items()]
    console.table(str(out), ("", "requested", "achieved"), rows)
    if not sidecar["accepted"]:
        console.err.print(
            "no attempt passed every anatomical rule; the best one was kept (see case.json)", style="yellow"
        )
    console.out.print("synthetic, research use only; see sheet.png and beat.gif")


# --- Cohorts ---------------------------------------------------------------------------------------------------------


def _cohort(pipe: CinePipeline, requests: list[Request], out: Path, pictures: bool, workers: int | None) -> None:
    """Generate this process' share of a cohort and summarise all cases that exist so far."""
    from cinesynth.cases.cohort import COHORT_TABLE
    from cinesynth.synthesis.cohort import generate_cohort

    if pipe.device.type != "cpu":
        _refuse({"--workers": workers}, "a GPU", "leave it out: one process generates all cases there")
    settings: Values = {"share": _share_of_process(), "workers": workers, "pictures": pictures}
    with progress.shown("generate") as step:
        rows = generate_cohort(pipe, requests, out, **settings, progress=step)
    accepted = sum(bool(row["accepted"]) for row in rows)
    console.out.print(
        f"{len(rows)} cases in {out}, {accepted} accepted; requested and achieved volumes: {out / COHORT_TABLE}"
    )


def _share_of_process() -> Share:
    """The share set by ``torchrun`` or ``accelerate launch``: ``RANK`` of ``WORLD_SIZE``, else the whole cohort."""
    from cinesynth.synthesis.cohort import Share

    numbers = []
    for name, alone in (("RANK", "0"), ("WORLD_SIZE", "1")):
        text = os.environ.get(name, alone)
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            hint = "set it to a whole number, or unset it"
            raise InputError(f"the environment variable {name} is {text[:40]!r}, not a whole number", hint=hint)
        numbers.append(int(text))
    return Share(*numbers)
