"""The page of a drill: what must hold, and each fault with what became of it."""

from collections.abc import Mapping, Sequence

from features.pages.content import Cell, Facts, Heading, Page, Prose, Table, Tone
from infra.local.network import JsonObject

_FACTS = (
    "days", "faults", "named", "healed", "hashes_equal", "model_bits_equal", "partitions",
    "requests", "requests_answered", "requests_lost", "requests_asked_again", "looks_at_the_lake",
    "bad_candidates",
    "seconds",
)  # fmt: skip
MUST_BE_EMPTY = {
    "wrong_looks": "What the reader of the lake found that was no whole day",
    "wrong_answers": "Answers that were none",
    "bad_candidates_that_answered": "Candidates that the gate kept away, and that answered",
    "alerts_of_days_without_a_fault": "Alerts of days without a fault",
    "days_failed_without_a_fault": "Days that failed without a fault",
    "days_that_differed_when_they_were_done": "Days that were not whole when their run was done",
    "differing": "Days of tables that differ from those without faults",
    "lost": "Requests that were lost",
}
"""Lists of a summary in which nothing may be, and what they hold."""


def page_of(summary: JsonObject) -> Page:
    """The page."""
    said = {name: words for name, words in MUST_BE_EMPTY.items() if summary[name]}
    rows = [_row(one) for one in summary["list"]]
    return Page(
        f"{summary['days']} days, {summary['faults']} faults",
        [
            Facts([(name.replace("_", " "), str(summary[name])) for name in _FACTS]),
            *_lists(summary, said, Tone.BAD),
            Heading("Faults"),
            Table(("day", "fault", "named by", "healed"), rows),
            *_lists(
                summary,
                {"alerts_of_monitors": "What the monitors raised on days without a fault"},
                Tone.UNSURE,
            ),
            Prose(f"Not possible on this machine: {summary['faults_impossible_here'] or 'none'}."),
        ],
    )


def _lists(summary: JsonObject, names: Mapping[str, str], tone: Tone) -> list[Heading | Prose]:
    blocks: list[Heading | Prose] = []
    for name, words in names.items():
        if found := summary[name]:
            blocks += [Heading(words), *(Prose(str(one), tone) for one in found)]
    return blocks


def _row(one: JsonObject) -> Sequence[Cell]:
    tones = {True: Tone.GOOD, False: Tone.BAD}
    is_named, is_healed = one["is_named"], one["is_healed"]
    by = one["alert"] if is_named else f"not by {one['alert']}"
    return [
        Cell(one["day"]),
        Cell(one["fault"], note=one["words"]),
        Cell(by, note=one["named_by"], tone=tones[is_named]),
        Cell("yes" if is_healed else "no", tone=tones[is_healed]),
    ]
