"""The page of objectives: ``docs/objectives.md``."""

from pathlib import Path

from features.pages import site
from infra.objectives.grafana import DATA_SOURCE
from infra.objectives.objectives import Limit, Objectives, Share


def page(objectives: Objectives) -> str:
    """The whole page."""
    every = objectives.all()
    return site.markdown(
        Path(__file__).with_name("page.md.j2"),
        objectives=objectives,
        data_source=DATA_SOURCE,
        promises={one.name: _promise(one) for one in every},
        indicators={one.name: _indicator(one) for one in every},
    )


def _promise(objective: Share | Limit) -> str:
    """What is promised, in a few words."""
    if isinstance(objective, Share):
        return f"{objective.target * 100:g} % good over {objective.window}"
    # An expression is shown in full below the table.
    is_expression = "(" in objective.limit
    words = "at most as declared" if is_expression else objective.limit_words
    held = f"; alert after {objective.for_}" if objective.for_ else ""
    return f"{words}{held}{'; **deadline**' if objective.deadline else ''}"


def _indicator(objective: Share | Limit) -> str:
    if isinstance(objective, Share):
        return f"({objective.bad})\n/ ({objective.all})"
    return objective.indicator
