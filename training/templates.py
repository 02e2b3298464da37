"""What all pages are made of: templates, and figures as SVG in the text."""

import io
from pathlib import Path

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

PAGES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "pages"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
)


def markup(figure: Figure) -> Markup:
    """A figure as SVG that a page holds in its text."""
    text = io.StringIO()
    figure.savefig(text, format="svg")
    svg = text.getvalue()
    return Markup(svg[svg.index("<svg") :])  # drawn here, not given
