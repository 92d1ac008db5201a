"""``cinesynth weights``: list, verify, compare and choose model weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cinesynth.cli import console
from cinesynth.cli.evaluate import FAILED

if TYPE_CHECKING:
    from cinesynth.weights.registry import RegisteredWeights

app = typer.Typer(no_args_is_help=True, help="Manage model weights.")
Named = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME|FOLDER", help="Name shown by `weights list`, or a folder. Default: the default weights."
    ),
]


@app.command("list")
def list_() -> None:
    """List the weights that ship with the package and those chosen with `weights set-default`."""

    from cinesynth.weights.registry import list_weights

    entries, no_default = list_weights()
    for entry in entries:
        for line in _lines(entry):
            console.out.print(line, markup=False)
    if no_default:
        console.err.print(f"error: {no_default}", markup=False, style="red")
        raise typer.Exit(4)


def _lines(entry: RegisteredWeights) -> list[str]:
    title = f"{entry.name}{' (default)' if entry.default else ''}: {entry.folder}"
    if entry.problem:
        return [title, f"  unusable: {entry.problem}"]
    (x, y, z), (a, b, c) = entry.size, entry.spacing_mm
    trained = ", ".join(f"{count} {name}" for name, count in entry.trained_on) or "unknown data"
    return [
        title,
        f"  preset {entry.preset}, {x} x {y} x {z} voxels of {a:g} x {b:g} x {c:g} mm, {entry.mib:.1f} MiB",
        f"  trained on {trained}; licence {entry.licence}",
        f"  {_scores(entry)}",
    ]


def _scores(entry: RegisteredWeights) -> str:
    from cinesynth.weights.scores import TOLERANCES, figure_of

    if entry.scores is None:
        return "no scores recorded"
    known = ((tolerance.name, figure_of(entry.scores, tolerance)) for tolerance in TOLERANCES)
    figures = ", ".join(f"{name} {value:.3g}" for name, value in known if value is not None)
    metadata = entry.scores["metadata"]
    matched = "with" if metadata.get("match_volumes") else "without"
    return (
        f"scores ({metadata.get('split')} split, {metadata.get('cases')} cases, {matched} volume matching): {figures}"
    )


@app.command()
def verify(weights: Named = None) -> None:
    """Check every file, the lineage and the networks of a weights folder. Exits with 4 if a check fails."""
    from cinesynth.weights.registry import find_bundle
    from cinesynth.weights.verify import verify_bundle

    folder = find_bundle(weights)
    checks = verify_bundle(folder)
    for check in checks:
        console.out.print(f"{check.name}: {check.problem or 'ok'}", markup=False)
    damaged = sum(bool(check.problem) for check in checks)
    console.out.print(f"{folder}: {f'{damaged} problems' if damaged else 'all checksums match'}", markup=False)
    if damaged:
        console.err.print("hint: copy the folder again, or bundle the run again", markup=False)
        raise typer.Exit(4)


@app.command("set-default")
def set_default_(
    weights: Annotated[
        str | None, typer.Argument(metavar="NAME|FOLDER", help="Name shown by `weights list`, or any weights folder.")
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Return to the default of the package.")] = False,
) -> None:
    """Set the default weights of every command. A folder is referenced, not copied."""
    from cinesynth.errors import InputError
    from cinesynth.weights.registry import (
        DEFAULT_BUNDLE,
        VARIABLE,
        find_bundle,
        find_default,
        set_default,
        shipped_bundles,
    )
    from cinesynth.weights.verify import check_bundle

    if reset == (weights is not None):
        raise InputError(
            "specify a weights name or folder, or --reset", hint="`cinesynth weights list` shows the names"
        )
    if weights is None:
        file, chosen = set_default(None), DEFAULT_BUNDLE
    else:
        folder = find_bundle(weights)
        check_bundle(folder)
        ships = folder == shipped_bundles().get(weights)
        chosen = weights if ships else str(folder.resolve())  # a name still resolves after an update
        file = set_default(chosen)
    console.out.print(f"default weights: {chosen} (stored in {file})", markup=False)
    default = find_default()
    if default is not None and VARIABLE in default.set_by:
        console.err.print(f"warning: {VARIABLE} is set and takes precedence: {default.weights}", markup=False)


@app.command()
def compare(
    new: Annotated[Path, typer.Argument(help="Scores of the new weights, from `cinesynth score --out NEW.json`.")],
    old: Annotated[Path, typer.Argument(help="Scores of the old weights on the same data, split, counts and seed.")],
) -> None:
    """Compare two score files. Exits with 10 if a figure of the new weights is worse than its tolerance allows."""
    from cinesynth.weights.scores import compare as compare_scores
    from cinesynth.weights.scores import notes, read_scores

    after, before = read_scores(new), read_scores(old)
    rows = compare_scores(after, before)
    shown = [(r.tolerance.name, r.old, r.new, r.tolerance.rule, r.verdict) for r in rows]
    console.table("comparison", ("figure", "old", "new", "tolerance", "verdict"), shown)
    for note in notes(after, before):
        console.out.print(f"note: {note}", markup=False)
    regressions = [r.tolerance.name for r in rows if r.is_regression]
    console.out.print(
        f"regressions: {', '.join(regressions)}"
        if regressions
        else "no regressions: every figure is within its tolerance"
    )
    if regressions:
        raise typer.Exit(FAILED)


@app.command()
def record(
    scores: Annotated[Path, typer.Argument(help="Score file, from `cinesynth score --out SCORES.json`.")],
    weights: Named = None,
) -> None:
    """Store scores in their weights folder, for `weights list`. Figures of single subjects are left out."""
    from cinesynth.weights.registry import find_bundle
    from cinesynth.weights.scores import read_scores, record_scores, without_subjects

    console.out.print(f"{record_scores(find_bundle(weights), without_subjects(read_scores(scores)))}", markup=False)
