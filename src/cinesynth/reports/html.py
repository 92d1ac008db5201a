"""HTML pages from the Jinja templates of this folder."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined


def render_template(name: str, **values: object) -> str:
    """The template ``name`` of ``templates/`` filled with ``values``.

    Text is escaped; a variable that the template uses and ``values`` lacks raises ``jinja2.UndefinedError``.
    """
    return _environment().get_template(name).render(**values)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("cinesynth.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
