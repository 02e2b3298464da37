"""A page by a template: HTML in one file that opens from anywhere, or text for a terminal."""

import json
from collections.abc import Mapping
from pathlib import Path, PurePath

import jinja2

from features.pages.content import Page
from features.places import Place, put_whole

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=jinja2.select_autoescape(["html.j2"], default_for_string=False),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def html(page: Page) -> str:
    """The page as one file."""
    return _TEMPLATES.get_template("page.html.j2").render(page=page)


def text(page: Page) -> str:
    """The page for a terminal, without its charts."""
    return _TEMPLATES.get_template("page.txt.j2").render(page=page)


def markdown(template: Path, **values: object) -> str:
    """A document of the repository by a template of its own; nothing is escaped."""
    return _TEMPLATES.from_string(template.read_text(encoding="utf-8")).render(values)


def write(
    page: Page,
    reports: Place,
    path: str | PurePath,
    *,
    figures: Mapping[str, object] | None = None,
) -> str:
    """Write a page to ``path`` below ``reports``; returns the path, for a job's summary.

    ``figures``: what it shows, as JSON by the name of a file in the same folder.
    """
    put_whole(reports / path, html(page).encode())
    for name, values in (figures or {}).items():
        put_whole((reports / path).with_name(name), json.dumps(values, indent=1).encode())
    return str(path)
