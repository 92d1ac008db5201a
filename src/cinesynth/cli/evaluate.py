"""``cinesynth evaluate``, ``training-index`` and ``card``: judge generated cases and document weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cinesynth.cli import console
from cinesynth.cli.options import Dataset, Weights, Workers

FAILED = 10
"""Exit code for a failed verdict or a regression; the exit codes of errors are lower."""


def evaluate(
    real: Annotated[Path, typer.Option(help="Dataset folder of real subjects.")],
    synthetic: Annotated[
        Path, typer.Option(help="Cohort folder, or a dataset whose held-out subjects serve as the reference cohort.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for index.html and report.json.")],
    weights: Annotated[
        Path | None, typer.Option(help="Weights folder or name; adds metrics that use its autoencoder.")
    ] = None,
    segmenter: Annotated[Path | None, typer.Option(help="Run folder of an independent segmenter.")] = None,
    i3d: Annotated[Path | None, typer.Option(help="I3D weights file, for FVD.")] = None,
    split: Annotated[str, typer.Option(help="Held-out subjects: test, or validation while choosing models.")] = "test",
    cache: Annotated[Path | None, typer.Option(help="Folder for cached measurements. Default: inside --out.")] = None,
    workers: Workers = None,
    strict: Annotated[bool, typer.Option("--strict", help=f"Exit with {FAILED} if any verdict is fail.")] = False,
) -> None:
    """Compare generated with real cases: one HTML page and one JSON file, with a verdict on every section.

    Run the same command again to reuse cached measurements.
    """
    from cinesynth.evaluation.evaluate import evaluate as run
    from cinesynth.evaluation.report import PAGE

    with console.progress() as step:
        report = run(
            real,
            synthetic,
            out,
            weights=weights,
            segmenter=segmenter,
            i3d=i3d,
            split=split,
            cache=cache,
            workers=workers,
            progress=step,
        )
    for caution in report.metadata["cautions"]:
        console.err.print(f"caution: {caution}")
    rows = [(v.title, v.judgement or "not judged", v.decided_by) for v in report.verdicts]
    console.table("verdicts", ("section", "verdict", "decided by"), rows)
    console.out.print(f"{out / PAGE}: {report.judgement or 'nothing could be judged'}")
    if strict and report.judgement == "fail":
        raise typer.Exit(FAILED)


def training_index(
    dataset: Dataset,
    out: Annotated[Path, typer.Option(help="File to write, about 20 kB per subject.")],
    weights: Weights = None,
) -> None:
    """Make an index of the training subjects for `generate --training-index`, which resamples near-duplicates.

    The index holds small blurred images of the subjects: protect it like the images themselves.
    """
    from cinesynth.config import parse_config
    from cinesynth.data.geometry import Grid
    from cinesynth.memorisation.duplicate_filter import TrainingIndex
    from cinesynth.weights.folder import stage_info
    from cinesynth.weights.registry import find_bundle

    grid = Grid.from_config(parse_config(stage_info(find_bundle(weights), "vae")["config"]).grid)
    with console.progress() as step:
        found = TrainingIndex.build(dataset, grid, progress=step)
    found.save(out)
    console.out.print(f"{out}: {len(found.names)} subjects; it shows patients, protect it like their images")


def card(
    report: Annotated[Path, typer.Argument(help="report.json of `cinesynth evaluate`, or the folder that holds it.")],
    weights: Weights = None,
    out: Annotated[Path, typer.Option(help="Markdown file to write.")] = Path("MODEL_CARD.md"),
) -> None:
    """Write a model card: what the weights are, what they were trained on, their intended use and their scores."""
    from cinesynth.evaluation.card import write_card

    write_card(report, weights, out)
    console.out.print(f"{out}: model card of {weights or 'the default weights'}")
