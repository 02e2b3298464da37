"""HTML of a page, by the one template; it needs no other file, so it opens from anywhere."""

from pathlib import Path

import jinja2

from features.pages.content import Page

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def html(page: Page) -> str:
    """The page as one file."""
    return _TEMPLATES.get_template("page.html.j2").render(page=page)


def write(page: Page, reports: Path, path: Path) -> str:
    """Write a page to ``path`` below ``reports``; returns the path, for a job's summary."""
    (reports / path).parent.mkdir(parents=True, exist_ok=True)
    (reports / path).write_text(html(page), encoding="utf-8")
    return str(path)
