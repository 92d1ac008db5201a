"""``cinesynth ingest``: patient folders or analytic hearts into a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cinesynth.cli import console

app = typer.Typer(no_args_is_help=True, help="Bring studies into a dataset folder, on the scanner's own grid.")

Out = Annotated[Path, typer.Option(help="Dataset folder; other sources in it are kept.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the split by subject (and of the phantoms).")]
