"""Many cases in one folder, with a table of what was asked and what came out.

``cohort/cohort.csv`` and ``cohort/case_0000/``, ``case_0001/`` ... A case's files are those it has when generated
alone. The same command goes on where it was interrupted, even killed; several processes may each take a share.
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
from cinesynth.io.seeds import case_seed, derive
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.request import Request
from cinesynth.types import Cine, Diagnosis

Progress = Callable[[int, int], None]
"""Called with the cases done and the cases in all (of this process); from the thread that writes them."""


@dataclass(frozen=True)
class Share:
    """The cases that this process makes: every ``of``-th, from ``index``."""

    index: int = 0
    of: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.of:
            raise InputError(f"share {self.index} of {self.of} does not exist", hint="shares count from 0")


def draw_requests(
    pipe: CinePipeline,
    count: int,
    *,
    seed: int = 0,
    diagnosis: Diagnosis | None = None,
    vendor: str | None = None,
    **settings: Any,
) -> list[Request]:
    """``count`` requests from the empirical prior of the weights; ``settings`` are the other fields of `Request`.

    The vendor is not drawn: it is what is given, or unknown.
    """
    if count < 1:
        raise InputError(f"{count} cases were asked for", hint="ask for 1 or more")
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
    progress: Progress | None = None,
) -> list[Row]:
    """Generate what is missing of ``requests`` into ``out``; returns the rows of the manifest.

    `OutputError`, before anything is computed, where a case folder holds another request's case or something else.
    """
    out = Path(out)
    folders = [out / case_name(case) for case in range(len(requests))]
    mine = range(share.index, len(requests), share.of)
    missing = [case for case in mine if not is_complete(folders[case], requests[case], pipe)]
    make_folder(out)
    remove_stale(out, {folders[case].name for case in mine})
    table = CohortTable(out, [folder.name for folder in folders])
    there = len(mine) - len(missing)
    report(progress, there, len(mine))

    def write(done: int, case: int, cine: Cine) -> None:
        save_case(cine, folders[case], pictures=pictures)
        table.refresh()
        report(progress, done, len(mine))

    cines = pipe.generate([requests[case] for case in missing])
    _beside(write, zip(range(there + 1, len(mine) + 1), missing, cines, strict=True))
    return table.write()


def _beside(write: Callable[[int, int, Cine], None], made: Iterable[tuple[int, int, Cine]]) -> None:
    """Write each case in a thread while the next is made; no more than one waits.

    Compression and network calls leave the interpreter to each other. What ``write`` raises is raised here, when the
    next case is there.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="writer") as writer:
        written: Future[None] | None = None
        for arguments in made:
            if written is not None:
                written.result()
            written = writer.submit(write, *arguments)
        if written is not None:
            written.result()


def case_name(case: int) -> str:
    """Name of the folder of case number ``case``."""
    return f"case_{case:04d}"


def is_complete(folder: Path, request: Request, pipe: CinePipeline) -> bool:
    """Whether ``folder`` holds this request's case from these weights; `OutputError` if it holds anything else."""
    found = read_sidecar(folder)
    if found is None:
        check_free(folder)
        return False
    record = found["provenance"]
    same = record["request"] == request.to_json() and record.get("screen") == pipe.screened.get("screen")
    if not same or record["weights"]["sha256"] != pipe.bundle_sha256:
        raise OutputError(
            f"{folder} holds a case of another request or screen, or other weights",
            hint="write to another folder, or repeat the command that made this one",
        )
    return True


def report(progress: Progress | None, done: int, total: int) -> None:
    """Tell the caller how far it is, if it wants to know."""
    if progress is not None:
        progress(done, total)
