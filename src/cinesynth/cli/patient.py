"""``cinesynth annotate`` and ``animate``: from a real patient's image."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cinesynth.cli import console
from cinesynth.cli.bundle import Weights
from cinesynth.types import ClinicalPrior, Diagnosis

if TYPE_CHECKING:
    from cinesynth.data.orientation import SliceOrder


class Order(str, Enum):
    """Which slice is the base."""

    AUTO = "auto"
    BASE_FIRST = "base_first"
    APEX_FIRST = "apex_first"

    @property
    def told(self) -> SliceOrder:
        """As a layout says it."""
        return self.value


SliceOrderOption = Annotated[
    Order, typer.Option("--slice-order", help="Which end is the base; auto asks the header, else takes the first.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what this command wrote to --out before.")]
Pictures = Annotated[bool, typer.Option(help="Write the contact sheet and the GIF too.")]
REVERSED = (
    "the masks are wider at what is taken for the apex: look at sheet.png, and give --slice-order if it is reversed"
)


def annotate(
    image: Annotated[Path, typer.Argument(help="Short-axis cine as NIfTI, with time or of one frame.")],
    out: Annotated[Path, typer.Option(help="Folder of the masks.")],
    weights: Weights = None,
    slice_order: SliceOrderOption = Order.AUTO,
    overwrite: Overwrite = False,
    pictures: Pictures = True,
) -> None:
    """Masks of every frame of a real cine, by the codec of the weights, in the voxels of the file.

    The masks are a model's guess. They are for looking at and as a start for a hand's work, not for clinical use.
    """
    from cinesynth.cases.writing import check_free
    from cinesynth.synthesis.annotate import annotate as make_masks
    from cinesynth.synthesis.patient import ANNOTATION, ANNOTATION_FILES, read_patient, save_annotation
    from cinesynth.weights.folder import Bundle, find_bundle

    check_free(out, overwrite=overwrite, files=ANNOTATION_FILES, record=ANNOTATION)
    patient = read_patient(image, slice_order.told)
    bundle = Bundle.load(find_bundle(weights))
    with console.err.status("annotating"):
        annotation = make_masks(bundle, patient)
        record = save_annotation(annotation, out, overwrite=overwrite, pictures=pictures)
    names = {"lv_edv_ml": "EDV mL", "lv_esv_ml": "ESV mL", "ef_percent": "EF %"}
    names |= {"ed_index": "ED frame", "es_index": "ES frame"}
    console.table(str(out), ("", "by the masks"), [(text, record[name]) for name, text in names.items()])
    _warn(record["accepted"], record["order_in_doubt"])
    console.out.print("masks of a model, not for clinical use; look at sheet.png")


def animate(
    image: Annotated[Path, typer.Argument(help="Short-axis stack at ED as NIfTI, or a cine with --frame.")],
    out: Annotated[Path, typer.Option(help="Folder of the moving heart.")],
    diagnosis: Annotated[str, typer.Option(help="NOR, DCM, HCM, MINF, RV or UNKNOWN.")] = "UNKNOWN",
    esv: Annotated[float | None, typer.Option(help="LV end-systolic volume, mL.")] = None,
    ef: Annotated[float | None, typer.Option(help="Ejection fraction, percent; instead of --esv.")] = None,
    vendor: Annotated[str | None, typer.Option(help="Vendor of the scanner, as in the training data.")] = None,
    frame: Annotated[int | None, typer.Option(help="ED frame of a cine, counted from 0.")] = None,
    variation: Annotated[
        float, typer.Option(help="0 keeps the anatomy; up to 1 it is drawn anew from so much noise, at its own EDV.")
    ] = 0.0,
    frames: Annotated[int, typer.Option(help="Frames of the cycle; frame 0 is ED.")] = 30,
    es_index: Annotated[int | None, typer.Option(help="Zero-based frame of ES.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same motion.")] = 0,
    weights: Weights = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps of both models.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Classifier-free guidance; 1 is none.")] = None,
    tries: Annotated[int, typer.Option(help="Draws allowed for an acceptable motion (and a variation).")] = 3,
    control: Annotated[bool, typer.Option(help="Steer the masks to the requested ESV.")] = True,
    slice_order: SliceOrderOption = Order.AUTO,
    overwrite: Overwrite = False,
    pictures: Pictures = True,
) -> None:
    """Set a real heart at ED in motion, with its masks at every frame, in the voxels of the file.

    EDV and slices are measured on the image; an ESV or EF that is not asked for is the model's choice. What is written
    is personal data of the patient, as the image is.
    """
    from cinesynth.cases.writing import check_free
    from cinesynth.synthesis.animate import AnimationRequest
    from cinesynth.synthesis.animate import animate as set_in_motion
    from cinesynth.synthesis.patient import ANIMATION, ANIMATION_FILES, read_patient, save_animation
    from cinesynth.synthesis.pipeline import CinePipeline
    from cinesynth.synthesis.request import Request

    settings: dict[str, Any] = {"frames": frames, "es_index": es_index, "steps": steps, "guidance": guidance}
    prior = ClinicalPrior(Diagnosis.parse(diagnosis), lv_esv_ml=esv, vendor=vendor)
    request = Request(prior, seed, **settings, max_attempts=tries, match_volumes=control)
    wish = AnimationRequest(request, ef, variation, frame)  # refused, if it is, before anything is read
    check_free(out, overwrite=overwrite, files=ANIMATION_FILES, record=ANIMATION)
    patient = read_patient(image, slice_order.told)
    wish.frame_of(len(patient.study.image))
    pipe = CinePipeline.from_pretrained(weights)
    with console.err.status("animating"):
        cine = set_in_motion(pipe, patient, wish)
        record = save_animation(cine, patient, out, overwrite=overwrite, pictures=pictures)
    asked, found = record["requested"], record["achieved"]
    names = {"lv_edv_ml": "EDV mL (measured)", "lv_esv_ml": "ESV mL", "ef_percent": "EF %"}
    rows = [(text, asked[name], found[name]) for name, text in names.items()]
    console.table(str(out), ("", "requested", "achieved"), rows)
    console.out.print(f"frame 0 against the image: PSNR {record['frame_0']['psnr_db']:.1f} dB")
    _warn(record["accepted"], patient.seems_reversed(cine.label[0]))
    console.out.print("synthetic, but personal data of the patient; research use only; look at sheet.png and beat.gif")


def _warn(accepted: bool, order_in_doubt: bool) -> None:
    if not accepted:
        console.err.print("the masks break an anatomical rule (see the record)", style="yellow")
    if order_in_doubt:
        console.err.print(REVERSED, style="yellow")
