"""Score files: reading and recording them, and whether new weights may replace old ones by their scores.

Two score files that are compared must describe the same patients, requests and seed. The figures are then paired, and a
tolerance only covers what another training run with other random numbers changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cinesynth.config.migration import rename_keys
from cinesynth.errors import InputError, WeightsError
from cinesynth.io.files import file_sha256, write_text
from cinesynth.weights.folder import INDEX, SCORES, bundle_sha256, index_text, read_index, read_json

FORMAT = 2
"""Version of the JSON of `cinesynth score`; files of version 1 are read as well."""
SCORES_FILE = "scores.json"
"""File of a weights folder."""
COMPARABLE = ("data_hash", "split", "n_subjects", "cases", "frames_per_case", "seed", "match_volumes", "max_attempts")
"""Metadata in which two score files must agree."""
RENAMED_METADATA = {"people": "n_subjects", "closed_loop": "match_volumes", "tries": "max_attempts"}
RENAMED_PARTS = {"people": "subjects", "training_people": "training_subjects"}
"""Keys of score files of version 1, when ``metadata`` was ``about``, and today's."""
Verdict = Literal["better", "same", "within", "worse", "missing", "new", "not known"]


class Tolerance(NamedTuple):
    """How much worse than the old figure the new one may be; ``path`` leads to the figure in a score file.

    If ``absolute``, the new figure itself must not exceed ``allowed``, whatever the old one is.
    """

    name: str
    path: tuple[str, ...]
    better: Literal["high", "low"]
    allowed: float
    reason: str
    absolute: bool = False

    @property
    def rule(self) -> str:
        """The tolerance as text."""
        if self.absolute:
            return f"{self.allowed:g} at most"
        return f"{'-' if self.better == 'high' else '+'}{self.allowed:g}"


_DICE = "retraining moves the mean over some 20 subjects by less; subjects differ by .06 among each other"
_R = "a correlation of 50 cases near .9 has a standard error of .03; of 200 cases half of it"
_MAE = "two readers of one heart differ by 4 to 8 mL, so they could not see the change"
_COPY = "a single near-copy of a patient is one too many, even if the old weights made some"
TOLERANCES = (
    Tolerance("PSNR dB", ("codec", "all", "figures", "PSNR", "mean"), "high", 0.2, "less is not visible in an image"),
    Tolerance("SSIM", ("codec", "all", "figures", "SSIM", "mean"), "high", 0.005, "what 0.2 dB of PSNR changes"),
    *(
        Tolerance(f"Dice {s}", ("codec", "all", "figures", f"Dice {s}", "mean"), "high", 0.01, _DICE)
        for s in ("LV", "MYO", "RV")
    ),
    *(Tolerance(f"r {q[:3].strip()}", ("control", q, "r"), "high", 0.02, _R) for q in ("EDV mL", "ESV mL", "EF %")),
    *(Tolerance(f"MAE {q}", ("control", q, "mae"), "low", 1.0, _MAE) for q in ("EDV mL", "ESV mL")),
    Tolerance("MAE EF %", ("control", "EF %", "mae"), "low", 0.5, "a tenth of the 3 to 5 points between two readers"),
    Tolerance("accepted rate", ("accepted", "rate"), "high", 0.02, "one case of 50: what another seed changes"),
    Tolerance("near-copies, image", ("memorisation", "image", "rate"), "low", 0.0, _COPY, absolute=True),
    Tolerance("near-copies, mask", ("memorisation", "mask", "rate"), "low", 0.0, _COPY, absolute=True),
)


class ScoreComparison(NamedTuple):
    """One figure of two score files; None where a file lacks it."""

    tolerance: Tolerance
    old: float | None
    new: float | None

    @property
    def verdict(self) -> Verdict:
        """How the figure changed."""
        if self.new is None:
            return "not known" if self.old is None else "missing"
        if self.tolerance.absolute and self.new > self.tolerance.allowed:
            return "worse"
        if self.old is None:
            return "new"
        gain = (self.new - self.old) * (1 if self.tolerance.better == "high" else -1)
        if gain >= 0:
            return "better" if gain else "same"
        return "within" if self.tolerance.absolute or -gain <= self.tolerance.allowed + 1e-9 else "worse"

    @property
    def is_regression(self) -> bool:
        """Whether the figure is worse than allowed, or was lost."""
        return self.verdict in ("worse", "missing")


def read_scores(path: Path) -> dict[str, Any]:
    """The score file of `cinesynth score --out`; `InputError` if it is another kind of file or another version."""
    hint = "write it again: cinesynth score --dataset DATASET --out SCORES.json"
    try:
        content: Any = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as scores: {error}", hint=hint) from None
    scores = migrated_scores(content) if isinstance(content, dict) else {}
    found = scores.get("format")
    if found != FORMAT or not isinstance(scores.get("metadata"), dict):
        raise InputError(f"{path} has scores of format {found}, expected {FORMAT}", hint=hint)
    return scores


