"""Options that several verbs share, and the old names of renamed verbs and options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Context, Option

from cinesynth.errors import InputError

Dataset = Annotated[Path, Option(help="Dataset folder, made by `cinesynth ingest`.")]
Weights = Annotated[
    Path | None,
    Option(
        help="Weights folder, or a name shown by `weights list`. Default: that of `weights set-default`, else compact."
    ),
]
DatasetFolder = Annotated[Path, Argument(help="Dataset folder.")]
Workers = Annotated[int | None, Option(min=1, help="Number of processes. Default: one per core.")]
Precision = Annotated[
    Literal["auto", "fp32", "bf16"], Option(help="Of the networks; auto is bf16 where the hardware multiplies it.")
]
Esv = Annotated[float | None, Option(help="LV end-systolic volume, mL.")]
Ef = Annotated[float | None, Option(help="Ejection fraction in percent, instead of --esv.")]
Vendor = Annotated[str | None, Option(help="Scanner vendor as in the training data, or unknown for no vendor's style.")]
Frames = Annotated[int, Option(help="Frames per cycle; frame 0 is ED.")]
EsIndex = Annotated[int | None, Option(help="Zero-based frame of ES.")]
Steps = Annotated[int | None, Option(help="Sampling steps of both diffusion models.")]
Guidance = Annotated[float | None, Option(help="Classifier-free guidance scale; 1 turns guidance off.")]
MaxAttempts = Annotated[
    int, Option(help="Maximum number of sampling attempts for the anatomy, and again for its motion.")
]
MatchVolumes = Annotated[bool, Option(help="Adjust the sampled latents until the masks have the requested volumes.")]
Pictures = Annotated[bool, Option(help="Also write the contact sheet and the GIF.")]


def refuse_without_effect(context: Context, parameters: Sequence[str], beside: str) -> None:
    """`InputError` if one of the ``parameters`` was given on the command line, where it has no effect."""
    for name in parameters:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = f"--{name.strip('_').replace('_', '-')}"
            raise InputError(f"{option} has no effect {beside}", hint="leave it out")


SHARED_OPTIONS = {
    "--tries": "--max-attempts",
    "--control": "--match-volumes",
    "--no-control": "--no-match-volumes",
    "--known-hearts": "--training-index",
}
"""Options that every verb knows by a new name."""
OPTIONS_BY_VERB = {
    **{verb: {"--data": "--dataset"} for verb in ("bundle", "look", "prepare", "score", "train", "training-index")},
    "export": {"--data": "--dataset", "--frames": "--select"},
}
"""Options that one verb knows by a new name."""
VERBS = {
    ("known-hearts",): ("training-index",),
    ("report",): ("qc",),
    ("train", "anatomy"): ("train", "anatomy-diffusion"),
    ("train", "dynamics"): ("train", "motion-diffusion"),
    ("train", "motion"): ("train", "residual-motion"),
    ("weights", "gate"): ("weights", "compare"),
    ("weights", "use"): ("weights", "set-default"),
}
"""Verbs with a new name."""


def with_new_names(arguments: Sequence[str], warn: Callable[[str], None]) -> list[str]:
    """A command line in which old names of verbs and options are replaced; ``warn`` is called for each.

    It is also called for old names of settings after ``--set``, which are understood later.
    """
    words = list(arguments)
    for old, new in VERBS.items():
        if tuple(words[: len(old)]) == old:
            warn(f"`{' '.join(old)}` is now called `{' '.join(new)}`; the old name will stop working")
            words[: len(old)] = new
    renamed = SHARED_OPTIONS | OPTIONS_BY_VERB.get(words[0] if words else "", {})
    for i, word in enumerate(words):
        following = words[i + 1] if i + 1 < len(words) else ""
        name, equals, value = word.partition("=")
        if name in renamed:
            warn(f"{name} is now called {renamed[name]}; the old name will stop working")
            words[i] = renamed[name] + equals + value
        elif name == "--set":  # the setting itself stays as it was written: weights record it
            from cinesynth.config.migration import migrate_key

            key = (value if equals else following).partition("=")[0].strip()
            if (today := migrate_key(key)) != key:
                warn(f"the setting {key} is now called {today}; the old name will stop working")
    return words
