"""Many cases in one folder, with a table of what was asked and what came out.

``cohort/manifest.csv`` and ``cohort/case_0000/``, ``case_0001/`` ... A case's files are those it has when generated
alone. The same command goes on where it was interrupted; several processes may each take a share.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cinesynth.atomic import make_folder, write_text
from cinesynth.data.export.case import SIDECAR
from cinesynth.errors import InputError, OutputError
from cinesynth.synthesis.export.case import check_free, save_case
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.request import Request
from cinesynth.synthesis.seeds import case_seed, derive
from cinesynth.types import FURTHER_CONDITIONS, Diagnosis

MANIFEST = "manifest.csv"
REQUESTED = ("diagnosis", "lv_edv_ml", "lv_esv_ml", "ef_percent", "slices", *FURTHER_CONDITIONS)
ACHIEVED = (
    "lv_edv_ml",
    "lv_esv_ml",
    "ef_percent",
    "slices",
    "rv_edv_ml",
    "rv_esv_ml",
    "myo_ed_ml",
    "myo_es_ml",
    "myo_mass_g",
)
FIELDS = ("seed", "accepted", "frames", "es_index", "frame_time_ms")
COLUMNS = (
    "case",
    *FIELDS,
    "anatomy_tries",
    "motion_tries",
    *(f"requested_{name}" for name in REQUESTED),
    *(f"achieved_{name}" for name in ACHIEVED),
)
Row = dict[str, Any]
Progress = Callable[[int, int], None]
"""Called with the cases done and the cases in all (of this process)."""


@dataclass(frozen=True)
class Share:
    """The cases that this process makes: every ``of``-th, from ``index``."""

    index: int = 0
    of: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.of:
            raise InputError(f"share {self.index} of {self.of} does not exist", hint="shares count from 0")


def draw_requests(
    pipe: CinePipeline, count: int, *, seed: int = 0, diagnosis: Diagnosis | None = None, **settings: Any
) -> list[Request]:
    """``count`` requests from the empirical prior of the weights; ``settings`` are the other fields of `Request`."""
    if count < 1:
        raise InputError(f"{count} cases were asked for", hint="ask for 1 or more")
    priors = [pipe.prior.draw(derive(seed, "prior", case), diagnosis) for case in range(count)]
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
    report(progress, len(mine) - len(missing), len(mine))
    for done, (case, cine) in enumerate(
        zip(missing, pipe.generate([requests[case] for case in missing]), strict=True), start=1
    ):
        save_case(cine, folders[case], pictures=pictures)
        write_manifest(out, folders)
        report(progress, len(mine) - len(missing) + done, len(mine))
    return write_manifest(out, folders)


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


def read_sidecar(folder: Path) -> dict[str, Any] | None:
    """A finished case's JSON, None where there is none; `OutputError` if it is damaged."""
    path = folder / SIDECAR
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        content["provenance"]["request"], content["provenance"]["weights"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{path} is not a case's sidecar: {error!r}", hint=f"remove {folder} and repeat") from None
    return content


def write_manifest(out: Path, folders: Sequence[Path]) -> list[Row]:
    """Write the table of the cases that are complete; returns its rows.

    Another process may finish a case meanwhile: whoever writes last writes what is there.
    """
    while True:
        rows = [manifest_row(folder.name, content) for folder in folders if (content := read_sidecar(folder))]
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(out / MANIFEST, text.getvalue())
        if len(rows) == sum((folder / SIDECAR).is_file() for folder in folders):
            return rows


def manifest_row(case: str, content: dict[str, Any]) -> Row:
    """A case's row; what is unknown is None, an empty cell."""
    acceptance = content["provenance"]["acceptance"]
    return {
        "case": case,
        **{name: content[name] for name in FIELDS},
        "anatomy_tries": acceptance["anatomy"]["tries"],
        "motion_tries": acceptance["motion"]["tries"],
        **{f"requested_{name}": content["requested"].get(name) for name in REQUESTED},
        **{f"achieved_{name}": content["achieved"].get(name) for name in ACHIEVED},
    }


def report(progress: Progress | None, done: int, total: int) -> None:
    """Tell the caller how far it is, if it wants to know."""
    if progress is not None:
        progress(done, total)