def migrated_scores(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of version 1 with the keys of this version; any others unchanged."""
    if scores.get("format") != 1 or not isinstance(scores.get("about"), Mapping):
        return dict(scores)
    migrated = {key: value for key, value in scores.items() if key != "about"}
    # The oldest files lack the number of attempts, which was 3.
    metadata = {"max_attempts": 3, **rename_keys(scores["about"], RENAMED_METADATA)}
    codec = scores.get("codec", {})
    parts = {kind: _renamed_each(codec.get(kind, {})) for kind in ("datasets", "vendors")}
    return {
        **migrated,
        "format": FORMAT,
        "metadata": metadata,
        "codec": {"all": rename_keys(codec.get("all", {}), RENAMED_PARTS), **parts},
        "memorisation": _renamed_each(scores.get("memorisation", {})),
        "cycles": rename_keys(scores.get("cycles", {}), RENAMED_PARTS),
    }


def without_subjects(scores: dict[str, Any]) -> dict[str, Any]:
    """Scores without anything about single patients: what may be shared with weights."""
    metadata = {key: value for key, value in scores["metadata"].items() if key != "subjects"}
    return {**{key: value for key, value in scores.items() if key != "rows"}, "metadata": metadata}


def _renamed_each(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: rename_keys(part, RENAMED_PARTS) for name, part in parts.items()}


def compare(new: dict[str, Any], old: dict[str, Any]) -> list[ScoreComparison]:
    """Every figure with a tolerance; `InputError` unless both files are of the same subjects, requests and seed."""
    now, then = new["metadata"], old["metadata"]
    differ = [
        f"{key} {_short(now.get(key))} against {_short(then.get(key))}"
        for key in COMPARABLE
        if now.get(key) != then.get(key)
    ]
    if differ:
        raise InputError(
            f"the two files cannot be compared: {'; '.join(differ)}",
            hint="score both weights with the same --dataset, --split, --count, --frames, --seed, --max-attempts and "
            "--match-volumes",
        )
    return [
        ScoreComparison(tolerance, figure_of(old, tolerance), figure_of(new, tolerance)) for tolerance in TOLERANCES
    ]


def notes(new: dict[str, Any], old: dict[str, Any]) -> Iterator[str]:
    """What a reader of the comparison should know."""
    grids = [scores["metadata"].get("grid") for scores in (old, new)]
    if grids[0] != grids[1]:
        yield f"the grids differ ({grids[0]} and {grids[1]}), so PSNR and SSIM are not comparable"
    if new["metadata"].get("weights") == old["metadata"].get("weights"):
        yield "both files are scores of the same weights"
    if not new["metadata"].get("same_data_as_training"):
        yield "the new weights were trained on another dataset, so near-copies of their subjects may be missed"


def figure_of(scores: dict[str, Any], tolerance: Tolerance) -> float | None:
    """The figure of a score file that ``tolerance`` is about; None if the file lacks it."""
    value: Any = scores
    for key in tolerance.path:
        value = value.get(key) if isinstance(value, dict) else None
    return float(value) if isinstance(value, int | float) else None


def _short(value: object) -> str:
    return f"{value[:12]}..." if isinstance(value, str) and len(value) > 20 else str(value)


# --- Scores recorded in the weights folder that they describe --------------------------------------------------------


def record_scores(folder: Path, scores: dict[str, Any]) -> Path:
    """Write ``scores`` into the weights folder that they describe; returns the file.

    `WeightsError` if they describe other weights, or the index was not written by `cinesynth bundle`.
    """
    before, found = bundle_sha256(folder), scores.get("metadata", {}).get("weights")
    if found != before:
        raise WeightsError(
            f"the scores describe weights {str(found)[:12]}..., but {folder} holds {before[:12]}...",
            hint=f"score these weights: cinesynth score --weights {folder} --dataset DATASET --out SCORES.json",
        )
    index, path = read_index(folder), folder / SCORES_FILE
    text = json.dumps(scores, indent=1)
    plain = index_text({key: value for key, value in index.items() if key != SCORES})
    if SCORES not in index and (folder / INDEX).read_text(encoding="utf-8") != plain:
        raise WeightsError(
            f"{folder / INDEX} was edited: to record scores would rewrite it and change the SHA-256 of the weights",
            hint="run cinesynth bundle again, then record the scores",
        )
    write_text(path, text)
    write_text(folder / INDEX, index_text({**index, SCORES: file_sha256(path)}))
    return path


def recorded_scores(folder: Path) -> dict[str, Any] | None:
    """The scores recorded in a weights folder, None if there are none; `WeightsError` if they were altered."""
    expected = read_index(folder).get(SCORES)
    if expected is None:
        return None
    path = folder / SCORES_FILE
    scores = read_json(path, f"the weights folder {folder}")
    if file_sha256(path) != expected:
        raise WeightsError(
            f"{path} was altered: its SHA-256 differs from the one in the index", hint="record the scores again"
        )
    return migrated_scores(scores)
