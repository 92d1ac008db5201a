"""``cinesynth annotate`` and ``animate``: segment or animate a real patient's image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Option

from cinesynth.cli import console, options, progress

SliceOrder = Annotated[
    Literal["auto", "base_first", "apex_first"],
    Option("--slice-order", help="Which end is the base; auto reads the header, else takes the first slice."),
]
Overwrite = Annotated[bool, Option("--overwrite", help="Replace earlier output of this command at --out.")]
REVERSED = "the masks are wider at the assumed apex: check sheet.png, and pass --slice-order if the stack is reversed"


def annotate(
    image: Annotated[Path, Argument(help="Short-axis cine as 4D NIfTI, or one frame as 3D NIfTI.")],
    out: Annotated[Path, Option(help="Folder to write the masks to.")],
    weights: options.Weights = None,
    precision: options.Precision = "auto",
    slice_order: SliceOrder = "auto",
    overwrite: Overwrite = False,
    pictures: options.Pictures = True,
) -> None:
    """Segment every frame of a real cine with the autoencoder of the weights, on the voxel grid of the input file.

    The masks are a starting point for manual correction, not for clinical use.
    """
    from cinesynth.cases.writing import check_free
    from cinesynth.synthesis.annotate import annotate as make_masks
    from cinesynth.synthesis.patient import ANNOTATION, ANNOTATION_FILES, read_patient, save_annotation
    from cinesynth.weights.folder import Bundle

    check_free(out, overwrite=overwrite, files=ANNOTATION_FILES, record=ANNOTATION)
    patient = read_patient(image, slice_order)
    bundle = Bundle.load(progress.announce(weights, "cpu", precision), precision=precision)
    with progress.shown("locating the heart") as step:
        annotation = make_masks(bundle, patient, step)
        record = save_annotation(annotation, out, overwrite=overwrite, pictures=pictures)
    names = {"lv_edv_ml": "EDV mL", "lv_esv_ml": "ESV mL", "ef_percent": "EF %"}
    names |= {"ed_index": "ED frame", "es_index": "ES frame"}
    console.table(str(out), ("", "measured on the masks"), [(text, record[name]) for name, text in names.items()])
    _warn(record["accepted"], record["order_in_doubt"])
    console.out.print("masks made by a model, not for clinical use; see sheet.png")


def animate(
    image: Annotated[Path, Argument(help="Short-axis stack at ED as 3D NIfTI, or a cine with --frame.")],
    out: Annotated[Path, Option(help="Folder to write the animated case to.")],
    diagnosis: Annotated[str, Option(help="NOR, DCM, HCM, MINF, RV or UNKNOWN.")] = "UNKNOWN",
    esv: options.Esv = None,
    ef: options.Ef = None,
    vendor: options.Vendor = None,
    frame: Annotated[int | None, Option(help="ED frame of a cine, zero-based.")] = None,
    variation: Annotated[
        float, Option(help="0 keeps the anatomy, 1 samples a new one; values between vary it. The EDV is preserved.")
    ] = 0.0,
    frames: options.Frames = 30,
    es_index: options.EsIndex = None,
    seed: Annotated[int, Option(help="The same seed gives the same motion.")] = 0,
    weights: options.Weights = None,
    precision: options.Precision = "auto",
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    max_attempts: options.MaxAttempts = 3,
    match_volumes: options.MatchVolumes = True,
    slice_order: SliceOrder = "auto",
    overwrite: Overwrite = False,
    pictures: options.Pictures = True,
) -> None:
    """Animate a real heart at ED: image and masks at every frame, on the voxel grid of the input file.

    EDV and slices are measured on the image. Without --esv or --ef the model chooses the ESV. The output is personal
    data of the patient, as the input is.
    """
    from cinesynth.cases.writing import check_free
    from cinesynth.io.tasks import part_of
    from cinesynth.synthesis.animate import AnimationRequest
    from cinesynth.synthesis.animate import animate as set_in_motion
    from cinesynth.synthesis.patient import ANIMATION, ANIMATION_FILES, read_patient, save_animation
    from cinesynth.synthesis.pipeline import CinePipeline
    from cinesynth.synthesis.request import Request
    from cinesynth.types import ClinicalPrior, Diagnosis

    settings: dict[str, Any] = {"frames": frames, "es_index": es_index, "steps": steps, "guidance": guidance}
    prior = ClinicalPrior(Diagnosis.parse(diagnosis), lv_esv_ml=esv, vendor=vendor)
    request = Request(prior, seed, **settings, max_attempts=max_attempts, match_volumes=match_volumes)
    asked = AnimationRequest(request, ef, variation, frame)  # an invalid request is refused before any file is read
    check_free(out, overwrite=overwrite, files=ANIMATION_FILES, record=ANIMATION)
    patient = read_patient(image, slice_order)
    asked.frame_of(len(patient.study.image))
    pipe = CinePipeline.from_pretrained(progress.announce(weights, precision=precision), precision=precision)
    with progress.shown("locating the heart") as step:
        cine = set_in_motion(pipe, patient, asked, part_of("case", step))
        record = save_animation(cine, patient, out, overwrite=overwrite, pictures=pictures)
    requested, found = record["requested"], record["achieved"]
    names = {"lv_edv_ml": "EDV mL (measured)", "lv_esv_ml": "ESV mL", "ef_percent": "EF %"}
    rows = [(text, requested[name], found[name]) for name, text in names.items()]
    console.table(str(out), ("", "requested", "achieved"), rows)
    console.out.print(f"frame 0 compared with the input: PSNR {record['frame_0']['psnr_db']:.1f} dB")
    _warn(record["accepted"], patient.seems_reversed(cine.label[0]))
    console.out.print("synthetic, but personal data of the patient; research use only; see sheet.png and beat.gif")


def _warn(accepted: bool, order_in_doubt: bool) -> None:
    if not accepted:
        console.err.print("the masks break an anatomical rule; see the JSON record beside them", style="yellow")
    if order_in_doubt:
        console.err.print(REVERSED, style="yellow")
