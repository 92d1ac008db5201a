"""``cinesynth generate``: one case, or a cohort."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cinesynth.cli import console
from cinesynth.cli.bundle import Weights
from cinesynth.errors import InputError
from cinesynth.types import ClinicalPrior, Diagnosis

if TYPE_CHECKING:
    from cinesynth.io.progress import ProgressCallback
    from cinesynth.synthesis.cohort import Share
    from cinesynth.synthesis.pipeline import CinePipeline
    from cinesynth.synthesis.request import Request

Seed = Annotated[int | None, typer.Option(help="The same seed gives the same case; 0, or that of --keep-anatomy.")]
Count = Annotated[
    int | None, typer.Option(min=1, help="Make a cohort of so many cases with a manifest.csv; of --cohort, so many.")
]
Cohort = Annotated[
    Path | None,
    typer.Option("--cohort", help="CSV or YAML that says what each case or group of a cohort is asked for."),
]
TrainingIndex = Annotated[
    Path | None, typer.Option(help="File of `cinesynth known-hearts`: what copies one of them is drawn again.")
]
KeepAnatomy = Annotated[
    Path | None, typer.Option(help="Folder of a case: its heart at ED, with another EF, diagnosis, vendor or seed.")
]


def generate(
    out: Annotated[Path, typer.Option(help="Folder of the case, or with --count or --cohort of the cohort.")],
    diagnosis: Annotated[str | None, typer.Option(help="NOR, DCM, HCM, MINF, RV or UNKNOWN.")] = None,
    edv: Annotated[float | None, typer.Option(help="LV end-diastolic volume, mL.")] = None,
    esv: Annotated[float | None, typer.Option(help="LV end-systolic volume, mL.")] = None,
    ef: Annotated[float | None, typer.Option(help="Ejection fraction, percent; instead of --esv.")] = None,
    slices: Annotated[int | None, typer.Option(help="Short-axis slices.")] = None,
    rv_edv: Annotated[float | None, typer.Option(help="RV end-diastolic volume, mL.")] = None,
    rv_esv: Annotated[float | None, typer.Option(help="RV end-systolic volume, mL.")] = None,
    mass: Annotated[float | None, typer.Option(help="Myocardial mass at ED, g (1.05 g/mL).")] = None,
    vendor: Annotated[str | None, typer.Option(help="Vendor of the scanner, as in the training data.")] = None,
    frames: Annotated[int, typer.Option(help="Frames of the cycle; frame 0 is ED.")] = 30,
    es_index: Annotated[int | None, typer.Option(help="Zero-based frame of ES.")] = None,
    seed: Seed = None,
    count: Count = None,
    cohort: Cohort = None,
    weights: Weights = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps of both models.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Classifier-free guidance; 1 is none.")] = None,
    tries: Annotated[int, typer.Option(help="Draws allowed for an acceptable anatomy, and for its motion.")] = 3,
    control: Annotated[bool, typer.Option(help="Steer the masks to the requested volumes.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a case that lies at --out.")] = False,
    pictures: Annotated[bool, typer.Option(help="Write the contact sheet and the GIF too.")] = True,
    known_hearts: TrainingIndex = None,
    keep_anatomy: KeepAnatomy = None,
) -> None:
    """Generate a beating heart with its segmentation at every frame.

    What is not given is unknown to the model; with nothing given (or a diagnosis or vendor alone), cases are drawn from
    the patients it was trained on. RV volumes, mass and vendor need weights that were trained with them. --cohort takes
    all this from a file, a row or a group at a time (docs/cohorts.md); the same command goes on where it was stopped.
    """
    settings = {"frames": frames, "es_index": es_index, "steps": steps, "guidance": guidance}
    settings |= {"max_attempts": tries, "match_volumes": control}
    further = {"--rv-edv": rv_edv, "--rv-esv": rv_esv, "--mass": mass}
    if cohort is not None:
        core = {"--diagnosis": diagnosis, "--edv": edv, "--esv": esv, "--ef": ef, "--slices": slices}
        others = {"--vendor": vendor, "--keep-anatomy": keep_anatomy, "--overwrite": overwrite or None}
        _refuse({**core, **further, **others}, "--cohort", "the file asks, and no case is replaced: leave it out")
        requests_in = requests_of_file(cohort)  # refused, if they are, before weights are read
        pipe = _pipe(weights, known_hearts)
        requests = requests_in(pipe, seed or 0, count, settings)
    elif keep_anatomy is None:
        prior = _prior(diagnosis, edv, esv, ef, slices)  # likewise
        prior = replace(prior, rv_edv_ml=rv_edv, rv_esv_ml=rv_esv, myo_mass_g=mass, vendor=vendor)
        pipe = _pipe(weights, known_hearts)
        requests = _requests(pipe, prior, count, seed or 0, settings)
    else:
        _refuse({"--edv": edv, "--slices": slices, **further}, "--keep-anatomy", "the anatomy has its own")
        pipe = _pipe(weights, known_hearts)
        changes = {"diagnosis": diagnosis, "esv_ml": esv, "ef_percent": ef, "vendor": vendor}
        requests = _counterfactuals(pipe, keep_anatomy, changes, count, seed, settings)
    if count is not None or cohort is not None:
        make_cohort(pipe, requests, out, pictures)
        return
    _case(pipe, requests[0], out, overwrite, pictures)


def _pipe(weights: Path | None, known_hearts: Path | None) -> CinePipeline:
    from cinesynth.synthesis.pipeline import CinePipeline

    pipe = CinePipeline.from_pretrained(weights)
    if known_hearts is not None:
        from cinesynth.evaluation.training_index import screen

        pipe.duplicate_filters += (screen(known_hearts, pipe.grid),)
    return pipe


def _prior(
    diagnosis: str | None, edv: float | None, esv: float | None, ef: float | None, slices: int | None
) -> ClinicalPrior:
    """The prior of the flags; `InputError` where they contradict each other."""
    kind = Diagnosis.parse(diagnosis) if diagnosis else Diagnosis.UNKNOWN
    prior = ClinicalPrior(kind, edv, esv, slices)
    return prior if ef is None else prior.with_ef(ef)


def _nothing_asked(prior: ClinicalPrior) -> bool:
    """Whether no number is asked for: the empirical prior may then draw them."""
    return replace(prior, diagnosis=Diagnosis.UNKNOWN, vendor=None) == ClinicalPrior()


def _requests(
    pipe: CinePipeline, prior: ClinicalPrior, count: int | None, seed: int, settings: dict[str, Any]
) -> list[Request]:
    """Of one case, or of a cohort whose cases differ by their seeds; where nothing is asked, each draws its prior."""
    from cinesynth.io.seeds import case_seed
    from cinesynth.synthesis.cohort import draw_requests
    from cinesynth.synthesis.request import Request
    from cinesynth.weights.registry import check_supported

    check_supported(prior, pipe.condition_set)
    if not _nothing_asked(prior):
        seeds = [seed] if count is None else [case_seed(seed, case) for case in range(count)]
        return [Request(prior, seed, **settings) for seed in seeds]
    diagnosis = prior.diagnosis if prior.diagnosis is not Diagnosis.UNKNOWN else None
    if count is None:
        return [Request(replace(pipe.prior.draw(seed, diagnosis), vendor=prior.vendor), seed, **settings)]
    return draw_requests(pipe, count, seed=seed, diagnosis=diagnosis, vendor=prior.vendor, **settings)


def _counterfactuals(
    pipe: CinePipeline,
    case: Path,
    changes: dict[str, Any],
    count: int | None,
    seed: int | None,
    settings: dict[str, Any],
) -> list[Request]:
    """The anatomy of ``case`` once, or with ``count`` motions."""
    from cinesynth.io.seeds import case_seed
    from cinesynth.synthesis.counterfactual import counterfactual, kept_anatomy

    named = changes.pop("diagnosis")
    changes["diagnosis"] = None if named is None else Diagnosis.parse(named)
    kept = kept_anatomy(case, pipe)
    seeds = [seed] if count is None else [case_seed(seed or 0, number) for number in range(count)]
    return [counterfactual(kept, seed=seed, **changes, **settings) for seed in seeds]


def _refuse(given: Mapping[str, object], beside: str, reason: str) -> None:
    """`InputError` for flags that are given where ``beside`` leaves them no meaning."""
    for name, value in given.items():
        if value is not None:
            raise InputError(f"{name} was given with {beside}", hint=reason)


def _case(pipe: CinePipeline, request: Request, out: Path, overwrite: bool, pictures: bool) -> None:
    from cinesynth.cases.writing import check_free, save_case

    check_free(out, overwrite=overwrite)
    with console.err.status("generating"):
        (cine,) = pipe.generate([request])
        sidecar = save_case(cine, out, overwrite=overwrite, pictures=pictures)
    _print_case(out, sidecar)


def _print_case(out: Path, sidecar: dict[str, Any]) -> None:
    asked, found = sidecar["requested"], sidecar["achieved"]
    names = {"lv_edv_ml": "EDV mL", "lv_esv_ml": "ESV mL", "ef_percent": "EF %", "slices": "slices"}
    further = {"rv_edv_ml": "RV EDV mL", "rv_esv_ml": "RV ESV mL", "myo_mass_g": "mass g", "vendor": "vendor"}
    names |= {name: text for name, text in further.items() if name in asked}
    rows = [(text, asked.get(name), found.get(name)) for name, text in names.items()]
    console.table(str(out), ("", "requested", "achieved"), rows)
    if not sidecar["accepted"]:
        console.err.print("no draw met every anatomical rule; the best one was kept (see case.json)", style="yellow")
    console.out.print("synthetic, research use only; look at sheet.png and beat.gif")


# --- Cohorts of ``cinesynth generate`` -------------------------------------------------------------------------------


QUIET_S = 30.0
"""Between two lines of a log, where nobody watches a terminal."""


def requests_of_file(path: Path) -> Callable[[CinePipeline, int, int | None, dict[str, Any]], list[Request]]:
    """Read a cohort's file; what is returned makes its requests with weights, a seed, a count and further settings."""
    from cinesynth.synthesis.cohort_file import read_cohort
    from cinesynth.synthesis.cohort_schema import requests_of

    groups = read_cohort(path)
    return lambda pipe, seed, count, settings: requests_of(groups, pipe, seed=seed, count=count, **settings)


