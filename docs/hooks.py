"""Hooks of mkdocs: pages generated from the code, files from outside `docs`, and folders in the navigation."""

from __future__ import annotations

import ast
import json
import posixpath
import re
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from cinesynth.cli import app
from cinesynth.config import load_config, presets

ROOT = Path(__file__).resolve().parents[1]
API = "reference/api"
MODULE_PAGE = """---
title: {title}
---
::: {name}
    options: {{show_root_heading: true, show_root_full_path: true, heading_level: 1}}
"""
SHOWN = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "MODEL_CARD.md": "model-card.md",
    "benchmarks/README.md": "experiments/benchmarks.md",
    "CITATION.cff": "files/CITATION.cff",
    "LICENSE": "files/LICENSE",
    "Makefile": "files/Makefile",
}
"""Files outside `docs` that the site has too, and where."""
SHOWN_FOLDERS = ("benchmarks", "examples")
"""Folders whose files the site has below ``files/``, for the links that lead to them."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and the files from outside `docs`, then fill the navigation."""
    for path, content in api_pages().items():
        files.append(File.generated(config, path, content=content))
    for source, path in shown().items():
        files.append(File.generated(config, path, abs_src_path=str(ROOT / source)))
    pages = sorted(file.src_uri for file in files.documentation_pages())
    config.nav = [with_pages(entry, pages) for entry in config.nav]
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put what is read from the code where a page asks for it, and lead links out of `docs` to the site's copies."""
    parts = {"<!-- commands -->": commands, "<!-- settings -->": settings}
    for mark, write in parts.items():
        if mark in markdown:
            markdown = markdown.replace(mark, write())
    return re.sub(r"(?<=\]\()(?!\w+:)([^)#\s]+)", lambda link: site_link(link[1], page.file.src_uri), markdown)


def shown() -> dict[str, str]:
    """Where the site has each file from outside `docs`, by its path in the repository."""
    paths = (path for folder in SHOWN_FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file())
    names = (path.relative_to(ROOT).as_posix() for path in paths if "__pycache__" not in path.parts)
    return {**{name: f"files/{name}" for name in names}, **SHOWN}


def site_link(target: str, page: str) -> str:
    """The link of a page to a file of the repository, as the site has it."""
    places = shown()
    origin = {place: source for source, place in places.items()}.get(page, f"docs/{page}")
    wanted = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
    place = places.get(wanted) or (wanted.removeprefix("docs/") if wanted.startswith("docs/") else None)
    return posixpath.relpath(place, posixpath.dirname(page) or ".") if place else target


# --- the navigation ------------------------------------------------------------------------------------------------


def with_pages(entry: Any, pages: list[str]) -> Any:
    """An entry of the navigation in which each folder (``path/``) is replaced by the pages below it."""
    if isinstance(entry, dict):
        return {title: with_pages(value, pages) for title, value in entry.items()}
    if isinstance(entry, list):
        return [with_pages(value, pages) for value in entry]
    return below(entry, pages) if entry.endswith("/") else entry


def below(folder: str, pages: list[str]) -> list[Any]:
    """The pages of a folder, ``index.md`` first, and its folders as sections."""
    rest = [page.removeprefix(folder) for page in pages if page.startswith(folder)]
    here = sorted((name for name in rest if "/" not in name), key=lambda name: (name != "index.md", name))
    folders = sorted({name.split("/")[0] for name in rest if "/" in name})
    return [folder + name for name in here] + [{name: below(f"{folder}{name}/", pages)} for name in folders]


# --- the Python API --------------------------------------------------------------------------------------------------


def api_pages() -> dict[str, str]:
    """A page for each public module, by its path on the site, and a list of the packages."""
    source = ROOT / "src"
    modules = [path.relative_to(source).with_suffix("") for path in sorted(source.rglob("*.py"))]
    pages: dict[str, str] = {}
    packages: list[str] = []
    for module in (path for path in modules if path.name != "__main__"):
        package = module.name == "__init__"
        name = ".".join(module.parent.parts if package else module.parts)
        place = module.with_name("index") if package else module
        pages[f"{API}/{place}.md"] = MODULE_PAGE.format(title=name.split(".")[-1], name=name)
        if package:
            packages.append(f"| [`{name}`][{name}] | {summary(source / module.with_suffix('.py'))} |")
    table = ["# Python API", "", "One page for each module.", "", "| package | what it holds |", "|---|---|", *packages]
    return {f"{API}/index.md": "\n".join(table), **pages}


def summary(path: Path) -> str:
    """First paragraph of a module's docstring, on one line."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("|", "\\|")


# --- commands and settings -------------------------------------------------------------------------------------------


def commands() -> str:
    """Help of every command, as Markdown."""
    return "\n".join(command_help(typer.main.get_command(app), None, "cinesynth"))


def command_help(command: Any, parent: Any, name: str) -> list[str]:
    """Usage, help and options of a command, and of the commands below it; hidden ones are left out."""
    context = typer.Context(command, parent=parent, info_name=name.split()[-1])
    level = "#" * min(2 + name.count(" "), 4)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    lines = [f"{level} {name}", "", *help_lines(command.help), "", "```text", usage, "```"]
    records = [record for parameter in command.get_params(context) if (record := parameter.get_help_record(context))]
    if records:
        lines += ["", "| option | meaning |", "|---|---|"]
        lines += [f"| `{cell(option)}` | {cell(meaning).replace('<', '&lt;')} |" for option, meaning in records]
    children = getattr(command, "commands", {})
    for child in (children[key] for key in children if not children[key].hidden):
        lines += ["", *command_help(child, context, f"{name} {child.name}")]
    return lines


def help_lines(text: str | None) -> list[str]:
    """Paragraphs of a help text; what a terminal shows line by line stays line by line."""
    return [line.strip().replace("\b", "") for line in (text or "").splitlines()]


def cell(text: str) -> str:
    """Text of a help record that may stand in a cell of a table."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|") if text else ""


def settings() -> str:
    """A table of all settings and their value in each preset."""
    order = sorted(presets(), key=["smoke", "small", "compact", "base", "paper"].index)
    trees = {preset: dict(leaves(load_config(preset).model_dump(mode="json"))) for preset in order}
    rows = [f"| setting | {' | '.join(f'`{preset}`' for preset in order)} |", "|---" * (1 + len(order)) + "|"]
    for path in dict.fromkeys(path for tree in trees.values() for path in tree):
        values = " | ".join(shown_value(trees[preset].get(path)) for preset in order)
        rows.append(f"| `{path}` | {values} |")
    return "\n".join(rows)


def leaves(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Paths and values of a nested dictionary."""
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        found += leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return found


def shown_value(value: Any) -> str:
    """A value as YAML would have it; nothing where a preset does not have the setting."""
    return "" if value is None else json.dumps(value, ensure_ascii=False).replace('"', "")
