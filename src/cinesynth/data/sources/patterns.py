"""File patterns of a layout: ``{subject}`` and ``{frame}`` stand for names and numbers, ``*`` for anything."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from pathlib import Path

from cinesynth.errors import DataError

SUBJECT, FRAME = "{subject}", "{frame}"
_PARTS = re.compile(r"(\{subject\}|\{frame\}|\*)")


@dataclass(frozen=True)
class Match:
    """A file that fits a pattern."""

    path: Path
    subject: str
    frame: int | None
    """The number in place of ``{frame}``."""


def check_pattern(pattern: str) -> str:
    """``pattern`` itself; ``ValueError`` unless it names a subject and stays below the folder."""
    if SUBJECT not in pattern:
        raise ValueError(f"{pattern!r} has no {SUBJECT}")
    if left := re.findall(r"[{}]+\w*", _PARTS.sub("", pattern)):
        raise ValueError(f"{pattern!r}: {left[0]!r} is neither {SUBJECT} nor {FRAME}")
    if "\0" in pattern or "**" in pattern or pattern.startswith(("/", "\\")) or ".." in pattern.split("/"):
        raise ValueError(
            f"{pattern!r} must name files below the folder: no '**', no '..', no leading '/', no zero byte"
        )
    return pattern


def find(root: Path, pattern: str, subject: str | None = None) -> list[Match]:
    """The files below ``root`` that fit, of one subject or of all, sorted; hidden files are not looked at."""
    regex, found = _regex(pattern), []
    for path in sorted(root.glob(_glob(pattern, subject))):
        place = path.relative_to(root).as_posix()
        match = regex.fullmatch(place)
        if not match or re.search(r"(^|/)\.", place) or subject not in (None, match["subject"]):
            continue
        number = match.groupdict().get("frame")
        found.append(Match(path, match["subject"], None if number is None else int(number)))
    return found


def only(root: Path, pattern: str, subject: str) -> Path:
    """The one file of ``subject``; `DataError` if there is none, or more than one."""
    paths = [match.path for match in find(root, pattern, subject)]
    if not paths:
        raise DataError(
            f"{root / pattern.replace(SUBJECT, subject)} is missing",
            hint="copy the whole dataset again, or correct the pattern of the layout",
        )
    if len(paths) > 1:
        raise DataError(
            f"{subject}: {len(paths)} files fit {pattern!r}: {paths[0].name}, {paths[1].name}, ...",
            hint="make the pattern of the layout narrower",
        )
    return paths[0]


def numbered(root: Path, pattern: str, subject: str) -> dict[int, Path]:
    """The files of ``subject`` by frame number, in its order; `DataError` if two have one number."""
    result: dict[int, Path] = {}
    for match in find(root, pattern, subject):
        number = match.frame or 0
        if result.setdefault(number, match.path) != match.path:
            raise DataError(
                f"{subject}: {match.path.name} and {result[number].name} are both frame {number}",
                hint="make the pattern of the layout narrower",
            )
    return dict(sorted(result.items()))


def _glob(pattern: str, subject: str | None) -> str:
    name = "*" if subject is None else glob.escape(subject)
    special = {SUBJECT: name, FRAME: "*", "*": "*"}
    return "".join(special.get(part) or glob.escape(part) for part in _PARTS.split(pattern))


def _regex(pattern: str) -> re.Pattern[str]:
    """A name may come again; the second time it must be the same."""
    groups = {SUBJECT: ("(?P<subject>[^/]+)", "(?P=subject)"), FRAME: ("(?P<frame>[0-9]{1,9})", "(?P=frame)")}
    parts = _PARTS.split(pattern)
    regex = ["[^/]*" if part == "*" else re.escape(part) for part in parts]
    for place, part in enumerate(parts):
        if part in groups:
            regex[place] = groups[part][part in parts[:place]]
    return re.compile("".join(regex))
