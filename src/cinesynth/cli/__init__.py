"""The command line: parse, call one function, print."""

from __future__ import annotations

import io
import sys
import warnings
from typing import Annotated

import typer

from cinesynth import __version__
from cinesynth.cli import (
    bundle,
    console,
    doctor,
    evaluate,
    export,
    generate,
    ingest,
    patient,
    serve,
    study,
    train,
    weights,
)
from cinesynth.errors import CinesynthError

EXTRAS = {
    "fastapi": "app",
    "starlette": "app",
    "uvicorn": "app",
    "accelerate": "train",
    "highdicom": "dicom",
    "monai": "train",
    "skimage": "train",
    "submitit": "slurm",
    "tensorboard": "train",
}
"""The optional part of the installation that brings a library."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Controllable 4D cardiac MRI synthesis.\n\n"
        "Make a heart:   cinesynth generate --diagnosis DCM --edv 280 --ef 25 --out case/\n\n"
        "Train your own: cinesynth ingest acdc ROOT --out DATASET, then cinesynth train all --data DATASET --run RUN, "
        "then cinesynth bundle RUN --out WEIGHTS.\n\n"
        "Everything made is synthetic and for research only, not for diagnosis."
    ),
)
app.add_typer(ingest.app, name="ingest")
app.command("prepare")(ingest.prepare)
app.add_typer(train.app, name="train")
app.command("bundle")(bundle.bundle)
app.add_typer(weights.app, name="weights")
app.command("generate")(generate.generate)
app.command("annotate")(patient.annotate)
app.command("animate")(patient.animate)
app.command("score")(bundle.score)
app.command("evaluate")(evaluate.evaluate)
app.command("serve")(serve.serve)
app.command("study")(study.study)
app.command("card")(evaluate.card)
app.command("known-hearts")(evaluate.known_hearts)
app.command("look")(ingest.look)
app.command("doctor")(doctor.doctor)
app.command("report")(doctor.report)
app.command("export")(export.export)


def _print_version(wanted: bool) -> None:
    if wanted:
        console.out.print(f"cinesynth {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_print_version)] = False,
) -> None:
    """Options of the program itself."""


def main() -> None:
    """Run the command line; an error is printed with its hint, without a traceback."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be text
    try:
        app()
    except CinesynthError as error:
        console.err.print(f"error: {error.message}", markup=False, style="red")
        if error.hint:
            console.err.print(f"hint: {error.hint}", markup=False)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        console.err.print(f"error: {error.name} is not installed, and this command needs it", style="red")
        console.err.print(f'hint: pip install "cinesynth[{extra}]"', markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        console.err.print("interrupted; the same command goes on where it stopped")
        sys.exit(130)
