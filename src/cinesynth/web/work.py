"""What jobs do: make hearts, set patients' hearts in motion, draw masks; each into an entry of the store."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cinesynth.cases.reading import IMAGE, LABEL, SIDECAR
from cinesynth.cases.writing import BEAT, SHEET, save_case
from cinesynth.errors import InputError
from cinesynth.io.progress import ProgressCallback
from cinesynth.io.seeds import case_seed
from cinesynth.synthesis.animate import AnimationRequest, animate
from cinesynth.synthesis.annotate import annotate
from cinesynth.synthesis.cohort import draw_requests
from cinesynth.synthesis.cohort_file import read_cohort
from cinesynth.synthesis.cohort_schema import CohortGroup, requests_of
from cinesynth.synthesis.counterfactual import counterfactual, kept_anatomy
from cinesynth.synthesis.patient import ANIMATION, ANNOTATION, read_patient, save_animation, save_annotation
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.synthesis.request import Request
from cinesynth.types import ClinicalPrior, Diagnosis
from cinesynth.web.jobs import Job
from cinesynth.web.model import Model, unusual
from cinesynth.web.schemas import LARGEST_COHORT, AnimateWish, AnnotateWish, CohortWish, GenerateRequest
from cinesynth.web.store import Entry, Store
from cinesynth.weights.registry import check_supported

CASE = "case"


@dataclass(frozen=True)
class Workshop:
    """The model and the store at work for one session."""

    model: Model
    store: Store

    def generate(self, session: str, wish: GenerateRequest) -> Callable[[Job], list[str]]:
        """One heart; with ``keep`` the heart of a result, with another motion."""
        kept = None if wish.keep is None else self._case_of(session, wish.keep)

        def work(job: Job) -> list[str]:
            pipe = self._pipe(job)
            request = wish.request() if kept is None else _changed(pipe, kept, wish)
            return [self._make(job, session, pipe, request, 0.0, 1.0)]

        return work

    def cohort(self, session: str, wish: CohortWish) -> Callable[[Job], list[str]]:
        """Several hearts, of one wish, drawn from the training subjects, or as a table asks."""
        groups = None if wish.table is None else _groups(wish.table, wish.table_form)

        def work(job: Job) -> list[str]:
            pipe = self._pipe(job)
            requests = _requests(pipe, wish) if groups is None else _rows(pipe, groups, wish)
            share = 1.0 / len(requests)
            made = []
            for number, request in enumerate(requests):
                made.append(self._make(job, session, pipe, request, number * share, share))
                job.results = list(made)  # seen while the others are made
            return made

        return work

    def animate(self, session: str, wish: AnimateWish) -> Callable[[Job], list[str]]:
        """A patient's heart in motion."""
        image = self.store.get(session, wish.upload).files["image"]
        prior = ClinicalPrior(Diagnosis.parse(wish.diagnosis), vendor=wish.vendor)
        request = Request(prior, wish.seed, frames=wish.frames, max_attempts=wish.tries, match_volumes=wish.control)
        asked = AnimationRequest(request, wish.ef, wish.variation, wish.frame)

        def work(job: Job) -> list[str]:
            pipe, patient = self._pipe(job), read_patient(image, wish.slice_order)
            asked.frame_of(len(patient.study.image))
            cine = animate(pipe, patient, asked, _reporting(job))
            entry = self._entry(session, "animate")
            entry.about = save_animation(cine, patient, entry.folder / CASE)
            return [_publish(entry, ANIMATION)]

        return work

    def annotate(self, session: str, wish: AnnotateWish) -> Callable[[Job], list[str]]:
        """Masks of a patient's cine."""
        image = self.store.get(session, wish.upload).files["image"]

        def work(job: Job) -> list[str]:
            pipe, patient = self._pipe(job), read_patient(image, wish.slice_order)
            found = annotate(pipe.bundle, patient, _reporting(job))
            entry = self._entry(session, "annotate")
            entry.about = save_annotation(found, entry.folder / CASE)
            (entry.folder / CASE / image.name).write_bytes(image.read_bytes())  # to be looked at beside its masks
            return [_publish(entry, ANNOTATION, image.name)]

        return work

    def _pipe(self, job: Job) -> CinePipeline:
        job.step(0.0, "loading the model")
        return self.model.get()

    def _case_of(self, session: str, name: str) -> Path:
        entry = self.store.get(session, name)
        if entry.kind != "generate":
            raise InputError("only a generated heart can be kept", hint="choose one that Generate made")
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
    """A callback that reports a case, which is a ``share`` of its job after ``before``; 5 % are left for writing."""

    def report(task: str, done: int, total: int, metrics: Mapping[str, float], /) -> None:
        job.step(before + share * 0.95 * done / total, task)

    return report


def _changed(pipe: CinePipeline, case: Path, wish: GenerateRequest) -> Request:
    """The kept anatomy with the motion that is wished."""
    return counterfactual(
        kept_anatomy(case, pipe),
        diagnosis=Diagnosis.parse(wish.diagnosis),
        ef_percent=wish.ef,
        vendor=wish.vendor,
        seed=wish.seed,
        frames=wish.frames,
        max_attempts=wish.tries,
        match_volumes=wish.control,
    )


def _requests(pipe: CinePipeline, wish: CohortWish) -> list[Request]:
    if wish.drawn:
        diagnosis = Diagnosis.parse(wish.diagnosis)
        asked = None if diagnosis is Diagnosis.UNKNOWN else diagnosis
        settings: dict[str, Any] = {"frames": wish.frames, "max_attempts": wish.tries, "match_volumes": wish.control}
        return draw_requests(pipe, wish.count, seed=wish.seed, diagnosis=asked, vendor=wish.vendor, **settings)
    one = wish.request()
    check_supported(one.prior, pipe.condition_set)
    return [replace(one, seed=case_seed(wish.seed, number)) for number in range(wish.count)]


def _groups(table: str, form: str) -> list[CohortGroup]:
    """The groups of a table; `InputError` names the line."""
    with tempfile.TemporaryDirectory(prefix="cinesynth-") as folder:
        path = Path(folder) / f"table.{form}"
        path.write_text(table, encoding="utf-8")
        groups = read_cohort(path)
    count = sum(group.count for group in groups)
    if count > LARGEST_COHORT:
        raise InputError(f"the table asks for {count} hearts", hint=f"at most {LARGEST_COHORT} here: generate --cohort")
    return groups


def _rows(pipe: CinePipeline, groups: list[CohortGroup], wish: CohortWish) -> list[Request]:
    return requests_of(
        groups, pipe, seed=wish.seed, frames=wish.frames, max_attempts=wish.tries, match_volumes=wish.control
    )


def _publish(entry: Entry, record: str, image: str = IMAGE) -> str:
    """Say which files of an entry may be fetched."""
    folder = entry.folder / CASE
    names = {"image.nii.gz" if image.endswith(".gz") else "image.nii": image, LABEL: LABEL, "record.json": record}
    names |= {SHEET: SHEET, BEAT: BEAT}
    entry.files = {name: folder / file for name, file in names.items() if (folder / file).is_file()}
    return entry.name
