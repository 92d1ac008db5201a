"""The command line: parse, call one function, print."""

from __future__ import annotations

import io
import os
import sys
import warnings
from typing import Annotated

import typer

from cinesynth import __version__
from cinesynth.cli import console, dataset, evaluate, generate, ingest, patient, serve, train, weights
from cinesynth.cli.options import with_new_names
from cinesynth.errors import CinesynthError

EXTRAS = {
    "app": ("fastapi", "starlette", "uvicorn"),
    "dicom": ("highdicom",),
    "formats": ("SimpleITK",),
    "slurm": ("submitit",),
    "train": ("accelerate", "monai", "skimage", "tensorboard"),
}
"""The libraries that each optional extra installs."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Controllable 4D cardiac MRI synthesis.\n\n"
        "Generate a case: cinesynth generate --diagnosis DCM --edv 280 --ef 25 --out case/\n\n"
        "Train your own:  cinesynth ingest acdc ROOT --out DATASET, then cinesynth train all --dataset DATASET "
        "--run RUN, then cinesynth bundle RUN --dataset DATASET --out WEIGHTS.\n\n"
        "Generated data are synthetic. Research use only, not for diagnosis."
    ),
)
VERBS = (
    *(dataset.prepare, weights.bundle, generate.generate, patient.annotate, patient.animate, evaluate.score),
    *(evaluate.evaluate, serve.serve, evaluate.study, evaluate.card, evaluate.training_index),
    *(dataset.look, dataset.doctor, dataset.qc, dataset.split, dataset.export),
)
"""In the order of ``cinesynth --help``."""
for verb in VERBS:
    app.command()(verb)
for name, verbs in (("ingest", ingest.app), ("train", train.app), ("weights", weights.app)):
    app.add_typer(verbs, name=name)


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
    """Run the command line. An error is printed with its hint and without a traceback."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    # NumPy's matrices are small here, and its threads would take the cores of torch's and of worker processes.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name can hold bytes that are not text
    try:
        app(args=with_new_names(sys.argv[1:], lambda text: console.err.print(f"warning: {text}", markup=False)))
    except CinesynthError as error:
        console.err.print(f"error: {error.message}", markup=False, style="red")
        if error.hint:
            console.err.print(f"hint: {error.hint}", markup=False)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        library = (error.name or "").split(".")[0]
        extra = next((name for name, libraries in EXTRAS.items() if library in libraries), None)
        if extra is None:
            raise
        console.err.print(f"error: {error.name} is not installed, but this command needs it", style="red")
        console.err.print(f'hint: pip install "cinesynth[{extra}]"', markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        console.err.print("interrupted; run the same command again to continue")
        sys.exit(130)
