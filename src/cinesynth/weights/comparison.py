"""May new weights take the place of old ones: their scores side by side, and what must not get worse.

Both files must be of the same patients, requests and seed: then the figures are paired, and a tolerance has to cover
only what another training run with other random numbers changes.
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
"""What two files of scores must agree on."""
Verdict = Literal["better", "same", "within", "worse", "missing", "new", "not known"]


@dataclass(frozen=True)
class Gated:
    """A figure of a file of scores that must not get worse by more than ``tolerance``.

    Where ``absolute``, the new figure itself must not be beyond it, whatever the old one is.
    """

    name: str
    path: tuple[str, ...]
    better: Literal["high", "low"]
    tolerance: float
    reason: str
    absolute: bool = False

    @property
    def rule(self) -> str:
        """The tolerance in words."""
        if self.absolute:
            return f"{self.tolerance:g} at most"
        return f"{'-' if self.better == 'high' else '+'}{self.tolerance:g}"


_DICE = "training anew moves the mean over some 20 people by less; people differ by .06 among each other"
_R = "a correlation of 50 cases near .9 has a standard error of .03; of 200 cases half of it"
_MAE = "two readers of one heart differ by 4 to 8 mL; a change that none of them could see is none"
_COPY = "nobody may be given away: one near-copy is one too many, also where the old weights made some"

GATED = (
    Gated("PSNR dB", ("codec", "all", "figures", "PSNR", "mean"), "high", 0.2, "less is not seen in an image"),
    Gated("SSIM", ("codec", "all", "figures", "SSIM", "mean"), "high", 0.005, "as much as 0.2 dB of PSNR changes it"),
    *(
        Gated(f"Dice {s}", ("codec", "all", "figures", f"Dice {s}", "mean"), "high", 0.01, _DICE)
        for s in ("LV", "MYO", "RV")
    ),
    *(Gated(f"r {q[:3].strip()}", ("control", q, "r"), "high", 0.02, _R) for q in ("EDV mL", "ESV mL", "EF %")),
    *(Gated(f"MAE {q}", ("control", q, "mae"), "low", 1.0, _MAE) for q in ("EDV mL", "ESV mL")),
    Gated("MAE EF %", ("control", "EF %", "mae"), "low", 0.5, "two readers differ by 3 to 5 points; a tenth of that"),
    Gated("accepted rate", ("accepted", "rate"), "high", 0.02, "one case of 50: what another start noise changes"),
    Gated("near-copies, image", ("memorisation", "image", "rate"), "low", 0.0, _COPY, absolute=True),
    Gated("near-copies, mask", ("memorisation", "mask", "rate"), "low", 0.0, _COPY, absolute=True),
)


@dataclass(frozen=True)
class Compared:
    """One gated figure of two files; None where a file does not have it."""

    gated: Gated
    old: float | None
    new: float | None

    @property
    def verdict(self) -> Verdict:
        """What became of the figure."""
        if self.new is None:
            return "not known" if self.old is None else "missing"
        if self.gated.absolute and self.new > self.gated.tolerance:
            return "worse"
        if self.old is None:
            return "new"
        gain = (self.new - self.old) * (1 if self.gated.better == "high" else -1)
        if gain >= 0:
            return "better" if gain else "same"
        return "within" if self.gated.absolute or -gain <= self.gated.tolerance + 1e-9 else "worse"

    @property
    def closes(self) -> bool:
        """Whether the new weights may not pass because of it."""
        return self.verdict in ("worse", "missing")


def read_scores(path: Path) -> dict[str, Any]:
    """What `cinesynth score --out` wrote; `InputError` where it is something else, or of another version."""
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
    """Every gated figure of two files; `InputError` unless both are of the same people, requests and seed."""
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
    return [Compared(gated, figure_of(old, gated), figure_of(new, gated)) for gated in GATED]


def notes(new: dict[str, Any], old: dict[str, Any]) -> Iterator[str]:
    """What a reader of the table should know."""
    grids = [scores["metadata"].get("grid") for scores in (old, new)]
    if grids[0] != grids[1]:
        yield f"the grids differ ({grids[0]} and {grids[1]}): PSNR and SSIM are of other voxels"
    if new["metadata"].get("weights") == old["metadata"].get("weights"):
        yield "both files are of the same weights"
    if not new["metadata"].get("same_data_as_training"):
        yield "the new weights were trained on other data: near-copies were looked for among people they need not know"


def figure_of(scores: dict[str, Any], gated: Gated) -> float | None:
    """A gated figure of a file of scores, None where it does not have it."""
    value: Any = scores
    for key in gated.path:
        value = value.get(key) if isinstance(value, dict) else None
    return float(value) if isinstance(value, int | float) else None


def _short(value: object) -> str:
    return f"{value[:12]}..." if isinstance(value, str) and len(value) > 20 else str(value)
