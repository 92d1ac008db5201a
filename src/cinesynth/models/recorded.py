"""Scores kept beside weights: ``scores.json``, whose hash the index holds under a key of its own.

What was measured is no part of the weights: `bundle_sha256` is the same before and after.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cinesynth.atomic import write_text
from cinesynth.errors import WeightsError
from cinesynth.files import file_sha256
from cinesynth.models.bundles import INDEX, SCORES, bundle_sha256, index_text, read_index, read_json

SCORES_FILE = "scores.json"


def record_scores(folder: Path, scores: dict[str, Any]) -> Path:
    """Keep ``scores`` in the weights folder that they are of; returns the file.

    `WeightsError` where they are of other weights, or the index was not written by `cinesynth bundle`.
    """
    before, found = bundle_sha256(folder), scores.get("about", {}).get("weights")
    if found != before:
        raise WeightsError(
            f"the scores are of weights {str(found)[:12]}..., {folder} holds {before[:12]}...",
            hint=f"score these: cinesynth score --weights {folder}",
        )
    index, path = read_index(folder), folder / SCORES_FILE
    text = json.dumps(scores, indent=1)
    plain = index_text({key: value for key, value in index.items() if key != SCORES})
    if SCORES not in index and (folder / INDEX).read_text(encoding="utf-8") != plain:
        raise WeightsError(
            f"{folder / INDEX} is laid out differently than `cinesynth bundle` writes it, so its hash would change",
            hint="bundle the weights again, then record",
        )
    write_text(path, text)
    write_text(folder / INDEX, index_text({**index, SCORES: file_sha256(path)}))
    return path


def recorded_scores(folder: Path) -> dict[str, Any] | None:
    """The scores recorded in a weights folder, None where there are none; `WeightsError` where they were altered."""
    expected = read_index(folder).get(SCORES)
    if expected is None:
        return None
    path = folder / SCORES_FILE
    scores = read_json(path, f"the weights folder {folder}")
    if file_sha256(path) != expected:
        raise WeightsError(f"{path} was altered: its hash is not the index's", hint="record the scores again")
    return scores
