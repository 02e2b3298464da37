"""The family of a data set's rankers as a drawing and a table, on a page or as a part of one."""

from collections.abc import Sequence
from pathlib import Path, PurePath

import jinja2
from markupsafe import Markup

from features.pages import site
from features.pages.content import Block, Cell, Chart, Charts, Page, Prose, Table, Tone, decimal
from features.places import Place
from training.registry.aliases import CHAMPION
from training.registry.family_tree import Member, lanes

_PITCH, _LANE = 70, 72
"""Pixels from a generation to the next, and from a lane to the next."""
_TREE = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
    Path(__file__).with_name("family.svg.j2").read_text(encoding="utf-8")
)
_COLUMNS = (
    *("checkpoint", "from", "recipe", "grown", "dense parameters", "FLOPs", "log loss", "gate"),
)


def write_family_page(reports: Place, dataset: str, members: Sequence[Member]) -> str:
    """The family's drawing and table; returns the page's path below ``reports``."""
    page = Page(f"{dataset}: the family of its rankers", family_blocks(members))
    return site.write(page, reports, PurePath(dataset, "family", "index.html"))


def family_blocks(members: Sequence[Member]) -> list[Block]:
    """What every page shows of the family; the newest first in the table."""
    if not members:
        return [Prose("There are no rankers yet: none has been trained.", Tone.QUIET)]
    return [
        Prose(
            "Each dot is a checkpoint, to the right of the one that it was trained from, or grew "
            "from (thick). The green one serves; a hollow one is the un-grown control of a trial. "
            "Loss is that on the holdout of its own run; FLOPs are those of the dense part for one "
            "training example.",
            Tone.QUIET,
        ),
        Charts([Chart(_tree(members), is_wide=True)]),
        Table(_COLUMNS, [_row(member) for member in reversed(members)]),
    ]


def _row(member: Member) -> list[Cell | str | int | None]:
    gone = f"{member.generations_gone} between them are gone" if member.generations_gone else ""
    changes = Cell(f"{len(member.grown)} changes", lines=member.grown) if member.grown else None
    tone = Tone.GOOD if CHAMPION in member.aliases else Tone.PLAIN
    return [
        Cell(member.name, note=", ".join(member.aliases), tone=tone),
        Cell(member.parent or "–", note=gone),
        Cell(member.recipe, note=member.role),
        changes,
        member.dense_parameters,
        None
        if member.dense_training_flops is None
        else Cell(f"{member.dense_training_flops:.3g}", is_number=True),
        decimal(member.log_loss),
        member.decision or None,
    ]


def _tree(members: Sequence[Member]) -> Markup:
    """The family as SVG: generations to the right, a lane for each branch."""
    at = {
        name: (50 + _PITCH * column, 30 + _LANE * lane)
        for name, (column, lane) in lanes(members).items()
    }
    lane_of = {name: y for name, (_, y) in at.items()}
    edges = [
        dict(zip(("x1", "y1", "x2", "y2"), (*at[member.parent], *at[member.name]), strict=True))
        | {"grown": bool(member.grown), "gone": member.generations_gone}
        for member in members
        if member.parent
    ]
    nodes = [
        {
            "member": member,
            "x": at[member.name][0],
            "y": at[member.name][1],
            "is_first": lane_of[member.name] != lane_of.get(member.parent or ""),
        }
        for member in members
    ]
    drawing: dict[str, object] = {
        "width": max(x for x, _ in at.values()) + 130,
        "height": max(y for _, y in at.values()) + 45,
        "nodes": nodes,
        "edges": edges,
    }
    return Markup(_TREE.render(d=drawing))  # escaped by the template
