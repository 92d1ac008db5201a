"""``cinesynth weights``: which there are, are they whole, which is the default, and may new ones replace old ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cinesynth.cli import console
from cinesynth.cli.evaluate import FAILED

if TYPE_CHECKING:
    from cinesynth.weights.registry import Entry

app = typer.Typer(no_args_is_help=True, help="The weights at hand: list, verify, choose, compare.")
Named = Annotated[
    str | None,
    typer.Argument(metavar="NAME|FOLDER", help="A name of `weights list` or a folder; by default the default."),
]


@app.command("list")
def list_() -> None:
    """Weights that ship with the package, and those that you chose once."""
    from cinesynth.weights.registry import catalogue

    entries, no_default = catalogue()
    for entry in entries:
        for line in _lines(entry):
            console.out.print(line, markup=False)
    if no_default:
        console.err.print(f"error: {no_default}", markup=False, style="red")
        raise typer.Exit(4)


def _lines(entry: Entry) -> list[str]:
    title = f"{entry.name}{' (default)' if entry.default else ''}: {entry.folder}"
    if entry.problem:
        return [title, f"  cannot be used: {entry.problem}"]
    (x, y, z), (a, b, c) = entry.size, entry.spacing_mm
    trained = ", ".join(f"{count} {name}" for name, count in entry.trained_on) or "unknown data"
    return [
        title,
        f"  preset {entry.preset}, {x} x {y} x {z} voxels of {a:g} x {b:g} x {c:g} mm, {entry.mib:.1f} MiB",
        f"  trained on {trained}; licence {entry.licence}",
        f"  {_scores(entry)}",
    ]


def _scores(entry: Entry) -> str:
    from cinesynth.weights.comparison import TOLERANCES, figure_of

    if entry.scores is None:
        return "no scores recorded"
    known = ((tolerance.name, figure_of(entry.scores, tolerance)) for tolerance in TOLERANCES)
    figures = ", ".join(f"{name} {value:.3g}" for name, value in known if value is not None)
    metadata = entry.scores["metadata"]
    mode = "volumes matched" if metadata.get("match_volumes") else "volumes not matched"
    return f"scores ({metadata.get('split')} split, {metadata.get('cases')} cases, {mode}): {figures}"


@app.command()
def verify(weights: Named = None) -> None:
    """Check every file of a weights folder, its lineage and its networks; exit with 4 if anything is wrong."""
    from cinesynth.weights.folder import find_bundle
    from cinesynth.weights.verify import verify_bundle

    folder = find_bundle(weights)
    checks = verify_bundle(folder)
    for check in checks:
        console.out.print(f"{check.name}: {check.problem or 'ok'}", markup=False)
    damaged = sum(bool(check.problem) for check in checks)
    console.out.print(f"{folder}: {f'{damaged} problems' if damaged else 'whole and unaltered'}", markup=False)
    if damaged:
        console.err.print("hint: copy the whole folder again, or train and bundle the weights again", markup=False)
        raise typer.Exit(4)


@app.command()
def use(
    weights: Annotated[
        str | None, typer.Argument(metavar="NAME|FOLDER", help="A name of `weights list`, or a folder anywhere.")
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Go back to the default of the package.")] = False,
) -> None:
    """Make weights your default, for every command that is given none; a folder stays where it is."""
    from cinesynth.errors import InputError
    from cinesynth.weights.default import VARIABLE, choose, default_set, forget
    from cinesynth.weights.folder import DEFAULT_BUNDLE, find_bundle, shipped_bundles
    from cinesynth.weights.verify import refuse_damaged

    if reset == (weights is not None):
        raise InputError("give weights or --reset", hint="cinesynth weights list shows what there is")
    if weights is None:
        file, chosen = forget(), DEFAULT_BUNDLE
    else:
        folder = find_bundle(weights)
        refuse_damaged(folder)
        ships = folder == shipped_bundles().get(weights)
        chosen = weights if ships else str(folder.resolve())  # what ships is found by its name after an update too
        file = choose(chosen)
    console.out.print(f"{chosen} is the default, by {file}", markup=False)
    default = default_set()
    if default is not None and VARIABLE in default.said_by:
        console.err.print(f"warning: {VARIABLE} is set and wins: {default.weights}", markup=False)


@app.command()
def gate(
    new: Annotated[Path, typer.Argument(help="Scores of the new weights: `cinesynth score --out NEW.json`.")],
    old: Annotated[Path, typer.Argument(help="Scores of the old ones, of the same data, split, counts and seed.")],
) -> None:
    """Compare two files of scores; exit with 10 if a figure of the new one is worse beyond its tolerance."""
    from cinesynth.weights.comparison import compare, notes, read_scores

    after, before = read_scores(new), read_scores(old)
    rows = compare(after, before)
    shown = [(r.tolerance.name, r.old, r.new, r.tolerance.rule, r.verdict) for r in rows]
    console.table("gate", ("figure", "old", "new", "tolerance", "verdict"), shown)
    for note in notes(after, before):
        console.out.print(f"note: {note}", markup=False)
    closed = [r.tolerance.name for r in rows if r.is_regression]
    console.out.print(f"closed: {', '.join(closed)}" if closed else "open: nothing is worse beyond its tolerance")
    if closed:
        raise typer.Exit(FAILED)


@app.command()
def record(
    scores: Annotated[Path, typer.Argument(help="Scores: `cinesynth score --out SCORES.json`.")],
    weights: Named = None,
) -> None:
    """Keep scores in the weights folder that they are of, where `list` shows them; single patients are left out."""
    from cinesynth.weights.comparison import read_scores, without_subjects
    from cinesynth.weights.folder import find_bundle
    from cinesynth.weights.registry import record_scores

    console.out.print(f"{record_scores(find_bundle(weights), without_subjects(read_scores(scores)))}", markup=False)
