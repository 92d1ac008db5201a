"""Commands and options that hints name exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from cinesynth.cli import app

SOURCES = sorted((Path(__file__).resolve().parents[2] / "src").rglob("*.py"))
OF_OTHERS = {"--raw"}  # gdcmconv's
PROSE = {"writes"}  # "as cinesynth writes them"


def texts(node: ast.AST) -> str:
    """The literal text of an expression, with ``...`` where a value is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.FormattedValue):
        return "..."
    return " ".join(map(texts, ast.iter_child_nodes(node))) if not isinstance(node, ast.JoinedStr) else joined(node)


def joined(node: ast.JoinedStr) -> str:
    return "".join(map(texts, node.values))


def hints() -> Iterator[tuple[str, str]]:
    """Where a hint is written, and its text: of keywords, and of variables of that name."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            values = [k.value for k in node.keywords if k.arg == "hint"] if isinstance(node, ast.Call) else []
            if isinstance(node, ast.Assign) and any("hint" in ast.unparse(target).lower() for target in node.targets):
                values.append(node.value)
            for value in values:
                if text := texts(value).strip():
                    yield f"{path.name}:{value.lineno}", text


def commands(group: click.Command, name: str = "") -> Iterator[tuple[str, click.Command]]:
    yield name.strip(), group
    for word, command in getattr(group, "commands", {}).items():
        yield from commands(command, f"{name} {word}")


@pytest.fixture(scope="module")
def known() -> dict[str, click.Command]:
    return dict(commands(typer.main.get_command(app)))


def test_hints_name_commands_that_exist(known: dict[str, click.Command]) -> None:
    """With the options that follow in the same sentence."""
    named = [(where, words) for where, text in hints() for words in re.findall(r"cinesynth ([a-z][^;:`,]*)", text)]
    assert len(named) > 20
    for where, words in named:
        first, *rest = words.split()
        if first in PROSE:
            continue
        assert first in known, f"{where}: no command cinesynth {first}"
        if "..." in rest[:1]:  # a value is filled in
            continue
        verb = f"{first} {rest[0]}" if getattr(known[first], "commands", {}) and rest else first
        assert verb in known, f"{where}: no command cinesynth {verb}"
        options = {option for parameter in known[verb].params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options, f"{where}: {words}"


def test_hints_name_options_that_exist(known: dict[str, click.Command]) -> None:
    options = {option for command in known.values() for p in command.params for option in (*p.opts, *p.secondary_opts)}
    named = [(where, option) for where, text in hints() for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)]
    assert len(named) > 20
    strange = {(where, option) for where, option in named if option not in options | OF_OTHERS}
    assert not strange
