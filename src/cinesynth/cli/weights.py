"""``cinesynth bundle`` and ``weights``: make a weights folder from a run; list, verify, compare and choose weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from cinesynth.cli import console
from cinesynth.cli.evaluate import FAILED

if TYPE_CHECKING:
    from cinesynth.weights.registry import RegisteredWeights


def bundle(
    run: Annotated[Path, Argument(help="Run folder in which the four stages are finished.")],
    dataset: Annotated[Path, Option(help="Dataset the run was trained on; the empirical prior is fitted to it.")],
    out: Annotated[Path, Option(help="Weights folder to write.")],
    half: Annotated[bool, Option(help="Store the weights as fp16.")] = True,
    set_: Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change sampling steps or guidance, for example motion_diffusion.diffusion.guidance=2.",
        ),
    ] = None,
    fingerprints: Annotated[
        bool,
        Option(help="Include fingerprints of the training subjects, with which generation rejects near-duplicates."),
    ] = True,
) -> None:
    """Make a weights folder from a finished run. Stages that were not trained on each other are refused."""
    from cinesynth.data.terms import UNKNOWN
    from cinesynth.weights.bundle import bundle_run

    index = bundle_run(run, dataset, out, half=half, sampling=set_ or (), fingerprints=fingerprints)
    size = sum((out / name).stat().st_size for name in index["files"])
    console.table("licences of the training data", ("dataset", "licence"), list(index["licences"].items()))
    console.out.print(f"{out}: {size / 2**20:.1f} MiB, licence {index['licence']}")
    if UNKNOWN in index["licence"]:
        console.out.print(
            "hint: state licence and citation of these data in their layout, or under 'terms' in "
            f"{dataset}/dataset.json, then run bundle again",
            markup=False,
        )


# --- ``cinesynth weights`` -------------------------------------------------------------------------------------------

app = typer.Typer(no_args_is_help=True, help="Manage model weights.")
Named = Annotated[
    str | None,
    Argument(metavar="NAME|FOLDER", help="Name shown by `weights list`, or a folder. Default: the default weights."),
]


@app.command("list")
def list_() -> None:
    """List the weights that ship with the package and those chosen with `weights set-default`."""
    from cinesynth.weights.registry import list_weights

    entries, no_default = list_weights()
    for entry in entries:
        console.out.print(f"{entry.name}{' (default)' if entry.default else ''}: {entry.folder}", markup=False)
        for line in [f"unusable: {entry.problem}"] if entry.problem else _facts(entry):
            console.out.print(f"  {line}", markup=False)
    if no_default:
        console.err.print(f"error: {no_default}", markup=False, style="red")
        raise typer.Exit(4)


def _facts(entry: RegisteredWeights) -> list[str]:
    from cinesynth.weights.scores import TOLERANCES, figure_of

    (x, y, z), (a, b, c) = entry.size, entry.spacing_mm
    trained = ", ".join(f"{count} {name}" for name, count in entry.trained_on) or "unknown data"
    facts = [
        f"preset {entry.preset}, {x} x {y} x {z} voxels of {a:g} x {b:g} x {c:g} mm, {entry.mib:.1f} MiB",
        f"trained on {trained}; licence {entry.licence}",
    ]
    if entry.scores is None:
        return [*facts, "no scores recorded"]
    known = ((tolerance.name, figure_of(entry.scores, tolerance)) for tolerance in TOLERANCES)
    figures = ", ".join(f"{name} {value:.3g}" for name, value in known if value is not None)
    metadata = entry.scores["metadata"]
    cases = f"{metadata.get('split')} split, {metadata.get('cases')} cases"
    matched = "with" if metadata.get("match_volumes") else "without"
    return [*facts, f"scores ({cases}, {matched} volume matching): {figures}"]


@app.command()
def verify(weights: Named = None) -> None:
    """Check every file, the lineage and the networks of a weights folder. Exits with 4 if a check fails."""
    from cinesynth.weights.bundle import verify_bundle
    from cinesynth.weights.registry import find_bundle

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
        str | None, Argument(metavar="NAME|FOLDER", help="Name shown by `weights list`, or any weights folder.")
    ] = None,
    reset: Annotated[bool, Option("--reset", help="Return to the default of the package.")] = False,
) -> None:
    """Set the default weights of every command. A folder is referenced, not copied."""
    from cinesynth.errors import InputError
    from cinesynth.weights import registry
    from cinesynth.weights.bundle import check_bundle

    if reset == (weights is not None):
        hint = "`cinesynth weights list` shows the names"
        raise InputError("specify a weights name or folder, or --reset", hint=hint)
    if weights is None:
        file, chosen = registry.set_default(None), registry.DEFAULT_BUNDLE
    else:
        folder = registry.find_bundle(weights)
        check_bundle(folder)
        ships = folder == registry.shipped_bundles().get(weights)
        chosen = weights if ships else str(folder.resolve())  # a name still resolves after an update
        file = registry.set_default(chosen)
    console.out.print(f"default weights: {chosen} (stored in {file})", markup=False)
    default = registry.find_default()
    if default is not None and registry.VARIABLE in default.set_by:
        console.err.print(f"warning: {registry.VARIABLE} is set and takes precedence: {default.weights}", markup=False)


@app.command()
def compare(
    new: Annotated[Path, Argument(help="Scores of the new weights, from `cinesynth score --out NEW.json`.")],
    old: Annotated[Path, Argument(help="Scores of the old weights on the same data, split, counts and seed.")],
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
    if regressions:
        console.out.print(f"regressions: {', '.join(regressions)}")
        raise typer.Exit(FAILED)
    console.out.print("no regressions: every figure is within its tolerance")


@app.command()
def record(
    scores: Annotated[Path, Argument(help="Score file, from `cinesynth score --out SCORES.json`.")],
    weights: Named = None,
) -> None:
    """Store scores in their weights folder, for `weights list`. Figures of single subjects are left out."""
    from cinesynth.weights.registry import find_bundle
    from cinesynth.weights.scores import read_scores, record_scores, without_subjects

    console.out.print(f"{record_scores(find_bundle(weights), without_subjects(read_scores(scores)))}", markup=False)
