"""The page of a day's data quality: what was checked, stopped, reported and quarantined."""

import datetime
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from features.pages import site
from features.pages.content import Bullets, Cell, Heading, Link, Notice, Page, Table, Tone
from features.places import Place
from features.schema import Schema

if TYPE_CHECKING:
    from features.validation.outcome import Outcome


def write_quality_page(
    reports: Place,
    schema: Schema,
    name: str,
    days: Sequence[datetime.date],
    outcomes: "Sequence[Outcome]",
    *,
    trends: Mapping[str, Table] | None = None,
) -> str:
    """The page of some tables' outcomes, as ``name``; returns its path below ``reports``.

    ``trends`` has, by table, the share of rows in quarantine by rule over the days until then.
    """
    path = f"{schema.name}/quality/{days[-1].isoformat()}-{name}.html"
    return site.write(_page(schema, name, days, outcomes, trends or {}), reports, path)


def _page(
    schema: Schema,
    name: str,
    days: Sequence[datetime.date],
    outcomes: "Sequence[Outcome]",
    trends: Mapping[str, Table],
) -> Page:
    span = " to ".join(sorted({days[0].isoformat(), days[-1].isoformat()}))
    is_stopped = any(outcome.critical for outcome in outcomes)
    notices = [
        Notice(f"{outcome.table}: {sentence}", Tone.BAD)
        for outcome in outcomes
        for sentence in outcome.critical
    ]
    candidates = [(o.table, [o.candidate, *o.files]) for o in outcomes if is_stopped]
    shares = [
        block
        for table, shown in trends.items()
        for block in (Heading(f"{table}: share of rows in quarantine by rule and day"), shown)
    ]
    docs = f"../{outcomes[0].data_docs.removeprefix(f'{schema.name}/')}"
    return Page(
        f"{schema.name}: {name} of {span}",
        [
            *notices,
            Table(
                ("table", "rows", "quarantined", "critical", "reported", "rules that rows broke"),
                [_row(outcome) for outcome in outcomes],
            ),
            *_sentences("Rules that rows broke", [(o.table, _broken(o)) for o in outcomes]),
            *_sentences("Reported, not acted on", [(o.table, o.reported) for o in outcomes]),
            *_sentences("Not published: the candidates and their files", candidates),
            *shares,
            Heading("More"),
            Link("Data Docs: every expectation and what was seen", docs),
        ],
        verdict="stopped" if is_stopped else "passed",
        tone=Tone.BAD if is_stopped else Tone.GOOD,
    )


def _row(outcome: "Outcome") -> tuple[str | int | Cell, ...]:
    tone = Tone.UNSURE if outcome.quarantined else Tone.PLAIN
    share = f"{outcome.quarantined / outcome.rows:.2%}" if outcome.quarantined else ""
    quarantined = Cell(f"{outcome.quarantined:,}", note=share, tone=tone, is_number=True)
    counts = (len(outcome.critical), len(outcome.reported), len(outcome.broken_rules))
    return (outcome.table, outcome.rows, quarantined, *counts)


def _broken(outcome: "Outcome") -> list[str]:
    return [f"{rule}: {rows:,} rows" for rule, rows in outcome.broken_rules.items()]


def _sentences(title: str, found: Sequence[tuple[str, Sequence[str]]]) -> "list[Heading | Bullets]":
    lines = [f"{table}: {sentence}" for table, sentences in found for sentence in sentences]
    return [Heading(title), Bullets(lines)] if lines else []