def make_cohort(pipe: CinePipeline, requests: list[Request], out: Path, pictures: bool) -> None:
    """Generate this process' share of a cohort, and say what came out of all that is there."""
    from cinesynth.synthesis.cohort import generate_cohort

    share = share_of_process()
    with console.progress() as step:
        rows = generate_cohort(pipe, requests, out, share=share, pictures=pictures, progress=_progress(step))
    accepted = sum(bool(row["accepted"]) for row in rows)
    console.out.print(
        f"{len(rows)} cases in {out}, {accepted} accepted; requested and achieved: {out / 'manifest.csv'}"
    )


def share_of_process() -> Share:
    """As ``torchrun``, ``accelerate launch`` and the like say it: ``RANK`` of ``WORLD_SIZE``; alone, everything."""
    from cinesynth.synthesis.cohort import Share

    numbers = []
    for name, alone in (("RANK", "0"), ("WORLD_SIZE", "1")):
        text = os.environ.get(name, alone)
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise InputError(
                f"the environment variable {name} is {text[:40]!r}", hint="give a whole number, or unset it"
            )
        numbers.append(int(text))
    return Share(*numbers)


def _progress(step: console.Step) -> ProgressCallback:
    """A bar; in a log, now and then a line with the time that is left."""
    begun_s = told_s = time.monotonic()
    first: int | None = None

    def tell(task: str, done: int, total: int, metrics: Mapping[str, float], /) -> None:
        nonlocal told_s, first
        step(task, done, total, dict(metrics))
        now_s = time.monotonic()
        first = done if first is None else first
        if console.err.is_terminal or done == first or (now_s < told_s + QUIET_S and done < total):
            return
        told_s = now_s
        left_s = (now_s - begun_s) / (done - first) * (total - done)
        console.err.print(f"generate {done}/{total}, {timedelta(seconds=round(left_s))} left")

    return tell
