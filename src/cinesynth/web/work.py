"""The work of jobs (generate, animate and segment, each into an entry of the store), and their results as zip files."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cinesynth.cases.cohort import write_cohort_table
from cinesynth.cases.export_dicom import export_dicom
from cinesynth.cases.export_items import case_items
from cinesynth.cases.export_nnunet import export_nnunet
from cinesynth.cases.schema import BEAT, IMAGE, LABEL, SHEET, SIDECAR
from cinesynth.cases.writing import save_case
from cinesynth.errors import InputError
from cinesynth.io.files import atomic_path
from cinesynth.io.reproducibility import case_seed
from cinesynth.io.tasks import ProgressCallback
from cinesynth.synthesis.animate import AnimationRequest, animate
from cinesynth.synthesis.annotate import annotate
from cinesynth.synthesis.cohort import case_name, counterfactual, draw_requests, kept_anatomy
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

CASE = "case"


@dataclass(frozen=True)
class Workshop:
    """Makes the work functions of jobs for one session."""

    model: Model
    store: Store

    def generate(self, session: str, body: GenerateRequest) -> Callable[[Job], list[str]]:
        """One case; with ``keep``, the anatomy of a result with another motion."""
        kept = None if body.keep is None else self.store.get(session, body.keep)
        if kept is not None and kept.kind != "generate":
            raise InputError("only the anatomy of a generated case can be kept", hint="choose a result of Generate")

        def work(job: Job) -> list[str]:
            pipe = self._pipe(job)
            if kept is None:
                request = body.request()
            else:  # its anatomy with the requested motion
                anatomy, diagnosis = kept_anatomy(kept.folder / CASE, pipe), Diagnosis.parse(body.diagnosis)
                changes = {"ef_percent": body.ef, "vendor": body.vendor, "seed": body.seed, **body.settings}
                request = counterfactual(anatomy, diagnosis=diagnosis, **changes)
            return [self._make(job, session, pipe, request, 0.0, 1.0)]

        return work

    def cohort(self, session: str, body: CohortRequest) -> Callable[[Job], list[str]]:
        """Several cases: alike, with sampled priors, or as a cohort table describes."""
        groups = None if body.table is None else _groups(body.table, body.table_format)

        def work(job: Job) -> list[str]:
            pipe = self._pipe(job)
            if groups is None:
                requests = _requests(pipe, body)
            else:
                requests = requests_of(groups, pipe, seed=body.seed, **body.settings)
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
        asked = AnimationRequest(Request(prior, body.seed, **body.settings), body.ef, body.variation, body.frame)

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


def _requests(pipe: CinePipeline, body: CohortRequest) -> list[Request]:
    if body.sample_priors:
        diagnosis = Diagnosis.parse(body.diagnosis)
        asked = None if diagnosis is Diagnosis.UNKNOWN else diagnosis
        settings = {"seed": body.seed, "diagnosis": asked, "vendor": body.vendor, **body.settings}
        return draw_requests(pipe, body.count, **settings)
    one = body.request()
    pipe.planner.check(one.prior)
    return [replace(one, seed=case_seed(body.seed, number)) for number in range(body.count)]


def _groups(table: str, table_format: str) -> list[CohortGroup]:
    """The groups of a cohort table; `InputError` names the line of a mistake."""
    with tempfile.TemporaryDirectory(prefix="cinesynth-") as folder:
        path = Path(folder) / f"table.{table_format}"
        path.write_text(table, encoding="utf-8")
        groups = read_cohort(path)
    count = sum(group.count for group in groups)
    if count > MAX_COHORT:
        hint = f"the app makes at most {MAX_COHORT}: use the command line"
        raise InputError(f"the table asks for {count} cases", hint=hint)
    return groups


def _publish(entry: Entry, record: str, image: str = IMAGE) -> str:
    """List the files of an entry that may be downloaded; returns its name."""
    folder = entry.folder / CASE
    names = {"image.nii.gz" if image.endswith(".gz") else "image.nii": image, LABEL: LABEL, "record.json": record}
    names |= {SHEET: SHEET, BEAT: BEAT}
    entry.files = {name: folder / file for name, file in names.items() if (folder / file).is_file()}
    return entry.name


# --- Results as zip files: the files of a case, an export of it, or a cohort -----------------------------------------

EXPORTS: dict[str, tuple[str, Callable[..., object]]] = {
    "nnunet": ("Dataset001_Generated", export_nnunet),
    "dicom": ("dicom", export_dicom),
}
"""The folder and the function of each export."""


def packed(entry: Entry, form: str) -> Path:
    """A zip of a result, with its files or an export of them. It is made once and kept."""
    target = entry.folder / f"{form}.zip"
    if target.is_file():
        return target
    if form == "files":
        _zip(entry.folder / CASE, target)
        return target
    if form not in EXPORTS or entry.kind != "generate":
        hint = f"choose files, or for generated cases {', '.join(EXPORTS)}"
        raise InputError(f"a result of {entry.kind} cannot be downloaded as {form[:20]!r}", hint=hint)
    name, export = EXPORTS[form]
    out = entry.folder / form / name
    if not out.is_dir():
        out.parent.mkdir(exist_ok=True)
        export(case_items([entry.folder / CASE]), out, include_rejected=True)  # its verdict is shown beside it
    _zip(out.parent, target)
    return target


def together(entries: list[Entry], target: Entry) -> Path:
    """Generated cases as a cohort with its table, in one zip in the folder of ``target``."""
    if not entries:
        raise InputError("there are no results yet", hint="wait until a case is finished")
    cohort = target.folder / "cohort"
    for number, entry in enumerate(entries):
        shutil.copytree(entry.folder / CASE, cohort / case_name(number))
    write_cohort_table(cohort, sorted(cohort.iterdir()))
    path = target.folder / "cohort.zip"
    _zip(cohort, path)
    shutil.rmtree(cohort)
    return path


def _zip(folder: Path, target: Path) -> None:
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
