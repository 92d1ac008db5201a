"""Reading of cohort files (docs/reference/cohort-files.md): CSV with a row, or YAML with an entry, a case or group.

Values are validated by `cohort_schema.CohortGroup`; errors name the file, the line and what was expected. Of YAML only
the text of scalars is used: no object is constructed, and anchors are rejected, because with them a small file can
expand without end.
"""

from __future__ import annotations

import csv
import difflib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from pydantic import ValidationError

from cinesynth.errors import InputError
from cinesynth.io.files import open_regular
from cinesynth.synthesis.cohort_schema import KEYS, MAX_CASES, CohortGroup, located, shown

MAX_BYTES = {".csv": 16 << 20, ".yaml": 1 << 17, ".yml": 1 << 17}
"""Largest file, in bytes, by suffix. PyYAML needs seconds for a YAML file of this size."""
NUMBERS = frozenset({"edv", "esv", "ef", "slices", "rv_edv", "rv_esv", "mass"})
CSV_EXAMPLE = "for example\ndiagnosis,edv,ef,count\nDCM,280,25,10"
YAML_EXAMPLE = "for example\ncases:\n  - {diagnosis: DCM, edv: [200, 320], ef: [15, 35], count: 10}"
Text = str | tuple[str, ...]
"""A value as it is written; several are the ends of a range."""


def read_cohort(path: Path | str) -> list[CohortGroup]:
    """The groups of a file, in order. An `InputError` names the file, the line and what was expected."""
    path = Path(path)
    text = _text(path)
    is_table = path.suffix.lower() == ".csv"
    groups: list[CohortGroup] = []
    cases = 0
    for group in _csv_groups(path.name, text) if is_table else _yaml_groups(path.name, text):
        groups.append(group)
        cases += group.count
        if cases > MAX_CASES:
            raise InputError(f"{group.place}: more than {MAX_CASES} cases", hint="split the file into several cohorts")
    if not groups:
        raise InputError(f"{path} describes no case", hint=CSV_EXAMPLE if is_table else YAML_EXAMPLE)
    return groups


def _text(path: Path) -> str:
    limit = MAX_BYTES.get(path.suffix.lower())
    if limit is None:
        raise InputError(f"{path} is neither .csv nor .yaml", hint=CSV_EXAMPLE)
    try:
        with open_regular(path) as file:
            content = file.read(limit + 1)  # one byte more shows that the file is too large
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise InputError(f"{path} cannot be read: {reason}", hint="give a readable CSV or YAML file") from None
    if len(content) > limit:
        raise InputError(f"{path} is larger than {limit >> 10} KiB", hint="use groups with a count")
    try:
        return content.decode("utf-8-sig")  # spreadsheets write a byte order mark
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path.name}, line {line}: not UTF-8 text", hint="save the file as UTF-8") from None


def _group(place: str, values: Mapping[str, Text], places: Mapping[str, str] | None = None) -> CohortGroup:
    """Validate a group at ``place``; ``places`` are those of its values, where they differ."""
    try:
        with located(place):
            return CohortGroup.model_validate({**values, "place": place})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key, message = str(first["loc"][0]), first["msg"]
        if first["type"] != "value_error":  # pydantic's own messages do not repeat key and value
            message = f"{key} {shown(first['input'])}: {message[0].lower()}{message[1:]}"
        where, hint = (places or {}).get(key, place), CohortGroup.model_fields[key].description or ""
        raise InputError(f"{where}: {message.removeprefix('Value error, ')}", hint=hint) from None


# --- CSV ----------------------------------------------------------------------------------------------------------


