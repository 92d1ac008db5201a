"""Cohorts: many cases in one folder, with a table of requested and achieved values; and counterfactuals of a case.

A cohort is the table and ``case_0000/``, ``case_0001/``, ... A case has the same files as when it is generated alone.
The same command continues an interrupted cohort, even after it was killed, and several processes can share the cases.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cinesynth.cases.cohort import CohortTable, Row
from cinesynth.cases.reading import read_case, read_sidecar
from cinesynth.cases.schema import SIDECAR, from_stored
from cinesynth.cases.writing import check_free, remove_stale, save_case
from cinesynth.errors import InputError, OutputError
from cinesynth.io.files import make_folder
from cinesynth.io.reproducibility import case_seed, derive, is_short_seed
from cinesynth.io.tasks import FORK, ProgressCallback, cores, no_progress, ordered_map, part_of
from cinesynth.physiology import EDV_RANGE_ML
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.request import KeptFrame, Request
from cinesynth.types import Cine, Diagnosis


@dataclass(frozen=True)
class Share:
    """The cases that this process generates: every ``of``-th one, beginning with ``index``."""

    index: int = 0
    of: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.of:
            raise InputError(
                f"share {self.index} is outside 0-{self.of - 1}", hint="set RANK below WORLD_SIZE, counted from 0"
            )


def draw_requests(
    pipe: CinePipeline,
    count: int,
    *,
    seed: int = 0,
    diagnosis: Diagnosis | None = None,
    vendor: str | None = None,
    **settings: Any,
) -> list[Request]:
    """Sample ``count`` requests from the empirical prior of the weights.

    ``settings`` are the other fields of `Request`. The vendor is not sampled: it is the given one, or unspecified.
    """
    if count < 1:
        raise InputError(f"{count} cases were requested", hint="request 1 or more")
    # A seed per case: a longer cohort begins with the cases of a shorter one.
    priors = (pipe.prior.draw(derive(seed, "prior", case), diagnosis) for case in range(count))
    priors = (replace(prior, vendor=vendor) for prior in priors)
    return [Request(prior, case_seed(seed, case), **settings) for case, prior in enumerate(priors)]


def generate_cohort(
    pipe: CinePipeline,
    requests: Sequence[Request],
    out: Path | str,
    *,
    share: Share = Share(),
    workers: int | None = None,
    pictures: bool = True,
    progress: ProgressCallback = no_progress,
) -> list[Row]:
    """Generate the cases of ``requests``, one per case of the whole cohort, that are missing in the folder ``out``.

    Only those of ``share``, with a contact sheet and a GIF if ``pictures``. On a CPU, up to ``workers`` processes of
    one thread each generate a case at a time; by default one per core, or one if the cohort is shared: that takes less
    time than a case on all cores, and gives the same voxels. ``progress`` is called as ``progress("generate", cases
    done, cases of this process, {})``, and in a single process for the stages of each "case". A case that another
    process finishes meanwhile counts as done. Returns the rows of the cohort's table. Raises `OutputError`, before
    anything is computed, if a case folder holds another request's case or anything else.
    """
    out = Path(out)
    folders = [out / case_name(case) for case in range(len(requests))]
    mine = range(share.index, len(requests), share.of)
    missing = [case for case in mine if not is_complete(folders[case], requests[case], pipe)]
    make_folder(out)
    remove_stale(out, {folders[case].name for case in mine})
    table = CohortTable(out, [folder.name for folder in folders])
    there = len(mine) - len(missing)
    progress("generate", there, len(mine), {})
    workers = workers or (cores() if share.of == 1 else 1)
    asked = [(requests[case], folders[case]) for case in missing]
    for request, _ in asked:
        pipe.plan(request)  # all are checked before the first one is computed
    if workers == 1 or pipe.device.type != "cpu" or len(missing) < 2 or not FORK:
        generated = _one_after_another(pipe, asked, pictures, part_of("case", progress))
    else:
        generated = _beside_each_other(pipe, asked, pictures, workers)
    with closing(generated) as cases:
        for done, _ in enumerate(cases, start=there + 1):
            table.refresh()
            progress("generate", done, len(mine), {})
    return table.write()


def _one_after_another(
    pipe: CinePipeline, asked: Sequence[tuple[Request, Path]], pictures: bool, progress: ProgressCallback
) -> Generator[None, None, None]:
    """Generate cases into their folders; a case is written while the next one is computed."""
    # Compression and network calls both release the interpreter lock.
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="writer") as writer:
        written: Future[None] | None = None
        for request, folder in asked:
            cine = None if is_complete(folder, request, pipe) else next(pipe.generate([request], progress))
            if written is not None:  # at most one case waits
                yield written.result()
            written = writer.submit(_save, cine, folder, request, pipe, pictures)
        if written is not None:
            yield written.result()


def _beside_each_other(
    pipe: CinePipeline, asked: Sequence[tuple[Request, Path]], pictures: bool, workers: int
) -> Generator[None, None, None]:
    """Generate cases into their folders, each by one of several processes."""

    def generate(case: tuple[Request, Path]) -> None:
        request, folder = case
        if not is_complete(folder, request, pipe):
            _save(next(pipe.generate([request])), folder, request, pipe, pictures)

    return ordered_map(generate, asked, workers)


def _save(cine: Cine | None, folder: Path, request: Request, pipe: CinePipeline, pictures: bool) -> None:
    """Write a case, unless there is none or another process has written the same one meanwhile."""
    try:
        if cine is not None:
            save_case(cine, folder, pictures=pictures)
    except OutputError:
        if not is_complete(folder, request, pipe):
            raise


def case_name(case: int) -> str:
    """Name of the folder of case number ``case``."""
    return f"case_{case:04d}"


def is_complete(folder: Path, request: Request, pipe: CinePipeline) -> bool:
    """Whether ``folder`` holds the finished case of this request and these weights.

    Raises `OutputError` if the folder holds anything else.
    """
    found = read_sidecar(folder)
    if found is None:
        check_free(folder)
        return False
    record = found["provenance"]
    others = {
        "other weights": record["weights"]["sha256"] != pipe.bundle_sha256,
        "another training index": not pipe.has_filters_of(record),
    }
    different = [text for text, differs in others.items() if differs]
    different += _differences(record["request"], request.to_json())
    if not different:
        return True
    hint = "write to another folder, or repeat the command that generated this case"
    if is_short_seed(record["request"]["seed"], of=request.seed):
        hint = "cohorts of earlier versions have other seeds: finish it with the version that began it, or "
        hint += "write to another folder"
    raise OutputError(f"{folder} holds another case: {', '.join(different)}", hint=hint)


def _differences(found: Mapping[str, object], asked: Mapping[str, object]) -> list[str]:
    """What differs between two requests in JSON, as in ``seed 5 there, 7 requested``."""
    keys = [key for key in {**found, **asked} if found.get(key) != asked.get(key)]
    return [
        "another kept anatomy" if key == "anatomy" else f"{key} {found.get(key)} there, {asked.get(key)} requested"
        for key in keys
    ]


# --- Counterfactuals: the same heart at ED with another EF, diagnosis, vendor or sampled motion ----------------------


@dataclass(frozen=True)
class KeptAnatomy:
    """The anatomy of a case: its request, its ED frame, and the EDV of its heart."""

    request: Request
    frame: KeptFrame
    edv_ml: float


def kept_anatomy(folder: Path, pipe: CinePipeline) -> KeptAnatomy:
    """The anatomy of the case in ``folder``: its ED frame is copied, its latent computed again from the request.

    The EDV is the requested one if volumes were matched to it, else that of the mask. Raises `InputError` if the folder
    holds no case, or one that ``pipe`` would not generate again, `DataError` if its files were changed.
    """
    found = read_sidecar(folder)
    if found is None:
        raise InputError(
            f"{folder} holds no generated case: {SIDECAR} is missing", hint="give a case folder of `cinesynth generate`"
        )
    record = found["provenance"]
    if record["weights"]["sha256"] != pipe.bundle_sha256:
        raise InputError(
            f"the case in {folder} was made with other weights",
            hint="give those weights by --weights: the latent of the anatomy is computed again",
        )
    if not pipe.has_filters_of(record):
        raise InputError(
            f"the case in {folder} was generated with other filters against near-duplicates",
            hint="give the same --training-index as then, or none if there was none",
        )
    request = Request.from_json(record["request"])
    matched = request.prior.lv_edv_ml if request.match_volumes else None
    edv_ml: float = found["achieved"]["lv_edv_ml"] if matched is None else matched
    low, high = EDV_RANGE_ML
    if not low <= edv_ml <= high:
        raise InputError(
            f"the LV of the case in {folder} has {edv_ml:.1f} mL at ED, expected {low:g}-{high:g} mL",
            hint="pass an accepted case to --keep-anatomy",
        )
    return KeptAnatomy(request, _ed_frame(folder, found), edv_ml)


def _ed_frame(folder: Path, found: Mapping[str, Any]) -> KeptFrame:
    case, machine = read_case(folder, folder.name), found["provenance"].get("machine", {})
    made_on = ", ".join(f"{key} {value}" for key, value in machine.items()) or "machine unknown"
    return KeptFrame(from_stored(case.image[case.ed_index]), case.label[case.ed_index], found["files"], made_on)


def counterfactual(
    kept: KeptAnatomy,
    *,
    diagnosis: Diagnosis | None = None,
    esv_ml: float | None = None,
    ef_percent: float | None = None,
    vendor: str | None = None,
    seed: int | None = None,
    **settings: Any,
) -> Request:
    """A request that keeps the anatomy of `kept_anatomy` and changes what is given.

    With the seed of the case, which is the default, the motion starts from the same noise. ``settings`` are the other
    fields of `Request`. `InputError` if the ESV, a new one or that of the case, does not fit the EDV of the heart.
    """
    request = kept.request
    before = request.prior
    changed: dict[str, Any] = {"diagnosis": diagnosis or before.diagnosis, "vendor": vendor or before.vendor}
    if esv_ml is not None or ef_percent is not None:
        changed["lv_esv_ml"] = esv_ml
    try:
        prior = replace(before, **changed, lv_edv_ml=kept.edv_ml)
    except InputError as error:
        raise InputError(
            f"{error.message}, the volume of the kept heart", hint="give an EF, or an ESV below the EDV"
        ) from None
    if ef_percent is not None:
        prior = prior.with_ef(ef_percent)
    seed = request.seed if seed is None else seed
    return Request(prior, seed, **settings, anatomy=request.anatomy or request, frame=kept.frame)
