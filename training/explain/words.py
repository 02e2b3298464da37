"""What was found, for a terminal."""

from collections.abc import Sequence

from features.pages import site
from features.pages.content import Block, Bullets, Heading, Page, Prose, Table, Value
from features.prediction_log.columns import SENT_ITEM
from training.explain.answer import Answer, Row
from training.explain.feature_rows import FeatureRow
from training.explain.learnt import LearntVersion
from training.explain.sources import Sources

_MOST = 10
"""Candidates and ancestors to show."""


def in_words(
    answer: Answer,
    candidate: Row,
    learnt: LearntVersion,
    read: Sequence[FeatureRow],
    found: Sequence[Sources],
) -> str:
    """The whole way back."""
    blocks: list[Block] = [
        *_of_answer(answer, candidate),
        *_of_version(learnt),
        *_of_rows(candidate, read),
        *(block for one in found for block in _of_sources(one)),
    ]
    return site.text(Page(f"Answer {candidate['answer_id']}", blocks))


def _of_answer(answer: Answer, candidate: Row) -> list[Block]:
    rows: list[Sequence[Value]] = [
        (str(row[SENT_ITEM]), int(str(row["rank"])), float(str(row["score"])))
        for row in answer.candidates[:_MOST]
    ]
    causes = candidate["degraded_by"]
    degraded = ", ".join(map(str, causes)) if isinstance(causes, list) and causes else "nothing"
    return [
        Prose(
            f"Given {candidate['answered_at']} by {candidate['model_version']} as "
            f"{candidate['role']}, {len(answer.candidates)} candidates; degraded by {degraded}."
        ),
        Table(("item", "rank", "score"), rows),
    ]


def _of_version(learnt: LearntVersion) -> list[Block]:
    head: list[Block] = [Heading(f"Version {learnt.version}")]
    if learnt.manifest is None:
        gone = f"{learnt.artifact}: gone by retention; what it has learnt is not known any more."
        return [*head, Prose(gone)]
    rows: list[Sequence[Value]] = [
        (
            one.name,
            one.recipe,
            _version_in_words(one.table_version, one.is_version_readable),
            one.in_words,
        )
        for one in learnt.line[-_MOST:]
    ]
    left_out = len(learnt.line) - len(rows)
    note = [Prose(f"{left_out} older checkpoints are not shown.")] if left_out else []
    return [
        *head,
        Prose(f"Recipe {learnt.manifest.recipe}, {learnt.artifact}."),
        Table(("checkpoint", "recipe", "version of the examples", "days that it learnt"), rows),
        *note,
    ]


def _version_in_words(version: int | None, is_readable: bool | None) -> str:
    if version is None:
        return "not known"
    return f"{version}" if is_readable else f"{version}, its files are gone"


def _of_rows(candidate: Row, read: Sequence[FeatureRow]) -> list[Block]:
    rows: list[Sequence[Value]] = [
        (
            one.table,
            str(one.key_value),
            one.status,
            str(one.event_timestamp or "none"),
            str(one.created or "none"),
            f"{one.day} {one.content_hash}" if one.day else "none",
            one.commit.in_words if one.commit else "not known",
            one.note,
        )
        for one in read
    ]
    columns = ("table", "key", "status", "true at", "counts from", "partition", "made by", "note")
    title = Heading(f"Rows that were read for item {candidate[SENT_ITEM]}")
    values = [
        f"{one.table}: " + ", ".join(f"{name}={value}" for name, value in one.values.items())
        for one in read
        if one.event_timestamp
    ]
    hidden = "The user's id is hashed: its impressions are not looked up."
    note: list[Block] = [Prose(hidden)] if candidate["hash_key_id"] is not None else []
    listed: list[Block] = [Bullets(values)] if values else []
    return [title, Table(columns, rows), *listed, *note]


def _of_sources(found: Sources) -> list[Block]:
    columns = ("day", "example", "label", "landed in", "state", "rules", "change")
    rows: list[Sequence[Value]] = [
        (
            str(row.day),
            str(row.example_id),
            str(row.label),
            f"{row.file}:{row.line}",
            row.state,
            ", ".join(row.rules),
            row.change,
        )
        for row in found.rows
    ]
    said = (
        f"{', '.join(found.tables)}: {found.num_counted} impressions counted from "
        f"{found.first_day} to {found.last_day}, {found.num_readmitted} of them re-admitted; "
        f"{found.num_held} held in quarantine."
    )
    files = [
        f"{one.name}: sha256 {one.sha256}, {one.num_bytes} bytes"
        + (", written again since" if one.is_newer else "")
        if one.sha256
        else f"{one.name}: {'no file' if one.is_there else 'gone'}"
        for one in found.files
    ]
    gone = [Prose(f"Gone by retention: {', '.join(found.gone)}.")] if found.gone else []
    listed: list[Block] = [Table(columns, rows), Bullets(files)] if rows else []
    title = Heading(f"Impressions of {found.role} {found.key_value}")
    return [title, Prose(said), *gone, *listed]