def _csv_groups(name: str, text: str) -> Iterator[CohortGroup]:
    """One group per row."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: list[str] = []
    line = 1
    try:
        for cells in reader:
            # A quoted cell may hold line breaks: a row is named by its first line.
            place, line = f"{name}, line {line}", reader.line_num + 1
            cells = [cell.strip() for cell in cells]
            if not any(cells):  # spreadsheets leave empty rows
                continue
            if not columns:  # the header
                columns = _keys("column", KEYS, place, [(place, cell) for cell in cells])
            elif len(cells) != len(columns):
                raise InputError(
                    f"{place}: {len(cells)} cells for {len(columns)} columns",
                    hint=f"one cell for each of {', '.join(columns)}; leave it empty if it is unknown",
                )
            else:
                # As the options of `generate`: an empty cell is unknown, a row without any number is sampled.
                given = {key: cell for key, cell in zip(columns, cells, strict=True) if cell}
                open_ = dict.fromkeys(("diagnosis", "edv", "ef", "slices"), "") if given.keys() & NUMBERS else {}
                yield _group(place, {**open_, **given})
    except csv.Error as error:
        raise InputError(f"{name}, line {reader.line_num}: not CSV: {error}", hint=CSV_EXAMPLE) from None


# --- YAML ---------------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML without anchors."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose one node; raises `InputError` at an anchor or alias."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise InputError(
                f"line {event.start_mark.line + 1}: anchors and aliases (& and *) are not supported",
                hint="write the values out, or put common ones under defaults:",
            )
        return super().compose_node(parent, index)


def _yaml_groups(name: str, text: str) -> Iterator[CohortGroup]:
    """One group per entry of ``cases``, which overrides ``defaults``."""
    parts = _entries(name, _compose(name, text), ("cases", "defaults"))
    cases = parts.get("cases")
    if not isinstance(cases, yaml.SequenceNode):
        raise InputError(f"{name}: no list of groups under cases:", hint=YAML_EXAMPLE)
    defaults = _entries(name, parts["defaults"], KEYS) if "defaults" in parts else {}
    for number, node in enumerate(cases.value, start=1):
        own = _entries(name, node, KEYS)
        # EF and ESV say the same: a group's own one replaces a default of either.
        replaced = {"esv", "ef"} if own.keys() & {"esv", "ef"} else set()
        nodes = {**{key: value for key, value in defaults.items() if key not in replaced}, **own}
        places = {key: f"{_place(name, value)} (group {number})" for key, value in nodes.items()}
        values = {key: _value(places[key], key, value) for key, value in nodes.items()}
        yield _group(f"{_place(name, node)} (group {number})", values, places)


def _compose(name: str, text: str) -> yaml.Node:
    try:
        root = yaml.compose(text, Loader=_Loader)
    except InputError as error:
        raise InputError(f"{name}, {error.message}", hint=error.hint) from None
    except yaml.MarkedYAMLError as error:
        where = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise InputError(f"{name}{where}: not YAML: {error.problem}", hint=YAML_EXAMPLE) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise InputError(f"{name}: not YAML: {reason}", hint=YAML_EXAMPLE) from None
    if root is None:
        raise InputError(f"{name} is empty", hint=YAML_EXAMPLE)
    return root


def _value(place: str, key: str, node: yaml.Node) -> Text:
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    if isinstance(node, yaml.SequenceNode) and all(isinstance(end, yaml.ScalarNode) for end in node.value):
        return tuple(str(end.value) for end in node.value)
    raise InputError(f"{place}: {key} is nested", hint="give a single value, or a range as [low, high]")


def _entries(name: str, node: yaml.Node, known: Sequence[str]) -> dict[str, yaml.Node]:
    """The entries of a mapping, whose keys must be known and unique."""
    place = _place(name, node)
    if isinstance(node, yaml.ScalarNode) and node.value == "" and known is KEYS:  # "defaults:" or "-" alone
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise InputError(f"{place}: expected keys and values", hint=f"the keys are {', '.join(known)}")
    keys = _keys("key", known, place, [(_place(name, key), key.value) for key, _ in node.value])
    return dict(zip(keys, (value for _, value in node.value), strict=True))


# --- Keys and places ----------------------------------------------------------------------------------------------


def _keys(kind: str, known: Sequence[str], place: str, texts: Sequence[tuple[str, object]]) -> list[str]:
    """The keys in lower case that ``texts``, each with its place, name; all must be known, and none appear twice."""
    keys = []
    for where, text in texts:
        key = text.strip().casefold() if isinstance(text, str) else ""
        if key not in known:
            near = difflib.get_close_matches(key[:40], known, n=1)
            hint = f"the known ones are {', '.join(known)}"
            hint = f"did you mean {near[0]}? {hint[0].upper()}{hint[1:]}" if near else hint
            if ";" in key:  # the separator of some locales' spreadsheets
                hint = f"separate columns by commas; {hint}"
            name = shown(text if isinstance(text, str) else ())
            raise InputError(f"{where}: {kind} {name} is not known", hint=hint)
        keys.append(key)
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(f"{place}: {kind} {key} appears {keys.count(key)} times", hint="keep one of them")
    return keys


def _place(name: str, node: yaml.Node) -> str:
    return f"{name}, line {node.start_mark.line + 1}"
