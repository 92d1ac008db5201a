"""Slices, contact sheets, GIFs and plots; HTML and Markdown from the Jinja templates of this folder."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def render_template(name: str, **values: object) -> str:
    """The template ``name`` of ``templates/`` filled with ``values``.

    Text of HTML is escaped; a variable that the template uses and ``values`` lacks raises ``jinja2.UndefinedError``.
    """
    return _environment().get_template(name).render(**values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape  # pictures need none of it

    environment = Environment(
        loader=PackageLoader("cinesynth.reports"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["data_url"] = lambda png: f"data:image/png;base64,{b64encode(png).decode('ascii')}"
    return environment
