"""Charts by matplotlib, as SVG in a page's text: letters stay letters, colours follow the page's.

A figure is drawn in the colours named here. In the SVG each becomes the style sheet's variable of
that name, so that one drawing serves a light and a dark page.
"""

import io
import re
from collections.abc import Callable, Sequence

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from features.pages.content import Chart

TEXT, LABEL, QUIET, LINE, BACKGROUND = "#222222", "#444444", "#8a8a8a", "#bbbbbb", "#ffffff"
ACCENT = "#c25e00"
SERIES = (
    *("#1f5fa8", "#7a4fa3", "#2f7d6b", "#a0522d"),
    *("#5b6770", "#b0892f", "#94436a", "#4a6b2a"),
)
_VARIABLES = {
    **{TEXT: "text", LABEL: "label", QUIET: "quiet", LINE: "line", BACKGROUND: "background"},
    **{ACCENT: "accent"},
    **{colour: f"series-{number}" for number, colour in enumerate(SERIES, start=1)},
}
_STYLE = {
    # Letters stay letters: the page's own font, and text that can be found and copied.
    "svg.fonttype": "none",
    # Equal figures give equal files.
    "svg.hashsalt": "page",
    "font.family": "sans-serif",
    "font.sans-serif": ["system-ui", "DejaVu Sans"],
    "font.size": 9,
    "text.color": TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": LABEL,
    "xtick.color": LABEL,
    "ytick.color": LABEL,
}
MARK = "mark"
"""Id in the SVG of what is measured, by which a test finds that a chart is not empty."""
_MANY_POINTS = 40
"""From so many points on, a line without dots shows them better."""


def svg(draw: Callable[[], Figure], *, label: str) -> Markup:
    """A drawing as SVG.

    Args:
        draw: Makes the figure, in the colours of this module alone.
        label: What a screen reader says that it is.

    Raises:
        ValueError: The figure has another colour, which would not follow the page.
    """
    text = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure = draw()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    drawn = text.getvalue()
    drawn = re.sub(r"(?<=: )#[0-9a-f]{6}\b", _variable, drawn[drawn.index("<svg") :])
    role = Markup(' role="img" aria-label="{}"').format(label)
    # The page sets the size; the view box keeps the proportions.
    drawn = re.sub(r' width="[^"]*" height="[^"]*"', lambda _: role, drawn, count=1)
    return Markup(drawn)  # drawn here, its letters escaped by matplotlib


def chart(
    title: str, draw: Callable[[Axes], object], *, size: tuple[float, float] = (4.6, 3)
) -> Chart:
    """A chart of one pair of axes, which ``draw`` fills in.

    Args:
        title: Of the chart.
        draw: As for ``svg``, on the axes.
        size: In inches, at the size of the page's letters.
    """

    def figure() -> Figure:
        drawn = Figure(figsize=size, layout="constrained")
        draw(drawn.subplots())
        return drawn

    return Chart(svg(figure, label=title), title)


def _variable(found: re.Match[str]) -> str:
    name = _VARIABLES.get(found[0])
    if name is None:
        raise ValueError(f"colour {found[0]} of a figure; must be one of {sorted(_VARIABLES)}")
    return f"var(--{name})"


def plot(
    axes: Axes, x: Sequence[float], y: Sequence[float], *, colour: str, label: str = ""
) -> None:
    """A line through points; few points get dots too, so that a single one is visible."""
    dots = "o" if len(x) < _MANY_POINTS else ""
    (line,) = axes.plot(x, y, color=colour, marker=dots, markersize=4, linewidth=1.6, label=label)
    line.set_gid(MARK)
