"""Cohorts: many cases in one folder, with a table of requested and achieved values.

A cohort is the table and ``case_0000/``, ``case_0001/``, ... A case has the same files as when it is generated alone.
The same command continues an interrupted cohort, even after it was killed, and several processes can share the cases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cinesynth.cases.cohort import CohortTable, Row
from cinesynth.cases.reading import read_sidecar
from cinesynth.cases.writing import check_free, remove_stale, save_case
from cinesynth.errors import InputError, OutputError
from cinesynth.io.files import make_folder
from cinesynth.io.reproducibility import case_seed, derive
from cinesynth.io.tasks import ProgressCallback, no_progress
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.request import Request
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
    priors = [pipe.prior.draw(derive(seed, "prior", case), diagnosis) for case in range(count)]
    priors = [replace(prior, vendor=vendor) for prior in priors]
    return [Request(prior, case_seed(seed, case), **settings) for case, prior in enumerate(priors)]


def generate_cohort(
    pipe: CinePipeline,
    requests: Sequence[Request],
    out: Path | str,
    *,
    share: Share = Share(),
    pictures: bool = True,
    progress: ProgressCallback = no_progress,
) -> list[Row]:
    """Generate the cases of ``requests`` that are missing in ``out``.

    Args:
        pipe: the weights.
        requests: one per case of the whole cohort.
        out: the folder of the cohort.
        share: which cases this process generates.
        pictures: whether to write a contact sheet and a GIF for each case.
        progress: called as ``progress("generate", cases done, cases of this process, {})``, from the writing thread.

    Returns:
        The rows of the cohort's table.

    Raises:
        OutputError: before anything is computed, if a case folder holds another request's case or anything else.
    """
    out = Path(out)
    folders = [out / case_name(case) for case in range(len(requests))]
    mine = range(share.index, len(requests), share.of)
    # Raises before anything is computed, if a folder holds something else.
    missing = [case for case in mine if not is_complete(folders[case], requests[case], pipe)]
    make_folder(out)
    remove_stale(out, {folders[case].name for case in mine})
    table = CohortTable(out, [folder.name for folder in folders])
    there = len(mine) - len(missing)
    progress("generate", there, len(mine), {})

    def write(done: int, case: int, cine: Cine) -> None:
        save_case(cine, folders[case], pictures=pictures)
        table.refresh()
        progress("generate", done, len(mine), {})

    cines = pipe.generate([requests[case] for case in missing])
    _write_in_background(write, zip(range(there + 1, len(mine) + 1), missing, cines, strict=True))
    return table.write()


def _write_in_background(write: Callable[[int, int, Cine], None], cases: Iterable[tuple[int, int, Cine]]) -> None:
    """Write each case in a thread while the next one is computed.

    At most one case waits. An exception of ``write`` is raised here when the next case is computed.
    """
    # Compression and network calls both release the interpreter lock, so that they run at the same time.
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="writer") as writer:
        written: Future[None] | None = None
        for arguments in cases:
            if written is not None:
                written.result()
            written = writer.submit(write, *arguments)
        if written is not None:
            written.result()


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
    same_filters = record.get("duplicate_filters") == pipe.filter_record.get("duplicate_filters")
    if not same_filters or record["request"] != request.to_json() or record["weights"]["sha256"] != pipe.bundle_sha256:
        raise OutputError(
            f"{folder} holds a case of another request, other weights or another training index",
            hint="write to another folder, or repeat the command that generated this one",
        )
    return True
