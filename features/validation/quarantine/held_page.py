"""What is in quarantine as a page for a terminal."""

import json
from collections.abc import Mapping, Sequence

from features.pages.content import Block, Bullets, Heading, Page, Table
from features.validation.quarantine.held import Held, Readmitted


def held_page(
    title: str,
    held: Sequence[Held],
    readmitted: Sequence[Readmitted],
    rows: Sequence[Mapping[str, object]],
) -> Page:
    """Counts by day, rule and reason; what was re-admitted; and some rows, each as JSON."""
    columns = ("day", "rule", "reason", "rows", "share of the day")
    counts = [(str(one.day), one.rule, one.reason, one.rows, f"{one.share:.2%}") for one in held]
    blocks: list[Block] = [Table(columns, counts)]
    if readmitted:
        again = [(str(one.day), one.rows, one.source, one.moment.isoformat()) for one in readmitted]
        blocks += [Heading("Re-admitted"), Table(("day", "rows", "by", "counts from"), again)]
    if rows:
        blocks += [Heading(f"{len(rows)} of the rows"), Bullets([json.dumps(row) for row in rows])]
    return Page(title, blocks)
