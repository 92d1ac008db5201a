"""Files that describe a cohort: CSV with a row a case or group, or YAML with a list of groups.

Here they are read and refused by their place; what the values mean is in `groups` and ``docs/cohorts.md``. Of YAML only
the text of its scalars counts: nothing is constructed, and anchors, with which a small file can grow without end, are
refused.
"""

from __future__ import annotations

import csv
import difflib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from cinesynth.errors import InputError
from cinesynth.io.files import open_regular
from cinesynth.synthesis.cohort_groups import Group
from cinesynth.synthesis.cohort_schema import KEYS, MAX_CASES, MAX_LETTERS, NUMBERS, Text, shown

MAX_BYTES = {".csv": 16 << 20, ".yaml": 1 << 17, ".yml": 1 << 17}
"""Of a file, by its suffix. YAML is read slowly: as much as that takes seconds, and more groups are a table."""
PARTS = ("cases", "defaults")
EXAMPLE = "for example\ndiagnosis,edv,ef,count\nDCM,280,25,10"
YAML_EXAMPLE = "for example\ncases:\n  - {diagnosis: DCM, edv: [200, 320], ef: [15, 35], count: 10}"


def read_cohort(path: Path | str) -> list[Group]:
    """The groups of a file, in order; `InputError` names the file, the line and what may stand there."""
    path = Path(path)
    text = _text(path)
    is_table = path.suffix.lower() == ".csv"
    groups: list[Group] = []
    cases = 0
    for group in _csv_groups(path.name, text) if is_table else _yaml_groups(path.name, text):
        groups.append(group)
        cases += group.count
        if cases > MAX_CASES:
            raise InputError(f"{group.place}: more than {MAX_CASES} cases", hint="use several cohorts")
    if not groups:
        raise InputError(f"{path} describes no case", hint=EXAMPLE if is_table else YAML_EXAMPLE)
    return groups


def _text(path: Path) -> str:
    limit = MAX_BYTES.get(path.suffix.lower())
    if limit is None:
        raise InputError(f"{path} is neither .csv nor .yaml", hint=EXAMPLE)
    try:
        with open_regular(path) as file:
            content = file.read(limit + 1)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise InputError(f"{path} cannot be read: {reason}", hint="give a CSV or YAML file that you may read") from None
    if len(content) > limit:
        raise InputError(f"{path} is larger than {limit >> 10} KiB", hint="describe groups by their count")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path.name}, line {line}: not UTF-8 text", hint="save the file as UTF-8") from None


def _csv_groups(name: str, text: str) -> Iterator[Group]:
    """A group a row. Rows that give no number are drawn; an empty cell of others is unknown."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: list[str] = []
    line = 1
    try:
        for cells in reader:
            place, line = f"{name}, line {line}", reader.line_num + 1
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if not columns:
                columns = [_key(place, cell, "column") for cell in cells]
                _check_once(place, columns, "column")
            elif len(cells) != len(columns):
                raise InputError(
                    f"{place}: {len(cells)} cells for {len(columns)} columns",
                    hint=f"one cell for each of {', '.join(columns)}; an empty one is unknown",
                )
            else:
                yield Group.parse(place, _row(dict(zip(columns, cells, strict=True))))
    except csv.Error as error:
        raise InputError(f"{name}, line {reader.line_num}: not CSV: {error}", hint=EXAMPLE) from None


def _row(cells: Mapping[str, str]) -> dict[str, Text]:
    """As the flags of the command line: what is empty is unknown, unless no number is asked for."""
    given: dict[str, Text] = {key: cell for key, cell in cells.items() if cell}
    if not given.keys() & NUMBERS.keys():
        return given
    return {"diagnosis": "", "edv": "", "ef": "", "slices": "", **given}


class _Loader(yaml.SafeLoader):
    """YAML without anchors."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """One node; `InputError` at an anchor or alias."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise InputError(
                f"line {event.start_mark.line + 1}: anchors and aliases (& and *) are not read",
                hint="write values out, or put those of all groups under defaults:",
            )
        return super().compose_node(parent, index)


def _yaml_groups(name: str, text: str) -> Iterator[Group]:
    """A group an entry of ``cases``, over ``defaults``."""
    root = _compose(name, text)
    parts = _entries(name, root, PARTS)
    cases = parts.get("cases")
    if not isinstance(cases, yaml.SequenceNode):
        raise InputError(f"{name}: no list of groups under cases:", hint=YAML_EXAMPLE)
    defaults = _texts(name, parts["defaults"]) if "defaults" in parts else {}
    for number, node in enumerate(cases.value, start=1):
        own = _texts(name, node)
        taken = {"esv", "ef"} if own.keys() & {"esv", "ef"} else set()
        kept = {key: text for key, text in defaults.items() if key not in taken}
        yield Group.parse(f"{_place(name, node)} (group {number})", {**kept, **own})


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


def _texts(name: str, node: yaml.Node) -> dict[str, Text]:
    """The texts of a group, or of the defaults."""
    return {key: _value(_place(name, value), key, value) for key, value in _entries(name, node, KEYS).items()}


def _value(place: str, key: str, node: yaml.Node) -> Text:
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    if isinstance(node, yaml.SequenceNode) and all(isinstance(end, yaml.ScalarNode) for end in node.value):
        return tuple(str(end.value) for end in node.value)
    raise InputError(f"{place}: {key} holds more than a value", hint="a value, or a range as [low, high]")


def _entries(name: str, node: yaml.Node, known: Sequence[str]) -> dict[str, yaml.Node]:
    """The entries of a mapping, each known and there once."""
    place = _place(name, node)
    if isinstance(node, yaml.ScalarNode) and node.value == "" and known is KEYS:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise InputError(f"{place}: no mapping of keys to values", hint=f"expected {', '.join(known)}")
    keys = [_key(_place(name, key), key.value, "key", known) for key, _ in node.value]
    _check_once(place, keys, "key")
    return dict(zip(keys, (value for _, value in node.value), strict=True))


def _key(place: str, text: object, kind: str, known: Sequence[str] = KEYS) -> str:
    """A column's or an entry's name."""
    key = text.strip().casefold() if isinstance(text, str) else ""
    if key in known:
        return key
    near = difflib.get_close_matches(key[:MAX_LETTERS], known, n=1)
    hint = f"did you mean {near[0]}? There are {', '.join(known)}" if near else f"there are {', '.join(known)}"
    if ";" in key:
        hint = f"separate columns by commas; {hint}"
    raise InputError(f"{place}: {kind} {shown(text if isinstance(text, str) else ())} is not known", hint=hint)


def _check_once(place: str, keys: Sequence[str], kind: str) -> None:
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(f"{place}: {kind} {key} is there {keys.count(key)} times", hint="leave it once")


def _place(name: str, node: yaml.Node) -> str:
    return f"{name}, line {node.start_mark.line + 1}"
