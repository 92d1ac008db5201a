"""File patterns of a layout, and the files that fit them.

Patterns are relative to the folder that the user names. ``{subject}`` stands for a name, ``{frame}`` for the number of
a frame, ``{time_ms}`` for its trigger time, ``{slice}`` for the number of a slice, ``*`` for anything within a name.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import AfterValidator

from cinesynth.data.file_faults import other_ending
from cinesynth.errors import DataError

SUBJECT, FRAME, TIME, SLICE = "{subject}", "{frame}", "{time_ms}", "{slice}"
NUMBERED = (FRAME, TIME, SLICE)
"""Placeholders that make several files of one subject; a pattern has one of them at most."""
MORE_SPECIFIC = "make the pattern in the layout more specific"
SEVERAL = f"{MORE_SPECIFIC}; for a file per frame or slice, use {{frame}}, {{time_ms}} or {{slice}} in it"
_PARTS = re.compile(r"(\{subject\}|\{frame\}|\{time_ms\}|\{slice\}|\*)")
_GROUPS = {
    SUBJECT: ("(?P<subject>[^/]+)", "(?P=subject)"),
    FRAME: ("(?P<number>[0-9]{1,9})", "(?P=number)"),
    TIME: (r"(?P<number>[0-9]{1,9}(?:\.[0-9]{1,6})?)", "(?P=number)"),
    SLICE: ("(?P<number>[0-9]{1,9})", "(?P=number)"),
}


def check_pattern(pattern: str) -> str:
    """``pattern`` itself; ``ValueError`` unless it contains ``{subject}`` and stays below the folder."""
    if SUBJECT not in pattern:
        raise ValueError(f"{pattern!r} has no {SUBJECT}")
    if left := re.findall(r"[{}]+\w*", _PARTS.sub("", pattern)):
        raise ValueError(f"{pattern!r}: {left[0]!r} is neither {SUBJECT} nor {', '.join(NUMBERED)}")
    if sum(part in pattern for part in NUMBERED) > 1:
        raise ValueError(f"{pattern!r} has more than one of {', '.join(NUMBERED)}")
    if "\0" in pattern or "**" in pattern or pattern.startswith(("/", "\\")) or ".." in pattern.split("/"):
        forbidden = "'**', '..', a leading '/' and zero bytes are not allowed"
        raise ValueError(f"{pattern!r} must stay below the folder: {forbidden}")
    return pattern


Pattern = Annotated[str, AfterValidator(check_pattern)]


class PatternMatch(NamedTuple):
    """A file that fits a pattern."""

    path: Path
    subject: str
    number: float | None
    """In place of ``{frame}``, ``{time_ms}`` or ``{slice}``."""


def find(root: Path, pattern: str, subject: str | None = None) -> list[PatternMatch]:
    """Files below ``root`` that fit ``pattern``, of one subject or of all, sorted; hidden files are ignored.

    ``.nii`` in place of ``.nii.gz``, or the reverse, fits as well where the file itself is not there.
    """
    found = list(_exact(root, pattern, subject))
    if other := other_ending(pattern):
        known = {match.path for match in found}
        twins = _exact(root, other, subject)
        found += [match for match in twins if Path(other_ending(str(match.path))) not in known]
    return sorted(found)


def only(root: Path, pattern: str, subject: str) -> Path:
    """The only file of ``subject`` that fits; `DataError` if there is none, or more than one."""
    paths = [match.path for match in find(root, pattern, subject)]
    if not paths:
        hint = "copy the whole dataset again, or correct the pattern in the layout"
        raise DataError(f"{root / pattern.replace(SUBJECT, subject)} is missing", hint=hint)
    if len(paths) > 1:
        found = f"{subject}: {len(paths)} files fit {pattern!r}: {paths[0].name}, {paths[1].name}, ..."
        raise DataError(found, hint=SEVERAL)
    return paths[0]


def numbered(root: Path, pattern: str, subject: str) -> dict[float, Path]:
    """Files of ``subject`` by ascending number; `DataError` if two files have the same number."""
    result: dict[float, Path] = {}
    kind = next(part for part in NUMBERED if part in pattern).strip("{}").removesuffix("_ms")
    for path, _, number in find(root, pattern, subject):
        other = result.setdefault(number or 0, path)
        if other != path:
            found = f"{subject}: {path.name} and {other.name} are both {kind} {number or 0:g}"
            raise DataError(found, hint=MORE_SPECIFIC)
    return dict(sorted(result.items()))


def _exact(root: Path, pattern: str, subject: str | None) -> Iterator[PatternMatch]:
    regex = _regex(pattern)
    special = {SUBJECT: "*" if subject is None else glob.escape(subject), "*": "*"} | dict.fromkeys(NUMBERED, "*")
    parts = (special.get(part) or glob.escape(part) for part in _PARTS.split(pattern))
    for path in root.glob("".join(parts)):
        place = path.relative_to(root).as_posix()
        match = regex.fullmatch(place)
        if not match or re.search(r"(^|/)\.", place) or subject not in (None, match["subject"]):
            continue
        number = match.groupdict().get("number")
        yield PatternMatch(path, match["subject"], None if number is None else float(number))


def _regex(pattern: str) -> re.Pattern[str]:
    """Each placeholder may occur twice, and must then stand for the same text."""
    parts = _PARTS.split(pattern)
    regex = ["[^/]*" if part == "*" else re.escape(part) for part in parts]
    for place, part in enumerate(parts):
        if part in _GROUPS:
            regex[place] = _GROUPS[part][part in parts[:place]]
    return re.compile("".join(regex))
