"""The work of jobs: generate, animate and segment, each into an entry of the store."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cinesynth.cases.schema import BEAT, IMAGE, LABEL, SHEET, SIDECAR
from cinesynth.cases.writing import save_case
from cinesynth.errors import InputError
from cinesynth.io.reproducibility import case_seed
from cinesynth.io.tasks import ProgressCallback
from cinesynth.synthesis.animate import AnimationRequest, animate
from cinesynth.synthesis.annotate import annotate
from cinesynth.synthesis.cohort import counterfactual, draw_requests, kept_anatomy
from cinesynth.synthesis.cohort_file import read_cohort
from cinesynth.synthesis.cohort_schema import CohortGroup, requests_of
from cinesynth.synthesis.patient import ANIMATION, ANNOTATION, read_patient, save_animation, save_annotation
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.request import Request
from cinesynth.types import ClinicalPrior, Diagnosis
from cinesynth.web.jobs import Job
from cinesynth.web.model import Model, unusual
from cinesynth.web.schemas import MAX_COHORT, AnimateRequest, AnnotateRequest, CohortRequest, GenerateRequest
from cinesynth.web.store import Entry, Store
from cinesynth.weights.registry import check_supported

CASE = "case"


@dataclass(frozen=True)
class Workshop:
    """Makes the work functions of jobs for one session."""

    model: Model
    store: Store

    def generate(self, session: str, body: GenerateRequest) -> Callable[[Job], list[str]]:
        """One case; with ``keep``, the anatomy of a result with another motion."""
        kept = None if body.keep is None else self._case_of(session, body.keep)

        def work(job: Job) -> list[str]:
            pipe = self._pipe(job)
            request = body.request() if kept is None else _changed(pipe, kept, body)
            return [self._make(job, session, pipe, request, 0.0, 1.0)]

        return work

    def cohort(self, session: str, body: CohortRequest) -> Callable[[Job], list[str]]:
        """Several cases: alike, with sampled priors, or as a cohort table describes."""
        groups = None if body.table is None else _groups(body.table, body.table_format)

        def work(job: Job) -> list[str]:
            pipe = self._pipe(job)
            requests = _requests(pipe, body) if groups is None else _rows(pipe, groups, body)
            share = 1.0 / len(requests)
            made = []
            for number, request in enumerate(requests):
                made.append(self._make(job, session, pipe, request, number * share, share))
                job.results = list(made)  # shown while the others are generated
            return made

        return work

    def animate(self, session: str, body: AnimateRequest) -> Callable[[Job], list[str]]:
        """Animate an uploaded heart."""
        image = self.store.get(session, body.upload).files["image"]
        prior = ClinicalPrior(Diagnosis.parse(body.diagnosis), vendor=body.vendor)
        request = Request(
            prior, body.seed, frames=body.frames, max_attempts=body.max_attempts, match_volumes=body.match_volumes
        )
        asked = AnimationRequest(request, body.ef, body.variation, body.frame)

        def work(job: Job) -> list[str]:
            pipe, patient = self._pipe(job), read_patient(image, body.slice_order)
            asked.frame_of(len(patient.study.image))
            cine = animate(pipe, patient, asked, _reporting(job))
            entry = self._entry(session, "animate")
            entry.about = save_animation(cine, patient, entry.folder / CASE)
            return [_publish(entry, ANIMATION)]

        return work

    def annotate(self, session: str, body: AnnotateRequest) -> Callable[[Job], list[str]]:
        """Segment an uploaded cine."""
        image = self.store.get(session, body.upload).files["image"]

        def work(job: Job) -> list[str]:
            pipe, patient = self._pipe(job), read_patient(image, body.slice_order)
            found = annotate(pipe.bundle, patient, _reporting(job))
            entry = self._entry(session, "annotate")
            entry.about = save_annotation(found, entry.folder / CASE)
            (entry.folder / CASE / image.name).write_bytes(image.read_bytes())  # shown together with its masks
            return [_publish(entry, ANNOTATION, image.name)]

        return work

    def _pipe(self, job: Job) -> CinePipeline:
        job.step(0.0, "loading the model")
        return self.model.get()

    def _case_of(self, session: str, name: str) -> Path:
        entry = self.store.get(session, name)
        if entry.kind != "generate":
            raise InputError("only the anatomy of a generated case can be kept", hint="choose a result of Generate")
        return entry.folder / CASE

    def _entry(self, session: str, kind: str) -> Entry:
        self.store.clean()
        return self.store.new(session, kind)

    def _make(self, job: Job, session: str, pipe: CinePipeline, request: Request, before: float, share: float) -> str:
        (cine,) = pipe.generate([request], _reporting(job, before, share))
        job.step(before + 0.96 * share, "writing")
        entry = self._entry(session, "generate")
        entry.about = save_case(cine, entry.folder / CASE)
        entry.about["unusual"] = unusual(pipe.prior, request.prior)
        return _publish(entry, SIDECAR)


def _reporting(job: Job, before: float = 0.0, share: float = 1.0) -> ProgressCallback:
    """A callback for one case, a ``share`` of its job that starts at ``before``; 5 % are left for writing."""

    def report(task: str, done: int, total: int, metrics: Mapping[str, float], /) -> None:
        job.step(before + share * 0.95 * done / total, task)

    return report


def _changed(pipe: CinePipeline, case: Path, body: GenerateRequest) -> Request:
    """The kept anatomy with the requested motion."""
    return counterfactual(
        kept_anatomy(case, pipe),
        diagnosis=Diagnosis.parse(body.diagnosis),
        ef_percent=body.ef,
        vendor=body.vendor,
        seed=body.seed,
        frames=body.frames,
        max_attempts=body.max_attempts,
        match_volumes=body.match_volumes,
    )


def _requests(pipe: CinePipeline, body: CohortRequest) -> list[Request]:
    if body.sample_priors:
        diagnosis = Diagnosis.parse(body.diagnosis)
        asked = None if diagnosis is Diagnosis.UNKNOWN else diagnosis
        settings: dict[str, Any] = {
            "frames": body.frames,
            "max_attempts": body.max_attempts,
            "match_volumes": body.match_volumes,
        }
        return draw_requests(pipe, body.count, seed=body.seed, diagnosis=asked, vendor=body.vendor, **settings)
    one = body.request()
    check_supported(one.prior, pipe.condition_set)
    return [replace(one, seed=case_seed(body.seed, number)) for number in range(body.count)]


def _groups(table: str, table_format: str) -> list[CohortGroup]:
    """The groups of a cohort table; `InputError` names the line of a mistake."""
    with tempfile.TemporaryDirectory(prefix="cinesynth-") as folder:
        path = Path(folder) / f"table.{table_format}"
        path.write_text(table, encoding="utf-8")
        groups = read_cohort(path)
    count = sum(group.count for group in groups)
    if count > MAX_COHORT:
        raise InputError(
            f"the table asks for {count} cases", hint=f"the app makes at most {MAX_COHORT}: use the command line"
        )
    return groups


def _rows(pipe: CinePipeline, groups: list[CohortGroup], body: CohortRequest) -> list[Request]:
    return requests_of(
        groups,
        pipe,
        seed=body.seed,
        frames=body.frames,
        max_attempts=body.max_attempts,
        match_volumes=body.match_volumes,
    )


def _publish(entry: Entry, record: str, image: str = IMAGE) -> str:
    """List the files of an entry that may be downloaded; returns its name."""
    folder = entry.folder / CASE
    names = {"image.nii.gz" if image.endswith(".gz") else "image.nii": image, LABEL: LABEL, "record.json": record}
    names |= {SHEET: SHEET, BEAT: BEAT}
    entry.files = {name: folder / file for name, file in names.items() if (folder / file).is_file()}
    return entry.name
