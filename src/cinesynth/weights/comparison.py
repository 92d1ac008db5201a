"""Can new weights replace old ones: their scores side by side, and which figures are regressions.

Both files must be of the same patients, requests and seed. The figures are then paired, and a tolerance has to cover
only what another training run with another seed changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cinesynth.errors import InputError

FORMAT = 2
"""Of the JSON of `cinesynth score`; files of format 1 are read too."""
SAME = ("data_hash", "split", "n_subjects", "cases", "frames_per_case", "seed", "match_volumes", "max_attempts")
"""Metadata that two files of scores must share."""
Verdict = Literal["better", "same", "within", "worse", "missing", "new", "not known"]


@dataclass(frozen=True)
class Tolerance:
    """How much worse a figure of the scores may get: by ``allowed``, for ``reason``.

    If ``absolute``, ``allowed`` is the limit of the new figure itself, whatever the old one is.
    """

    name: str
    path: tuple[str, ...]
    better: Literal["high", "low"]
    allowed: float
    reason: str
    absolute: bool = False

    @property
    def rule(self) -> str:
        """The tolerance in words."""
        if self.absolute:
            return f"{self.allowed:g} at most"
        return f"{'-' if self.better == 'high' else '+'}{self.allowed:g}"


_DICE = "retraining moves the mean over some 20 subjects by less; subjects differ by .06"
_R = "a correlation of 50 cases near .9 has a standard error of .03; of 200 cases half of it"
_MAE = "two readers of one heart differ by 4 to 8 mL; a smaller change is not visible"
_COPY = "no patient may be disclosed: one near-copy is too many, even if the old weights made some"

TOLERANCES = (
    Tolerance(
        "PSNR dB", ("codec", "all", "figures", "PSNR", "mean"), "high", 0.2, "a smaller loss is not visible in an image"
    ),
    Tolerance(
        "SSIM", ("codec", "all", "figures", "SSIM", "mean"), "high", 0.005, "the change that goes with 0.2 dB of PSNR"
    ),
    *(
        Tolerance(f"Dice {s}", ("codec", "all", "figures", f"Dice {s}", "mean"), "high", 0.01, _DICE)
        for s in ("LV", "MYO", "RV")
    ),
    *(Tolerance(f"r {q[:3].strip()}", ("control", q, "r"), "high", 0.02, _R) for q in ("EDV mL", "ESV mL", "EF %")),
    *(Tolerance(f"MAE {q}", ("control", q, "mae"), "low", 1.0, _MAE) for q in ("EDV mL", "ESV mL")),
    Tolerance(
        "MAE EF %", ("control", "EF %", "mae"), "low", 0.5, "two readers differ by 3 to 5 points; a tenth of that"
    ),
    Tolerance("accepted rate", ("accepted", "rate"), "high", 0.02, "one case of 50: what other starting noise changes"),
    Tolerance("near-copies, image", ("memorisation", "image", "rate"), "low", 0.0, _COPY, absolute=True),
    Tolerance("near-copies, mask", ("memorisation", "mask", "rate"), "low", 0.0, _COPY, absolute=True),
)


@dataclass(frozen=True)
class Compared:
    """One compared figure of two files; None where a file does not have it."""

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
        """Whether the figure speaks against the new weights."""
        return self.verdict in ("worse", "missing")


def read_scores(path: Path) -> dict[str, Any]:
    """What `cinesynth score --out` wrote; `InputError` where it is something else or of an unknown format."""
    try:
        content: Any = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as scores: {error}", hint="make it: cinesynth score --out SCORES.json"
        ) from None
    scores: dict[str, Any] = migrated(content) if isinstance(content, dict) else {}
    found = scores.get("format")
    if found != FORMAT or not isinstance(scores.get("metadata"), dict):
        raise InputError(
            f"{path} has scores of format {found}, expected {FORMAT}",
            hint="score the weights again with this version: cinesynth score --out SCORES.json",
        )
    return scores


def migrated(scores: dict[str, Any]) -> dict[str, Any]:
    """Scores of format 1 under today's keys; any others as they are."""
    if scores.get("format") != 1 or not isinstance(scores.get("about"), dict):
        return scores
    renamed = {"people": "n_subjects", "closed_loop": "match_volumes", "tries": "max_attempts"}
    metadata = {"max_attempts": 3, **_renamed(scores["about"], renamed)}  # the oldest files do not hold it
    current = {**_renamed(scores, {"about": "metadata"}), "format": FORMAT, "metadata": metadata}
    codec = current.get("codec", {})
    groups = {kind: _renamed_each(codec.get(kind, {}), _RENAMED_PARTS) for kind in ("datasets", "vendors")}
    current["codec"] = {"all": _renamed(codec.get("all", {}), _RENAMED_PARTS), **groups}
    current["memorisation"] = _renamed_each(current.get("memorisation", {}), _RENAMED_PARTS)
    current["cycles"] = _renamed(current.get("cycles", {}), _RENAMED_PARTS)
    return current


_RENAMED_PARTS = {"people": "subjects", "training_people": "training_subjects"}


def _renamed(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in values.items()}


def _renamed_each(parts: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {name: _renamed(part, names) for name, part in parts.items()}


def without_subjects(scores: dict[str, Any]) -> dict[str, Any]:
    """Scores without anything about single patients: what may be shared with weights."""
    metadata = {key: value for key, value in scores["metadata"].items() if key != "subjects"}
    return {**{key: value for key, value in scores.items() if key != "rows"}, "metadata": metadata}


def compare(new: dict[str, Any], old: dict[str, Any]) -> list[Compared]:
    """Every figure of `TOLERANCES` in two files; `InputError` unless both share subjects, requests and seed."""
    now, then = new["metadata"], old["metadata"]
    differ = [
        f"{key} {_short(now.get(key))} against {_short(then.get(key))}" for key in SAME if now.get(key) != then.get(key)
    ]
    if differ:
        raise InputError(
            f"the two files cannot be compared: {'; '.join(differ)}",
            hint="score both weights with the same --dataset, --split, --count, --frames, --seed, --max-attempts and "
            "--match-volumes",
        )
    return [Compared(tolerance, figure_of(old, tolerance), figure_of(new, tolerance)) for tolerance in TOLERANCES]


def notes(new: dict[str, Any], old: dict[str, Any]) -> Iterator[str]:
    """Remarks below the table."""
    grids = [scores["metadata"].get("grid") for scores in (old, new)]
    if grids[0] != grids[1]:
        yield f"the grids differ ({grids[0]} and {grids[1]}): PSNR and SSIM are not comparable"
    if new["metadata"].get("weights") == old["metadata"].get("weights"):
        yield "both files are scores of the same weights"
    if not new["metadata"].get("same_data_as_training"):
        yield "the new weights were trained on other data: they may not have seen the subjects of the near-copy search"


def figure_of(scores: dict[str, Any], tolerance: Tolerance) -> float | None:
    """A figure of a file of scores, None where it is missing."""
    value: Any = scores
    for key in tolerance.path:
        value = value.get(key) if isinstance(value, dict) else None
    return float(value) if isinstance(value, int | float) else None


def _short(value: object) -> str:
    return f"{value[:12]}..." if isinstance(value, str) and len(value) > 20 else str(value)
